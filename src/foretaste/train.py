"""The one training loop: precision, accumulation, clipping, schedule, early stopping, checkpoints, progress."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foretaste.errors import BundleError, ConfigError, TrainingDiverged
from foretaste.run import Precision, Run
from foretaste.storage import checksum, read_json, sealed, staged_folder, write_sealed

__all__ = ["TrainLog", "TrainPlan", "device_of", "train"]


class Batch(Protocol):
    """What ``train`` must be able to do with a batch."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Self: ...


AnyBatch = TypeVar("AnyBatch", bound=Batch)


class TrainPlan(BaseModel):
    """How a network is optimised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 100
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    floor: float = Field(default=0.0, ge=0, le=1)
    """The cosine ends at this share of ``lr``."""
    clip: PositiveFloat | None = None
    """The largest norm that the gradient of all parameters together may have."""
    accumulate: PositiveInt = 1
    """Batches per optimiser step."""
    patience: PositiveInt | None = 10
    """Stop when validation has not improved for so many validations. None: never."""
    validate_every: PositiveInt = 1
    """Epochs between validations."""


@dataclass
class TrainLog:
    """What happened, one row per epoch: epoch, loss (and each named loss), seconds, events_per_second, validation."""

    curve: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # counted from 1; the last epoch where there was no validation
    best_score: float | None = None
    stopped_early: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def train(
    net: nn.Module,
    batches: Callable[[int], Sequence[AnyBatch]],
    loss: Callable[[AnyBatch], Mapping[str, Tensor]],
    plan: TrainPlan,
    run: Run,
    *,
    validate: Callable[[], float] | None = None,
    name: str = "net",
    identity: str = "",
) -> TrainLog:
    """Optimise ``net`` in place; on return it is in eval mode and holds the best weights.

    The mean of the losses over the batches of a step is what is minimised; several named losses add up. Random draws
    (dropout) are seeded anew for each epoch, so a run resumed from a checkpoint ends with the weights of one
    that was never interrupted.

    Args:
        batches: The batches of an epoch, counted from 0.
        loss: From a batch, already on the device, to named scalars.
        validate: A score, higher is better, asked in eval mode. Without it the last weights are kept.
        name: What the progress is shown as.
        identity: What a checkpoint must agree in to be resumed: settings and data.

    Raises:
        TrainingDiverged: A loss is infinite or not a number.
        ConfigError: The checkpoint to resume from is of another identity, or the device cannot do the precision.
    """
    device, precision = device_of(run), precision_of(run)
    # Placed here, because Accelerate keeps to the first device of a process, and a later fit may name another.
    accelerator = Accelerator(device_placement=False)
    net.to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay)
    wrapped, optimizer_ = accelerator.prepare(net, optimizer)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    state = _State(net, optimizer, scaler, f"{identity} {plan.model_dump_json()}")
    if run.resume and run.checkpoints is not None:
        state.load(run.checkpoints, run)
    for epoch in range(state.epochs_done, plan.epochs):
        if state.log.stopped_early:
            break
        torch.manual_seed(run.seed_of(name, "epoch", epoch))
        wrapped.train()
        row = _epoch(
            _Step(net, accelerator, optimizer_, scaler, plan, _autocast(device, precision)),
            batches(epoch), loss, epoch, device, run, name, state,
        )  # fmt: skip
        net.eval()
        _judge(state, row, epoch, plan, validate)
        run.log(_sentence(name, row, plan.epochs), row)
        if run.checkpoints is not None:
            state.save(run.checkpoints)
    state.restore_best()
    net.eval()
    return state.log


def device_of(run: Run) -> torch.device:
    """The device that a run names; "auto" is the first GPU where there is one.

    Raises:
        ConfigError: There is no such device here.
    """
    if run.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(run.device)
    except RuntimeError as error:
        raise ConfigError(f"There is no device {run.device!r}; use auto, cpu, cuda or cuda:0.") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(f"The device {run.device!r} is not to be had here; use auto or cpu.")
    return device


def precision_of(run: Run) -> Precision:
    """The precision of a run, with "auto" decided: bf16 where the device computes in it."""
    device = device_of(run)
    if run.precision == "fp16" and device.type != "cuda":
        raise ConfigError("fp16 needs a GPU; on a CPU use bf16 or fp32.")
    if run.precision != "auto":
        return run.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if _cpu_computes_bf16() else "fp32"


@dataclass
class _Step:
    """What one optimiser step needs."""

    net: nn.Module
    accelerator: Accelerator
    optimizer: Any
    scaler: torch.amp.GradScaler
    plan: TrainPlan
    autocast: AbstractContextManager[Any]

    def __call__(self, group: Sequence[Any], loss: Callable[[Any], Mapping[str, Tensor]], rate: float) -> list[Tensor]:
        """One step over a group of batches; each loss detached, summed over the group, with their names in order."""
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        self.optimizer.zero_grad()
        sums: dict[str, Tensor] = {}
        for batch in group:
            with self.autocast:
                losses = loss(batch)
            total = torch.stack([each.float() for each in losses.values()]).sum()
            self.accelerator.backward(self.scaler.scale(total / len(group)))
            for called, each in losses.items():
                sums[called] = sums.get(called, torch.zeros((), device=each.device)) + each.detach().float()
        if self.plan.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.net.parameters(), self.plan.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.names = list(sums)
        return list(sums.values())


def _epoch(
    step: _Step,
    batches: Sequence[Any],
    loss: Callable[[Any], Mapping[str, Tensor]],
    epoch: int,
    device: torch.device,
    run: Run,
    name: str,
    state: "_State",
) -> dict[str, float]:
    """Train one epoch; its row of the curve."""
    began, events, sums, shown = time.perf_counter(), 0, torch.zeros(1, device=device), 0.0
    steps = math.ceil(len(batches) / step.plan.accumulate)
    done = 0
    for group in _groups(batches, step.plan.accumulate):
        rate = step.plan.lr * _schedule(step.plan, state.steps_done, steps * step.plan.epochs)
        losses = torch.stack(step([batch.to(device) for batch in group], loss, rate))
        sums = sums + losses if done else losses
        done += len(group)
        state.steps_done += 1
        events += sum(len(batch) for batch in group)
        if run.progress and time.perf_counter() - shown > 0.3:
            shown = time.perf_counter()
            speed = events / (shown - began)
            run.progress(name, epoch * len(batches) + done, step.plan.epochs * len(batches), f"{speed:,.0f} events/s")
    means = (sums / max(1, done)).tolist()
    seconds = time.perf_counter() - began
    if not all(map(math.isfinite, means)):
        raise TrainingDiverged(
            f"{name}: the loss became {sum(means)} in epoch {epoch + 1}. Lower lr (now {step.plan.lr:g}), "
            "set clip, or use --precision fp32."
        )
    row = {"epoch": float(epoch + 1), "loss": sum(means)}
    if len(means) > 1:
        row |= {f"loss {called}": value for called, value in zip(step.names, means, strict=True)}
    return row | {"seconds": seconds, "events_per_second": events / max(seconds, 1e-9)}


def _judge(
    state: "_State", row: dict[str, float], epoch: int, plan: TrainPlan, validate: Callable[[], float] | None
) -> None:
    """Validate where it is due, remember the best weights, and decide whether to stop."""
    log = state.log
    log.curve.append(row)
    state.epochs_done = epoch + 1
    if validate is None:
        log.best_epoch = epoch + 1
        return
    if (epoch + 1) % plan.validate_every and epoch + 1 < plan.epochs:
        return
    with torch.no_grad():
        row["validation"] = score = float(validate())
    if math.isnan(score):
        raise TrainingDiverged(f"The validation score of epoch {epoch + 1} is not a number. Lower lr, now {plan.lr:g}.")
    if log.best_score is None or score > log.best_score:
        log.best_epoch, log.best_score = epoch + 1, score
        state.remember_best()
        state.without_gain = 0
    else:
        state.without_gain += 1
    out_of_patience = plan.patience is not None and state.without_gain >= plan.patience
    log.stopped_early = out_of_patience and epoch + 1 < plan.epochs


class _State:
    """All that a checkpoint holds: weights, best weights, optimiser, scale of fp16, counters, curve."""

    def __init__(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, identity: str
    ) -> None:
        self.net, self.optimizer, self.scaler, self.identity = net, optimizer, scaler, identity
        self.log = TrainLog()
        self.epochs_done = self.steps_done = self.without_gain = 0
        self.best: dict[str, Tensor] | None = None

    def remember_best(self) -> None:
        self.best = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}

    def restore_best(self) -> None:
        if self.best is not None:
            self.net.load_state_dict(self.best)

    def save(self, folder: Path) -> None:
        moments = self.optimizer.state_dict()["state"]
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (self.best or {}).items()}
        for number, parts in moments.items():
            tensors |= {f"optimizer.{number}.{part}": torch.as_tensor(value) for part, value in parts.items()}
        with staged_folder(folder, marker="checkpoint.json") as aside:
            save_file(
                {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, aside / "checkpoint.safetensors"
            )
            counters = {
                "identity": self.identity,
                "epochs_done": self.epochs_done,
                "steps_done": self.steps_done,
                "without_gain": self.without_gain,
                "log": self.log.to_json(),
                "scaler": self.scaler.state_dict(),  # empty but under fp16
                "weights": checksum(aside / "checkpoint.safetensors"),
            }
            write_sealed(aside / "checkpoint.json", counters)

    def load(self, folder: Path, run: Run) -> None:
        """Go on from a checkpoint; where there is none, from the beginning."""
        if not (folder / "checkpoint.json").exists():
            return
        counters, weights = read_json(folder / "checkpoint.json"), folder / "checkpoint.safetensors"
        if not isinstance(counters, dict) or not sealed(folder / "checkpoint.json"):
            raise BundleError(f"{folder / 'checkpoint.json'} is torn or was edited. Run without --resume.")
        if counters["identity"] != self.identity:
            raise ConfigError(
                f"The checkpoint in {folder} is of other settings or other data, so it cannot be resumed. "
                "Run without --resume, or delete the folder."
            )
        if not weights.exists() or checksum(weights) != counters["weights"]:
            raise BundleError(f"{weights} is torn or was edited. Run without --resume.")
        tensors = load_file(weights)
        self.net.load_state_dict(_under(tensors, "net"))
        self.best = _under(tensors, "best") or None
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
        run.log(f"resumed after epoch {self.epochs_done}", {"epoch": self.epochs_done})


def identity_of(settings: BaseModel, fingerprint: str, run: Run) -> str:
    """What must be equal for a checkpoint to be resumed."""
    return json.dumps([type(settings).__name__, settings.model_dump(mode="json"), fingerprint, run.seed])


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }


def _groups(batches: Sequence[AnyBatch], size: int) -> Iterator[list[AnyBatch]]:
    group: list[AnyBatch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _schedule(plan: TrainPlan, step: int, steps: int) -> float:
    """The share of ``lr`` at a step, counted from 0."""
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    if plan.schedule == "constant":
        return 1.0
    progress = (step - plan.warmup_steps) / max(1, steps - plan.warmup_steps)
    return plan.floor + (1 - plan.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def _cpu_computes_bf16() -> bool:
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


def _sentence(name: str, row: Mapping[str, float], epochs: int) -> str:
    validation = f", validation {row['validation']:.4f}" if "validation" in row else ""
    return (
        f"{name} epoch {row['epoch']:.0f}/{epochs}: loss {row['loss']:.4f}{validation}, "
        f"{row['seconds']:.1f} s, {row['events_per_second']:,.0f} events/s"
    )
