"""What the models that read a history in order share: a network over padded events, its batches, its answers."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.utils import parametrize

from foretaste.batching import Padded, SequenceBatches, Sequences
from foretaste.dataset import Dataset, Needs
from foretaste.eight_bit import arrays_of, in_eight_bits, load_arrays
from foretaste.errors import DataError
from foretaste.item_features import ItemFeatures
from foretaste.iterative import IterativeSettings
from foretaste.mishaps import weights_explained
from foretaste.nets.embeddings import FeaturedItems, ItemEmbedding
from foretaste.query import Holdout, Queries
from foretaste.ragged import groups_within
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.scoring import VectorModel
from foretaste.train import device_of

__all__ = ["SequenceModel", "SequenceNet", "SequenceSettings", "answered_together", "item_embedding"]

MOST_TOKENS = 12_800  # places in a batch where nothing else is asked: 64 full windows
ANSWERED_TOGETHER = 12_800  # places: twice as fast as 51,200, whose states no longer fit into a processor's cache


class SequenceNet(nn.Module):
    """A network from padded histories to states; the score of an item is <state, its vector>."""

    items: ItemEmbedding

    @abstractmethod
    def forward(self, history: Padded) -> Tensor:
        """States (batch, length, dim); those of padding mean nothing."""

    def answer(self, history: Padded) -> Tensor:
        """(batch, dim) what each history is answered by; every row has at least one event."""
        rows = torch.arange(len(history), device=history.items.device)
        return torch.as_tensor(self(history)[rows, history.lengths - 1])

    def item_vectors(self) -> Tensor:
        """(items, dim) what states are compared with."""
        return self.items.vectors()


def item_embedding(about: About, dim: int, features: bool) -> ItemEmbedding:
    """The vectors of a model's items, with what the catalogue says of them where ``features`` is true.

    Only what it says of items met in training has a vector, for nothing else is learned.
    """
    if not features:
        return ItemEmbedding(len(about.items), dim)
    read = ItemFeatures.of(about.catalog.take(about.met))
    return FeaturedItems(len(about.items), dim, read.codes(about.catalog), len(read.meanings))


def answered_together(asked: NDArray[np.integer], lengths: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """The rows that are asked for, in groups of similar length, so that little is computed for padding.

    Args:
        lengths: Of all rows; an empty one takes a place, too.
    """
    asked = asked[np.argsort(lengths[asked], kind="stable")]
    return groups_within(asked, lengths + 1, ANSWERED_TOGETHER)


class SequenceSettings(IterativeSettings):
    """The settings that sequence models share."""

    needs = Needs.ORDER
    lighter: ClassVar[str] = "batch_tokens, dim or length, or set plan.checkpoint_activations"
    dim: PositiveInt = 64
    length: PositiveInt = 200
    """How many of the latest events are read."""
    layers: PositiveInt = 2
    dropout: float = Field(default=0.2, ge=0, lt=1)
    batch_tokens: PositiveInt | None = None
    """Places per batch, padding included. None: a hundredth of an epoch, at least 1,024 and at most 12,800."""

    @abstractmethod
    def net(self, about: About) -> SequenceNet:
        """The network, with random weights."""

    @abstractmethod
    def losses(self, net: Any, batch: Any) -> Mapping[str, Tensor]:
        """Named scalars; ``train`` has seeded torch's draws."""

    def untrained(self, about: About, data: Dataset, run: Run) -> "SequenceModel":
        """The model with random weights; torch is seeded."""
        return SequenceModel(self, about, self.net(about), run)

    @property
    def events_read(self) -> int:
        """How many of the latest events an answer is made from."""
        return self.length

    def notes(self, about: About) -> list[str]:
        """What these settings decide by the data, to be said before the work."""
        return []

    def histories(self, data: Dataset) -> Sequences:
        """The rows that are learned from, one per user."""
        return Sequences.of(data)

    def asked(self, queries: Queries) -> Queries:
        """The queries with only those events of their histories that an answer depends on."""
        return queries

    def read(self, sequences: Sequences) -> Sequences:
        """The sequences with only as much beside the items as the network reads."""
        return sequences.only()

    def windows(self, sequences: Sequences) -> Sequences:
        """What of the histories is learned from together."""
        return sequences.windows(self.length)

    def batches(self, sequences: Sequences, tokens: int, rng: np.random.Generator) -> Any:
        """One epoch of the windows."""
        return SequenceBatches(sequences, tokens, rng)

    def _fit(self, train_data: Dataset, validation: Holdout | None, run: Run) -> "SequenceModel":
        name = self.called()
        sequences = self.windows(self.read(self.histories(train_data)))
        if not len(sequences):
            raise DataError(
                f"{train_data.name} has no user with two events, so {type(self).__name__} has nothing to predict."
            )
        about = About.of(train_data)
        for note in self.notes(about):
            run.log(f"{name}: {note}")
        torch.manual_seed(run.seed_of(name, "weights"))
        with weights_explained(name):
            model = self.untrained(about, train_data, run)
        net = model.net
        tokens = self.batch_tokens or int(np.clip(len(sequences.items.values) // 100, 1024, MOST_TOKENS))
        self.learn(
            model,
            net,
            lambda epoch: self.batches(sequences, tokens, run.rng(name, "batches", epoch)),
            lambda batch: self.losses(net, batch),
            train_data,
            validation,
            run,
            calibrate=model.calibrate,
        )
        return model

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "SequenceModel":
        net = self.net(about)
        load_arrays(net, state)
        return SequenceModel(self, about, net.eval(), Run())

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        weights = counts["items"] * self.dim + self.length * self.dim + self.layers * 12 * self.dim**2
        activations = (self.batch_tokens or MOST_TOKENS) * self.dim * (2 + 20 * self.layers)
        # Weights, their gradient, two moments, the best copy; and the logits of a chunk in the loss.
        return 4 * (5 * weights + activations + 3 * 512 * counts["items"]) + 8 * counts["events"]


class SequenceModel(VectorModel):
    """A query's vector is what the network makes of its history."""

    settings: SequenceSettings

    def __init__(self, settings: SequenceSettings, about: About, net: SequenceNet, run: Run) -> None:
        super().__init__(settings, about)
        self.net = net
        self._run = run

    def state(self) -> dict[str, NDArray[Any]]:
        return arrays_of(self.net)

    def calibrate(self) -> None:
        """While fitting: work out what answers need beside the weights, which have just changed. By default nothing."""

    def in_eight_bits(self) -> Self:
        """This model with its matrices as int8 and a scale per row: a quarter of the size, nearly the same answers.

        It can be asked and saved but not trained further. What was measured of this model is not said of that one.
        """
        model = copy.copy(self)
        model.net, model.metrics = in_eight_bits(self.net), {}
        return model

    def item_vectors(self) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self.net.item_vectors().float().cpu().numpy())

    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """What the network answers; NaN for a history without an item met in training."""
        return self.read_out(queries, self.net.answer, self.net.item_vectors().shape[1])

    def read_out(self, queries: Queries, answer: Callable[[Padded], Tensor], width: int) -> NDArray[np.float32]:
        """(queries, width) what a function of the network makes of each history; NaN where no item of it was met.

        Args:
            answer: From padded histories, each with at least one event, to (batch, width).
        """
        met = self.settings.asked(self._readable(queries))
        sequences = self.settings.read(Sequences.of_queries(met)).last(self.settings.events_read)
        answers = np.full((len(queries), width), np.nan, np.float32)
        asked = np.flatnonzero(sequences.lengths)
        device = device_of(self._run)
        net = self.net.to(device)
        training = net.training
        net.eval()
        # Weights of 8 bits are multiplied out once for all batches.
        with torch.inference_mode(), parametrize.cached():
            for rows in answered_together(asked, sequences.lengths):
                answers[rows] = answer(sequences.take(rows).padded().to(device)).float().cpu().numpy()
        net.train(training)
        return answers
