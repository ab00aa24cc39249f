"""The one training loop: precision, accumulation, clipping, schedule, early stopping, checkpoints, progress."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from accelerate import Accelerator
from pydantic import BaseModel
from torch import Tensor, nn

from foretaste.checkpoints import TrainingState, TrainLog
from foretaste.computing import blocks_computed, check_compiler
from foretaste.errors import ConfigError
from foretaste.memory import freed_memory_kept
from foretaste.mishaps import Mishaps, weights_explained
from foretaste.optimizers import centralize, optimizer_of, set_rate
from foretaste.run import Precision, Run
from foretaste.train_plan import TrainPlan

__all__ = ["TrainLog", "TrainPlan", "device_of", "train"]


class Batch(Protocol):
    """What ``train`` must be able to do with a batch."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Self: ...


AnyBatch = TypeVar("AnyBatch", bound=Batch)


def train(
    net: nn.Module,
    batches: Callable[[int], Sequence[AnyBatch]],
    loss: Callable[[AnyBatch], Mapping[str, Tensor]],
    plan: TrainPlan,
    run: Run,
    *,
    validate: Callable[[], float] | None = None,
    name: str = "net",
    identity: Mapping[str, Any] | None = None,
    lighter: str = "the size of a batch",
) -> TrainLog:
    """Optimise ``net`` in place; on return it is in eval mode and holds the best weights.

    With ``plan.average`` it is the average of the weights that is judged and kept.

    The mean of the losses over the batches of a step is what is minimised; several named losses add up. Random draws
    (dropout) are seeded anew for each epoch, so a run resumed from a checkpoint ends with the weights of one
    that was never interrupted.

    Args:
        batches: The batches of an epoch, counted from 0.
        loss: From a batch, already on the device, to named scalars.
        validate: A score, higher is better, asked in eval mode. Without it the last weights are kept.
        name: What the progress is shown as.
        identity: What a checkpoint must agree in to be resumed, beside the plan: settings and data.
        lighter: The settings to lower where memory ends.

    Raises:
        TrainingDiverged: A loss or a weight is infinite or not a number. The checkpoint of the epoch before is kept.
        TooLarge: Memory ended, on the CPU or the GPU.
        ConfigError: The checkpoint to resume from is of another identity, the device cannot do the precision, there is
            no compiler, or the network has no blocks to compute again.
    """
    device, precision = device_of(run), precision_of(run)
    if run.compile:
        check_compiler(device)
    # Placed here, because Accelerate keeps to the first device of a process, and a later fit may name another.
    accelerator = Accelerator(device_placement=False)
    with weights_explained(name):
        net.to(device)
    optimizer = optimizer_of(plan, net.parameters())
    wrapped, optimizer_ = accelerator.prepare(net, optimizer)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    state = TrainingState(
        net, optimizer, scaler, {**(identity or {}), "plan": plan.model_dump(mode="json")}, plan.average
    )
    if run.resume and run.checkpoints is not None:
        state.load(run.checkpoints, run)
    mishaps = Mishaps(name, plan, run, device, precision, state, lighter)
    step = _Step(net, accelerator, optimizer_, scaler, plan, _autocast(device, precision))
    in_blocks = blocks_computed(net, name, again=plan.checkpoint_activations, compiled=run.compile)
    with mishaps.memory_explained(), freed_memory_kept(), in_blocks:
        for epoch in range(state.epochs_done, plan.epochs):
            if state.log.stopped_early:
                break
            torch.manual_seed(run.seed_of(name, "epoch", epoch))
            wrapped.train()
            row = _epoch(step, batches(epoch), loss, epoch, mishaps)
            net.eval()
            mishaps.check_weights(net)
            _judge(row, epoch, validate, mishaps)
            state.epochs_done = epoch + 1
            run.log(_sentence(name, row, plan.epochs), row)
            last = state.log.stopped_early or epoch + 1 == plan.epochs
            if run.checkpoints is not None and (last or not (epoch + 1) % plan.checkpoint_every):
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
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad()
        sums: dict[str, Tensor] = {}
        for batch in group:
            with self.autocast:
                losses = loss(batch)
            total = torch.stack([each.float() for each in losses.values()]).sum()
            self.accelerator.backward(self.scaler.scale(total / len(group)))
            for called, each in losses.items():
                sums[called] = sums.get(called, torch.zeros((), device=each.device)) + each.detach().float()
        if self.plan.centralize:
            centralize(self.net)
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
    mishaps: Mishaps,
) -> dict[str, float]:
    """Train one epoch; its row of the curve."""
    plan, run, state, device = step.plan, mishaps.run, mishaps.state, mishaps.device
    began, events, sums, shown = time.perf_counter(), 0, torch.zeros(1, device=device), 0.0
    steps = math.ceil(len(batches) / plan.accumulate)
    done = 0
    for number, group in enumerate(_groups(batches, plan.accumulate), 1):
        rate = plan.rate(state.steps_done, steps * plan.epochs)
        losses = torch.stack(step([batch.to(device) for batch in group], loss, rate))
        sums = sums + losses if done else losses
        mishaps.check_losses(sums, number, steps)
        done += len(group)
        state.step_done()
        events += sum(len(batch) for batch in group)
        if run.progress and time.perf_counter() - shown > 0.3:
            shown = time.perf_counter()
            note = f"{events / (shown - began):,.0f} events/s"
            run.progress(mishaps.name, epoch * len(batches) + done, plan.epochs * len(batches), note)
    means = (sums / max(1, done)).tolist()
    seconds = time.perf_counter() - began
    row = {"epoch": float(epoch + 1), "loss": sum(means)}
    if len(means) > 1:
        row |= {f"loss {called}": value for called, value in zip(step.names, means, strict=True)}
    return row | {"seconds": seconds, "events_per_second": events / max(seconds, 1e-9)}


def _judge(row: dict[str, float], epoch: int, validate: Callable[[], float] | None, mishaps: Mishaps) -> None:
    """Validate where it is due, remember the best weights, and decide whether to stop."""
    plan, state, log = mishaps.plan, mishaps.state, mishaps.state.log
    log.curve.append(row)
    if validate is None:
        log.best_epoch = epoch + 1
        return
    if (epoch + 1) % plan.validate_every and epoch + 1 < plan.epochs:
        return
    with torch.no_grad(), state.weights_to_judge():
        row["validation"] = score = float(validate())
        mishaps.check_score(score)
        if log.best_score is None or score > log.best_score:
            log.best_epoch, log.best_score = epoch + 1, score
            state.remember_best()
            state.without_gain = 0
        else:
            state.without_gain += 1
    out_of_patience = plan.patience is not None and state.without_gain >= plan.patience
    log.stopped_early = out_of_patience and epoch + 1 < plan.epochs


def identity_of(settings: BaseModel, fingerprint: str, run: Run) -> dict[str, Any]:
    """What must be equal for a checkpoint to be resumed, beside the plan."""
    told = settings.model_dump(mode="json", exclude={"plan"})
    return {"model": type(settings).__name__, "settings": told, "data": fingerprint, "seed": run.seed}


def _groups(batches: Sequence[AnyBatch], size: int) -> Iterator[list[AnyBatch]]:
    group: list[AnyBatch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


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
