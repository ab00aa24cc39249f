"""What a training holds beside its network, and how it is kept on disk so that it can go on after being killed."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foretaste.averaging import WeightAverage
from foretaste.errors import BundleError, ConfigError
from foretaste.run import Run
from foretaste.storage import checksum, read_json, sealed, staged_file, staged_folder, write_sealed

__all__ = ["TrainLog", "TrainingState"]

INDEX = "checkpoint.json"
# A run may go on with these changed, as after a loss that diverged or memory that ended; what was learned still fits.
MAY_CHANGE = {
    *("epochs", "lr", "clip", "patience", "checkpoint_every", "checkpoint_activations", "batch_tokens", "batch_size"),
}


@dataclass
class TrainLog:
    """What happened, one row per epoch: epoch, loss (and each named loss), seconds, events_per_second, validation."""

    curve: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # counted from 1; the last epoch where there was no validation
    best_score: float | None = None
    stopped_early: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class TrainingState:
    """All that a checkpoint holds: weights, their average, best weights, optimiser, scale of fp16, counters, curve.

    Args:
        identity: What a checkpoint must agree in to be resumed, but for what may change; it can be written as JSON.
        average: The decay of the averaged weights; None: there is no average.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        identity: Mapping[str, Any],
        average: float | None = None,
    ) -> None:
        self.net, self.optimizer, self.scaler, self.identity = net, optimizer, scaler, identity
        self.log = TrainLog()
        self.epochs_done = self.steps_done = self.without_gain = 0
        self.best: dict[str, Tensor] | None = None
        self.average = None if average is None else WeightAverage(net, average)

    def step_done(self) -> None:
        """Count an optimiser step, and take its weights into the average."""
        if self.average is not None:
            self.average.update(self.steps_done)
        self.steps_done += 1

    def weights_to_judge(self) -> AbstractContextManager[None]:
        """Within the block the network holds the weights that it would answer with: the average, where there is one."""
        return nullcontext() if self.average is None else self.average.in_place()

    def remember_best(self) -> None:
        self.best = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}

    def restore_best(self) -> None:
        """Leave in the network the best weights, or, where nothing was judged, the last ones or their average."""
        if self.best is not None:
            self.net.load_state_dict(self.best)
        elif self.average is not None:
            self.average.finish()

    def save(self, folder: Path) -> None:
        """Write a checkpoint. Killed at any moment, this leaves the old one or the new one, whole."""
        if (folder / INDEX).exists():
            self._write(folder)
            return
        with staged_folder(folder, marker=INDEX) as aside:
            self._write(aside)

    def _write(self, folder: Path) -> None:
        """The new weights beside the old; from the moment when the index names them, they are the checkpoint."""
        weights = folder / f"epoch-{self.epochs_done}.safetensors"
        with staged_file(weights) as aside:
            save_file({name: tensor.contiguous().cpu() for name, tensor in self._tensors().items()}, aside)
        counters = {
            "identity": dict(self.identity),
            "epochs_done": self.epochs_done,
            "steps_done": self.steps_done,
            "without_gain": self.without_gain,
            "log": self.log.to_json(),
            "scaler": self.scaler.state_dict(),  # empty but under fp16
            "file": weights.name,
            "weights": checksum(weights),
        }
        write_sealed(folder / INDEX, counters)
        for other in folder.iterdir():  # of epochs before, and what was cut off by a kill
            if other != weights and other.suffix in (".safetensors", ".part"):
                other.unlink()

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (self.best or {}).items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.averages.items()}
        for number, parts in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{part}": torch.as_tensor(value) for part, value in parts.items()}
        return tensors

    def load(self, folder: Path, run: Run) -> None:
        """Go on from a checkpoint; where there is none, from the beginning."""
        if not (folder / INDEX).exists():
            return
        counters = read_json(folder / INDEX)
        if not isinstance(counters, dict) or not sealed(folder / INDEX):
            raise BundleError(f"{folder / INDEX} is torn or was edited. Run without --resume.")
        changed = self._changed(counters["identity"], folder)
        weights = folder / counters["file"]
        if not weights.exists() or checksum(weights) != counters["weights"]:
            raise BundleError(f"{weights} is torn or was edited. Run without --resume.")
        tensors = load_file(weights)
        self.net.load_state_dict(_under(tensors, "net"))
        self.best = _under(tensors, "best") or None
        if self.average is not None:
            self.average.load(_under(tensors, "average"))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(tensors, "optimizer").items():
            number, part = name.split(".", 1)
            moments.setdefault(int(number), {})[part] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.epochs_done, self.steps_done = counters["epochs_done"], counters["steps_done"]
        if counters["scaler"]:
            self.scaler.load_state_dict(counters["scaler"])
        self.without_gain, self.log = counters["without_gain"], TrainLog(**counters["log"])
        run.log(f"resumed after epoch {self.epochs_done}{changed}", {"epoch": self.epochs_done})

    def _changed(self, kept: Mapping[str, Any], folder: Path) -> str:
        """What is otherwise now than in the checkpoint, in words.

        Raises:
            ConfigError: What must not change has.
        """
        before, now = _flat(kept), _flat(json.loads(json.dumps(self.identity)))
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        differences = [f"{name} {now.get(name)} (was {before.get(name)})" for name in changed]
        if any(name.rpartition(".")[2] not in MAY_CHANGE for name in changed):
            raise ConfigError(
                f"The checkpoint in {folder} is of other settings or other data, so it cannot be resumed: "
                f"{', '.join(differences)}. Run without --resume, or delete the folder."
            )
        return f", with {', '.join(differences)}" if changed else ""


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves, by their path with dots."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }
