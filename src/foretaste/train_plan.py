"""How a network is optimised, as settings."""

import math
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

__all__ = ["TrainPlan"]


class TrainPlan(BaseModel):
    """How a network is optimised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 100
    optimizer: Literal["adamw", "adagrad"] = "adamw"
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    """What each step takes from matrices and tables, times the learning rate."""
    decay_vectors: bool = False
    """Let biases and the scales of norms decay as well; that of the last norm is how far apart scores can lie."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Of adamw."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Of adagrad."""
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    floor: float = Field(default=0.0, ge=0, le=1)
    """The cosine ends at this share of ``lr``."""
    clip: PositiveFloat | None = None
    """The largest norm that the gradient of all parameters together may have."""
    centralize: bool = False
    """Take from the gradient of each output of a layer its mean over the inputs, before it is clipped."""
    accumulate: PositiveInt = 1
    """Batches per optimiser step."""
    patience: PositiveInt | None = 10
    """Stop when validation has not improved for so many validations. None: never."""
    validate_every: PositiveInt = 1
    """Epochs between validations."""
    checkpoint_every: PositiveInt = 1
    """Epochs between checkpoints; the best weights are in each, and the last epoch has one."""
    checkpoint_activations: bool = False
    """Compute each block of the network once more on the way back instead of remembering what it computed."""
    average: float | None = Field(default=None, gt=0, lt=1)
    """Answer with an average of the weights over the steps; so much of it stays at each step, e.g. 0.999."""

    @model_validator(mode="after")
    def _momentum_has_its_optimizer(self) -> Self:
        if self.momentum and self.optimizer != "adagrad":
            raise ValueError(
                f"momentum ({self.momentum:g}) is a setting of optimizer adagrad; {self.optimizer} has betas instead"
            )
        return self

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at a step, counted from 0, of so many."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.lr
        progress = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        share = self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.lr * share
