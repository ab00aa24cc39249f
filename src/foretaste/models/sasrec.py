"""SASRec: attention over the history (Kang, McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from foretaste.batching import SequenceBatch, SequenceBatches, windows
from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.losses import full_softmax, sampled_softmax
from foretaste.nets.attention import SelfAttentionBlock
from foretaste.nets.dropout import Dropout
from foretaste.nets.embeddings import ItemEmbedding
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About, Settings, VectorModel
from foretaste.run import Run
from foretaste.train import TrainPlan, device_of, identity_of, train
from foretaste.validation import validation_score

__all__ = ["SASRec", "SASRecModel", "SASRecNet"]

MOST_TOKENS = 12_800  # places in a batch where nothing else is asked: 64 full windows


class SASRec(Settings):
    """Predicts each next item from those before it; the score is <state of the last place, item embedding>.

    Differs from the paper: cross-entropy over the whole catalogue instead of one sampled negative (Klenitskiy,
    Vasilev, "Turning Dross Into Gold Loss", RecSys 2023, show what that is worth), layer norm before each block, GELU,
    AdamW, and windows that use every event of histories longer than ``length``.
    """

    needs = Needs.ORDER
    iterative = True
    dim: PositiveInt = 64
    length: PositiveInt = 200
    """How many of the latest events are read."""
    layers: PositiveInt = 2
    heads: PositiveInt = 1
    inner: PositiveInt | None = None
    """Width of the position-wise network; None: four times ``dim``."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    negatives: PositiveInt | None = None
    """Score against so many uniformly drawn items per batch instead of the whole catalogue."""
    batch_tokens: PositiveInt | None = None
    """Places per batch, padding included. None: a hundredth of an epoch, at least 1,024 and at most 12,800."""
    plan: TrainPlan = TrainPlan()

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "SASRec":
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        return self

    def _fit(self, train_data: Dataset, validation: Holdout | None, run: Run) -> "SASRecModel":
        sequences = windows(train_data.histories, self.length)
        if not len(sequences):
            raise DataError(f"{train_data.name} has no user with two events, so SASRec has nothing to predict.")
        torch.manual_seed(run.seed_of("sasrec", "weights"))
        net = SASRecNet(len(train_data.items), self)
        model = SASRecModel(self, About.of(train_data), net, run)
        tokens = self.batch_tokens or int(np.clip(len(sequences.values) // 100, 1024, MOST_TOKENS))

        def batches(epoch: int) -> SequenceBatches:
            return SequenceBatches(sequences, tokens, run.rng("sasrec", "batches", epoch))

        log = train(
            net,
            batches,
            lambda batch: {"softmax": _next_item_loss(net, batch, self.negatives)},
            self.plan,
            run,
            validate=validation_score(model, validation),
            name="sasrec",
            identity=identity_of(self, train_data.fingerprint, run),
        )
        model.training = log.to_json()
        return model

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "SASRecModel":
        net = SASRecNet(len(about.items), self)
        net.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        return SASRecModel(self, about, net.eval(), Run())

    def for_epochs(self, epochs: int) -> "SASRec":
        return self.model_copy(update={"plan": self.plan.model_copy(update={"epochs": epochs, "patience": None})})

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        weights = counts["items"] * self.dim + self.length * self.dim + self.layers * 12 * self.dim**2
        activations = (self.batch_tokens or MOST_TOKENS) * self.dim * (2 + 20 * self.layers)
        # Weights, their gradient, two moments, the best copy; and the logits of a chunk in the loss.
        return 4 * (5 * weights + activations + 3 * 512 * counts["items"]) + 8 * counts["events"]


class SASRecNet(nn.Module):
    """Item and place embeddings, attention blocks, a last norm."""

    def __init__(self, items: int, settings: SASRec) -> None:
        super().__init__()
        self.length = settings.length
        self.items = ItemEmbedding(items, settings.dim)
        self.places = nn.Parameter(torch.zeros(settings.length, settings.dim))
        nn.init.normal_(self.places, std=0.02)
        self.dropout = Dropout(settings.dropout)
        inner = settings.inner or 4 * settings.dim
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(settings.dim, settings.heads, inner, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.dim)

    def forward(self, history: Tensor) -> Tensor:
        """States (batch, length, dim) of right-padded histories (batch, length); those of padding mean nothing."""
        states = self.items(history) * self.places.shape[1] ** 0.5
        states = self.dropout(states + self.places[: history.shape[1]])
        for block in self.blocks:
            states = block(states)
        return torch.as_tensor(self.norm(states))


class SASRecModel(VectorModel):
    """A query's vector is the state after the last event of its history."""

    settings: SASRec

    def __init__(self, settings: SASRec, about: About, net: SASRecNet, run: Run) -> None:
        super().__init__(settings, about)
        self.net = net
        self._run = run

    def state(self) -> dict[str, NDArray[Any]]:
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.net.state_dict().items()}

    def item_vectors(self) -> NDArray[np.float32]:
        return self.net.items.weight.detach().float().cpu().numpy()

    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """The state of the last place; NaN for a history without an item met in training."""
        history = self._met(queries).history.last(self.settings.length)
        vectors = np.full((len(queries), self.settings.dim), np.nan, np.float32)
        asked = np.flatnonzero(history.lengths)
        # Neighbours of similar length share a batch, so little is computed for padding.
        asked = asked[np.argsort(history.lengths[asked], kind="stable")]
        device = device_of(self._run)
        net = self.net.to(device)
        training = net.training
        net.eval()
        with torch.inference_mode():
            for start in range(0, len(asked), 256):
                rows = asked[start : start + 256]
                vectors[rows] = _last_states(net, history.take(rows), device)
        net.train(training)
        return vectors


def _next_item_loss(net: SASRecNet, batch: SequenceBatch, negatives: int | None) -> Tensor:
    """Against the whole catalogue, or against so many uniform negatives; ``train`` has seeded the draw."""
    states = net(batch.history)
    wanted = batch.targets != PAD
    targets, items = batch.targets[wanted], net.items.weight
    if negatives is None:
        return full_softmax(states[wanted], items, targets)
    drawn = torch.randint(len(items), (negatives,), device=targets.device)
    return sampled_softmax(states[wanted], items, targets, drawn)


def _last_states(net: SASRecNet, history: Ragged, device: torch.device) -> NDArray[np.float32]:
    items = torch.from_numpy(history.padded().astype(np.int64)).to(device)
    last = torch.from_numpy(history.lengths - 1).to(device)
    states = net(items)[torch.arange(len(items), device=device), last]
    return np.asarray(states.float().cpu().numpy())
