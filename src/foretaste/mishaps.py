"""What can go wrong in a training, and what is said of it: losses that are no numbers, and memory that ends."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foretaste.checkpoints import TrainingState
from foretaste.errors import TooLarge, TrainingDiverged
from foretaste.memory import is_out_of_memory
from foretaste.run import Precision, Run
from foretaste.train_plan import TrainPlan

__all__ = ["Mishaps", "memory_explained", "weights_explained"]

CHECKED_EVERY = 50  # steps: on a GPU each look waits for all that it has been given to do


@contextmanager
def memory_explained(what: Callable[[], str], advice: Callable[[], str]) -> Iterator[None]:
    """Raises TooLarge where memory ends within the block; its text is made then."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        first = str(error).strip().split("\n")[0].rstrip(".") or "no memory"
        raise TooLarge(f"{what()} ({first}). {advice()}") from error


def weights_explained(name: str) -> AbstractContextManager[None]:
    """Raises TooLarge where memory ends while a network is built or placed."""
    return memory_explained(lambda: f"{name}: out of memory with the weights alone", lambda: "Lower dim.")


@dataclass(frozen=True)
class Mishaps:
    """Turns what goes wrong in a training into one error that says where, and which settings to change."""

    name: str
    plan: TrainPlan
    run: Run
    device: torch.device
    precision: Precision
    state: TrainingState
    lighter: str  # the settings that a step takes less memory with

    def check_losses(self, sums: Tensor, step: int, steps: int) -> None:
        """Look from time to time, and at the end of an epoch, whether its losses (of steps counted from 1) are finite.

        Raises:
            TrainingDiverged: They are not, so the epoch need not be waited for.
        """
        if step % CHECKED_EVERY and step < steps:
            return
        if not bool(sums.isfinite().all()):
            self._diverged(f"the loss became {float(sums.sum())}", f", by step {step} of {steps}")

    def check_weights(self, net: nn.Module) -> None:
        """The last step of an epoch has no loss after it, and its weights are about to be kept.

        Raises:
            TrainingDiverged: A weight is infinite or not a number.
        """
        for called, weights in net.named_parameters():
            if not bool(weights.isfinite().all()):
                self._diverged(f"{called} became infinite or not a number", " in its last steps")

    def check_score(self, score: float) -> None:
        """Raises TrainingDiverged where the score of a validation is not a number."""
        if score != score:
            self._diverged("the validation score is not a number", "")

    def memory_explained(self) -> AbstractContextManager[None]:
        """Raises TooLarge where memory ends within the block."""
        advice = f"Lower {self.lighter}"
        if self.device.type == "cuda" and self.precision == "fp32":
            advice += ", or use --precision bf16"
        return memory_explained(
            lambda: f"{self.name}: out of memory on {self.device} in epoch {self._epoch}",
            lambda: f"{advice}.{self._kept()}",
        )

    @property
    def _epoch(self) -> int:
        return self.state.epochs_done + 1

    def _diverged(self, what: str, where: str) -> None:
        plan = self.plan
        clip = "set clip" if plan.clip is None else f"lower clip (now {plan.clip:g})"
        precision = "" if self.precision == "fp32" else f" or use --precision fp32 (now {self.precision})"
        raise TrainingDiverged(
            f"{self.name}: {what} in epoch {self._epoch}{where}. Lower lr (now {plan.lr:g}), {clip}{precision}."
            f"{self._kept()}"
        )

    def _kept(self) -> str:
        if self.run.checkpoints is None or not self.state.epochs_done:
            return ""
        return f" The checkpoint of epoch {self.state.epochs_done} is kept in {self.run.checkpoints}."
