"""BERT4Rec: attention to both sides of what is hidden (Sun et al., "BERT4Rec", CIKM 2019)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn

from foretaste.batching import Padded, Sequences
from foretaste.dataset import Dataset, Needs
from foretaste.eight_bit import load_arrays
from foretaste.errors import ConfigError, DataError
from foretaste.itemloss import ItemLossSettings
from foretaste.masking import MaskedBatch, MaskedBatches, hidden_places
from foretaste.nets.attention import (
    Norm,
    RelativePlaces,
    Rotation,
    SelfAttentionBlock,
    at_places,
    check_heads,
    padding_bias,
)
from foretaste.nets.dropout import Dropout
from foretaste.nets.embeddings import ItemEmbedding, PlaceEmbedding
from foretaste.nets.ratings import Ratings
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sampling import Negatives
from foretaste.sequential import MOST_TOKENS, SequenceModel, SequenceNet
from foretaste.storage import part, prefixed
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

__all__ = ["BERT4Rec", "BERT4RecModel", "BERT4RecNet"]

KNOWN = "known_users"  # the part of the state that holds their identifiers


class BERT4Rec(ItemLossSettings):
    """Guesses hidden events from those on both sides; what comes next is a hidden event after the last.

    Events of a sequence are hidden by chance, and the network guesses each from all that is seen (eq. 8). To answer,
    a hidden place is put behind the history and its state is read, so ``length - 1`` events are read; in training a
    share of the sequences hides its last event alone, which is the same form (section 3.6). A guess is
    softmax(norm(GELU(h W + b)) E' + c) with the item embeddings E of the input and a number c per item (eq. 7); the
    number is one more coordinate of the vectors, so that a score is still their inner product.

    Places are counted from the end of a sequence: the last is 0 in a short history and in a long one, in a window of
    training and when an answer is asked, where the hidden place behind the history is the last. Histories longer than
    ``length`` are learned from in windows that overlap by one event, so no event is lost.

    Options beyond the paper, off here: a vector per known user, and two further tasks: what the hidden event was
    valued at, and the person's own vector. With ``rating_weight`` the network also reads what seen events were valued
    at. The person's own vector is the user embedding: it is predicted from the mean of the states of a sequence that
    was read without it, and the loss is 1 - cosine; no gradient goes into the user embedding from there, else all
    users would move together.

    Differs from the paper: places are counted from the end, not the start; no dropout on attention weights; a norm
    after the sum of embeddings and before E, as in its published code; what is hidden is always replaced by the same
    vector, also as in its code; it is drawn anew each time instead of ten times before training, and where chance
    would hide nothing or everything, the last event alone is hidden; AdamW without decay of the learning rate;
    ``norm="pre"`` is to be had. Petrov, Macdonald, "A Systematic Review and Replicability Study of BERT4Rec", RecSys
    2022, find that most weak results come from too little training: hence the long default plan, which stops by
    validation.
    """

    heads: PositiveInt = 2
    inner: PositiveInt | None = None
    """Width of the position-wise network; None: four times ``dim``."""
    positions: Literal["learned", "sinusoidal", "rotary", "relative"] = "learned"
    """How places are told apart: vectors added to the items, queries and keys turned, or a bias per distance."""
    norm: Norm = "post"
    mask_rate: float = Field(default=0.2, ge=0, lt=1)
    """The chance of each event to be hidden. 0.2 is the paper's for ML-1M and ML-20M, and that of Petrov and Macdonald;
    for the short sequences of Steam and Beauty the paper takes 0.4 and 0.6 (section 4.5)."""
    last_share: float = Field(default=0.1, ge=0, le=1)
    """The share of the sequences of which the last event alone is hidden. The published code adds one such sequence to
    ten others."""
    masks_per_epoch: PositiveInt = 1
    """How often each sequence comes in an epoch, each time with other events hidden. Of the last block only the hidden
    places are computed, which makes each of these passes cheaper."""
    user_embedding: bool = False
    """Add a learned vector of the user to each event; who was not met in training has none."""
    user_dropout: float = Field(default=0.5, ge=0, lt=1)
    """The share of the sequences that are learned from without the user's vector, like those of strangers."""
    rating_weight: NonNegativeFloat = 0.0
    """How much the squared error of the guessed values counts, in units of their variance. Needs values."""
    preference_weight: NonNegativeFloat = 0.0
    """How much 1 - cosine(predicted, user's vector) counts. Needs ``user_embedding``."""
    plan: TrainPlan = TrainPlan(epochs=300, patience=20)

    @classmethod
    def large(cls) -> Self:
        """The size of BERT base: 768 wide, 12 heads, 12 layers.

        It has 85.7 million parameters, and 769 more per item and 768 per place. AdamW keeps each four times in float32
        (weight, gradient, two moments), 1.37 GB in all and 12.3 kB per item; with a validation part the best epoch is
        a fifth copy. A step remembers some 0.7 MB per place of a batch in float32 until it goes back, so the 4,096
        places here take 2.9 GB, and 4.5 GB with all else. Measured on a CPU, 50 items: 1.8 GB at the peak for a step
        of 64 places, 3.1 GB for one of 2,048. Lower ``batch_tokens`` for less.
        """
        return cls(
            dim=768,
            heads=12,
            layers=12,
            dropout=0.1,
            norm="pre",
            batch_tokens=4096,
            plan=TrainPlan(epochs=300, patience=20, lr=1e-4, weight_decay=0.01, warmup_steps=1000, clip=1.0),
        )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_heads(self.dim, self.heads, rotary=self.positions == "rotary")
        if self.length < 2:
            raise ValueError(f"length ({self.length}) must be at least 2: one event, and the hidden place behind it")
        if self.preference_weight and not self.user_embedding:
            raise ValueError("preference_weight predicts the vector of the user, so it needs user_embedding")
        return self

    @property
    def required(self) -> Needs:
        return self.needs | (Needs.VALUES if self.rating_weight else Needs.NOTHING)

    @property
    def events_read(self) -> int:
        return self.length - 1

    def read(self, sequences: Sequences) -> Sequences:
        return sequences.only(values=self.rating_weight > 0, user=self.user_embedding)

    def windows(self, sequences: Sequences) -> Sequences:
        return sequences.windows(self.length - 1)

    def batches(self, sequences: Sequences, tokens: int, rng: np.random.Generator) -> MaskedBatches:
        return MaskedBatches(
            sequences,
            tokens,
            rng,
            rate=self.mask_rate,
            last_share=self.last_share,
            repeats=self.masks_per_epoch,
        )

    def net(self, about: About, users: int = 0) -> "BERT4RecNet":
        return BERT4RecNet(about, self, users)

    def untrained(self, about: About, data: Dataset, run: Run) -> "BERT4RecModel":
        net = self.net(about, len(data.users))
        if net.users is not None:
            net.users.weight.data[np.diff(data.offsets) < 2] = 0  # never learned, so they are strangers
        if net.ratings is not None:
            if data.value is None or not np.isfinite(data.value).any():
                raise DataError(
                    f"No event of {data.name} has a value, so there are no ratings to learn. Set rating_weight to 0."
                )
            net.ratings.measure(data.value)
        return BERT4RecModel(self, about, net, run, data.users if self.user_embedding else None)

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "BERT4RecModel":
        users = Vocab.from_arrays(part(state, KNOWN)) if self.user_embedding else None
        net = self.net(about, 0 if users is None else len(users))
        weights = {name: array for name, array in state.items() if not name.startswith(f"{KNOWN}.")}
        load_arrays(net, weights)
        return BERT4RecModel(self, about, net.eval(), Run(), users)

    def losses(self, net: "BERT4RecNet", batch: MaskedBatch) -> Mapping[str, Tensor]:
        history = batch.history
        if history.user is not None:
            without = torch.rand(len(history), device=history.items.device) < self.user_dropout
            history = replace(history, user=history.user.masked_fill(without, PAD))
        places, there = hidden_places(batch.masked)
        if self.preference_weight:
            states = net(history, batch.masked)
            hidden = at_places(states, places)
        else:
            hidden = net(history, batch.masked, places)
        targets = batch.history.items[batch.masked]
        losses = self.item_loss(net.guesses(hidden)[there], net.item_vectors(), targets, net.negatives)
        if net.ratings is not None and history.values is not None:
            error = net.ratings.error(hidden, there, net.items.vectors(), targets, history.values[batch.masked])
            losses["rating"] = self.rating_weight * error
        if self.preference_weight:
            losses["preference"] = self.preference_weight * net.preference_error(states, batch.history, history)
        return losses

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        users = counts["users"] * self.dim if self.user_embedding else 0
        attention = (self.batch_tokens or MOST_TOKENS) * self.length * self.heads * (self.layers + 2)
        # Of each layer the weights that attention gives stay; while they are made there are two more of the kind.
        return super().memory_needed(counts) + 4 * (5 * users + attention)


class BERT4RecNet(SequenceNet):
    """Embeddings of items and places, blocks that look both ways, and a head for each task.

    Args:
        users: How many have a vector, where the settings give them one.
    """

    def __init__(self, about: About, settings: BERT4Rec, users: int = 0) -> None:
        super().__init__()
        dim, heads, length = settings.dim, settings.heads, settings.length
        self.items = ItemEmbedding(len(about.items), dim)
        self.item_bias = nn.Parameter(torch.zeros(len(about.items)))
        self.hidden = nn.Parameter(0.02 * torch.randn(dim))
        added = settings.positions in ("learned", "sinusoidal")
        self.places = PlaceEmbedding(length, dim, learned=settings.positions == "learned") if added else None
        # Sines and cosines are longer than vectors that begin small: Vaswani et al., 2017, section 3.4.
        self.event_scale = dim**0.5 if settings.positions == "sinusoidal" else 1.0
        self.rotation = Rotation(length, dim // heads) if settings.positions == "rotary" else None
        self.distances = RelativePlaces(length, heads) if settings.positions == "relative" else None
        self.users = ItemEmbedding(users, dim) if settings.user_embedding else None
        self.ratings = Ratings(len(about.items), dim) if settings.rating_weight else None
        self.taste = nn.Linear(dim, dim) if settings.preference_weight else None
        self.before = nn.LayerNorm(dim)
        self.dropout = Dropout(settings.dropout)
        inner = settings.inner or 4 * dim
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(dim, heads, inner, settings.dropout, settings.norm) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(dim) if settings.norm == "pre" else nn.Identity()
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))
        self.negatives = Negatives(about.popularity, settings.negatives_alpha)

    def forward(self, history: Padded, masked: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        """States (batch, length, dim) of right-padded sequences; those of padding mean nothing.

        Args:
            masked: (batch, length) bool, the hidden places, of which neither item nor value is read. None: none.
            places: (batch, count) the places whose states alone are wanted, (batch, count, dim) then.
        """
        masked = torch.zeros_like(history.items, dtype=torch.bool) if masked is None else masked
        items = history.items.masked_fill(masked, 0)  # any item: what stands there is not read, only that it stands
        known = self.items(items)
        events = torch.where(masked.unsqueeze(-1), self.hidden, known) + self._beside(history, masked, known)
        states = events * self.event_scale
        width = items.shape[1]
        if self.places is not None:
            from_end = (items != PAD).sum(1, keepdim=True) - 1 - torch.arange(width, device=items.device)
            states = states + nn.functional.embedding(from_end.clamp(min=0), self.places(width))
        states = self.dropout(self.before(states))
        bias = padding_bias(items)
        if self.distances is not None:
            bias = bias + self.distances(width)
        *lower, last = self.blocks
        for block in lower:
            states = block(states, bias, self.rotation)
        return torch.as_tensor(self.norm(last(states, bias, self.rotation, places)))

    def guesses(self, states: Tensor) -> Tensor:
        """(..., dim + 1) what is compared with items; the last coordinate is for the item's own number."""
        return torch.as_tensor(nn.functional.pad(self.head(states), (0, 1), value=1.0))

    def item_vectors(self) -> Tensor:
        return torch.cat([self.items.vectors(), self.item_bias.unsqueeze(1)], 1)

    def answer(self, history: Padded) -> Tensor:
        return self.guesses(self.next_state(history))

    def next_state(self, history: Padded) -> Tensor:
        """(batch, dim) the state of a hidden place behind each history."""
        end = history.lengths.unsqueeze(1)
        items = nn.functional.pad(history.items, (0, 1), value=PAD).scatter(1, end, 0)
        values = None if history.values is None else nn.functional.pad(history.values, (0, 1), value=torch.nan)
        masked = torch.zeros_like(items, dtype=torch.bool).scatter(1, end, True)
        return torch.as_tensor(self(Padded(items, values=values, user=history.user), masked, end).squeeze(1))

    def preference_error(self, states: Tensor, known: Padded, read: Padded) -> Tensor:
        """Mean of 1 - cosine to the user's vector, over the sequences that were read without it."""
        if self.users is None or self.taste is None or known.user is None or read.user is None:
            return states.new_zeros(())
        counts = (known.user != read.user).float()
        tastes, own = self.taste(pooled(states, known.items)), self.users(known.user).detach()
        distance = 1 - nn.functional.cosine_similarity(tastes.float(), own, dim=1)
        return (distance * counts).sum() / counts.sum().clamp(min=1)

    def _beside(self, history: Padded, masked: Tensor, known: Tensor) -> Tensor | float:
        """What is added to the events of people who are known, and to events whose value is.

        Args:
            known: (batch, length, dim) the vectors of the items, before any is hidden.
        """
        beside: Tensor | float = 0.0
        if self.users is not None and history.user is not None:
            beside = self.users(history.user).unsqueeze(1)
        if self.ratings is not None and history.values is not None:
            beside = beside + self.ratings(history.values.masked_fill(masked, torch.nan), known)
        return beside


class BERT4RecModel(SequenceModel):
    """BERT4Rec, fitted. With ``user_embedding`` it knows the users of training by their outside identifiers."""

    settings: BERT4Rec
    net: BERT4RecNet

    def __init__(self, settings: BERT4Rec, about: About, net: BERT4RecNet, run: Run, users: Vocab | None) -> None:
        super().__init__(settings, about, net, run)
        self.users = users

    def state(self) -> dict[str, NDArray[Any]]:
        return super().state() | ({} if self.users is None else prefixed(KNOWN, self.users.arrays()))

    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        return super().query_vectors(self._of_own_users(queries))

    def likeness_vectors(self) -> NDArray[np.float32]:
        return self.item_vectors()[:, :-1]  # without the number that says how likely an item is for anybody

    def ratings(self, queries: Queries | Sequence[Any], items: Sequence[Any] | None = None) -> NDArray[np.float32]:
        """(queries, items) what each person would value each item at if they met it next.

        Args:
            queries: As in ``recommend``.
            items: Identifiers; None: all of the catalogue.

        Returns:
            In the units of the data, and within the range of the values of training. NaN where there is no history
            with an item met in training; items never met are valued like the mean item.

        Raises:
            ConfigError: The model was fitted without ``rating_weight``.
            UnknownName: An item is not in the catalogue.
        """
        head = self._rating_head()
        chosen = np.arange(len(self.items)) if items is None else self._known(items)
        states = self._rating_states(head, self.ask(queries).queries)
        return head.in_units(states @ self._rated_items(head)[chosen].T)

    def pair_ratings(self, queries: Queries, items: Ragged) -> NDArray[np.float32]:
        """(total,) the same of each query for its own items (queries), given by their indices."""
        head = self._rating_head()
        states = self._rating_states(head, queries)[items.row_of_value()]
        return head.in_units((states * self._rated_items(head)[items.values]).sum(1))

    def preferences(self, queries: Queries | Sequence[Any]) -> NDArray[np.float32]:
        """(queries, dim) each person's own vector, of length 1, predicted from the history alone; NaN without one.

        Raises:
            ConfigError: The model was fitted without ``preference_weight``.
        """
        net, taste = self.net, self.net.taste
        if taste is None:
            raise ConfigError("This model predicts no preferences; fit it with preference_weight above 0.")

        def tastes(history: Padded) -> Tensor:
            return nn.functional.normalize(taste(pooled(net(history), history.items)).float(), dim=1)

        return self.read_out(replace(self.ask(queries).queries, user=None), tastes, self.settings.dim)

    def _rating_head(self) -> Ratings:
        if self.net.ratings is None:
            raise ConfigError("This model guesses no ratings; fit it with rating_weight above 0.")
        return self.net.ratings

    def _rating_states(self, head: Ratings, queries: Queries) -> NDArray[np.float32]:
        own, net = self._of_own_users(queries), self.net
        return self.read_out(own, lambda history: head.state_vectors(net.next_state(history)), self.settings.dim + 2)

    def _rated_items(self, head: Ratings) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors = head.item_vectors(self.net.items.vectors()).float().cpu().numpy()
        vectors[~self.about.met] = vectors[self.about.met].mean(0)
        return np.asarray(vectors)

    def _of_own_users(self, queries: Queries) -> Queries:
        """The queries with users as training numbered them; PAD = a stranger.

        Users of queries are numbered by the stored histories; a model that holds none is asked by those of training.
        """
        if self.users is None or queries.user is None:
            return queries
        stored = None if self.histories is None else self.histories.users
        own = self.users.renumbered(queries.user, stored)
        return replace(queries, user=own)


def pooled(states: Tensor, items: Tensor) -> Tensor:
    """(batch, dim) the mean of the states (batch, length, dim) of each row, padding left out."""
    there = (items != PAD).unsqueeze(-1).to(states.dtype)
    return (states * there).sum(1) / there.sum(1)
