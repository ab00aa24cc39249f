"""What the models share that look back only, so that each place predicts the event behind it."""

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from foretaste.batching import Padded, SequenceBatch
from foretaste.itemloss import ItemLossSettings
from foretaste.ragged import PAD
from foretaste.sampling import Negatives
from foretaste.sequential import SequenceNet

__all__ = ["NextItemNet", "NextItemSettings"]


class NextItemNet(SequenceNet):
    """A network whose state at a place depends on the events up to it alone."""

    negatives: Negatives

    @abstractmethod
    def forward(self, history: Padded, vectors: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        """States (batch, length, dim) of right-padded histories; those of padding mean nothing.

        Args:
            vectors: Those of all items, where they are known already.
            places: (batch, count) the places whose states alone are wanted, (batch, count, dim) then.
        """

    def answer(self, history: Padded) -> Tensor:
        return self(history, places=history.lengths[:, None] - 1)[:, 0]  # type: ignore[no-any-return]


class NextItemSettings(ItemLossSettings):
    """Sequence models that learn, at every place, which item comes next."""

    item_features: bool = False
    """Add to each item's vector what the catalogue says of it: categories, words, numbers. Needs item features."""

    def losses(self, net: NextItemNet, batch: SequenceBatch) -> Mapping[str, Tensor]:
        vectors = net.item_vectors()
        wanted = batch.targets != PAD
        states = net(batch.history, vectors)[wanted]
        return self.item_loss(states, vectors, batch.targets[wanted], net.negatives)
