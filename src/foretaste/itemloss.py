"""The losses that compare states with items of the catalogue, as settings that sequence models share."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor

from foretaste.losses import binary_cross_entropy, calibrated_power, full_softmax, sampled_softmax
from foretaste.recommender import About
from foretaste.sampling import Negatives
from foretaste.sequential import MOST_TOKENS, SequenceSettings

__all__ = ["SAMPLED", "ItemLoss", "ItemLossSettings", "sampling_notes", "softmax_for"]

ItemLoss = Literal["softmax", "sampled_softmax", "bce", "gbce"]
FULL_UP_TO = 100_000  # items: the full softmax of more than that takes most of the time, and sampling loses little
SAMPLED = {"sampled_softmax": 2048, "bce": 1, "gbce": 256}


def softmax_for(items: int, negatives: int | None) -> Literal["softmax", "sampled_softmax"]:
    """The loss where none is named: over the whole catalogue while it is small, unless negatives are asked for."""
    return "softmax" if negatives is None and items <= FULL_UP_TO else "sampled_softmax"


def sampling_notes(items: int, loss: str | None, negatives: int | None) -> list[str]:
    """What is to be said where the loss is sampled without having been asked for."""
    if loss is not None or negatives is not None or items <= FULL_UP_TO:
        return []
    return [
        f"{items:,} items: the loss is the softmax over {SAMPLED['sampled_softmax']:,} sampled ones "
        "(loss: softmax takes them all)"
    ]


class ItemLossSettings(SequenceSettings):
    """Sequence models that learn by making the right item likelier than others."""

    lighter: ClassVar[str] = "batch_tokens, dim, length or negatives, or set plan.checkpoint_activations"
    loss: ItemLoss | None = None
    """None: the full softmax up to 100,000 items, the sampled one beyond."""
    negatives: PositiveInt | None = None
    """How many items to score against: per batch for the sampled softmax (2,048), per place for bce (1) and gbce (256).
    Given without a loss it means the sampled softmax."""
    negatives_alpha: NonNegativeFloat = 0.0
    """Negatives are drawn by popularity to this power; the sampled softmax is corrected for it."""
    calibration: float = Field(default=0.75, ge=0, le=1)
    """Of gbce: 0 is bce, 1 makes scores chances."""

    @model_validator(mode="after")
    def _draws_only_where_it_samples(self) -> Self:
        if self.loss == "softmax" and self.negatives is not None:
            raise ValueError("the softmax is over all items and draws no negatives; loss sampled_softmax does")
        return self

    def chosen_loss(self, items: int) -> ItemLoss:
        """The loss that is meant where none is named."""
        return self.loss or softmax_for(items, self.negatives)

    def candidates(self, about: About) -> int:
        """How many items the loss chooses among."""
        return len(about.items)

    def notes(self, about: About) -> list[str]:
        return sampling_notes(self.candidates(about), self.loss, self.negatives)

    def item_loss(self, states: Tensor, items: Tensor, targets: Tensor, negatives: Negatives) -> dict[str, Tensor]:
        """The chosen loss, by its name.

        Args:
            states: (places, dim) what to predict from.
            items: (items, dim) item vectors.
            targets: (places,) the right items.
            negatives: Draws those to compare with, by ``negatives_alpha``.
        """
        loss = self.chosen_loss(len(items))
        if loss == "softmax":
            return {loss: full_softmax(states, items, targets)}
        count = self.negatives or SAMPLED[loss]
        if loss == "sampled_softmax":
            odds = negatives.log_odds(count).to(states.device) if self.negatives_alpha else None
            return {loss: sampled_softmax(states, items, targets, negatives.draw(count, states.device), odds)}
        power = calibrated_power(count, len(items), self.calibration) if loss == "gbce" else 1.0
        drawn = negatives.draw((len(targets), count), states.device)
        return {loss: binary_cross_entropy(states, items, targets, drawn, power)}

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        needed = super().memory_needed(counts)
        loss = self.chosen_loss(counts["items"])
        if loss in ("bce", "gbce"):  # each place gathers the vectors of its own negatives
            needed += 8 * (self.batch_tokens or MOST_TOKENS) * (self.negatives or SAMPLED[loss]) * self.dim
        return needed
