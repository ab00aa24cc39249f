"""BERT4Rec with item metadata, demographics, times and ratings beside the events, and four heads."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from foretaste.batching import Sequences
from foretaste.dataset import Dataset, Needs
from foretaste.distillation import Teacher, divergence
from foretaste.eight_bit import load_arrays
from foretaste.enhanced.model import EnhancedBERT4RecModel
from foretaste.enhanced.net import EnhancedNet, Size
from foretaste.errors import MissingData
from foretaste.itemloss import ItemLossSettings
from foretaste.masking import MaskedBatch, MaskedBatches
from foretaste.nets.attention import check_heads
from foretaste.nets.metadata import DescribedItems, ItemMetadataEncoder
from foretaste.query import Holdout
from foretaste.ragged import PAD
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sampling import Negatives
from foretaste.sequential import SequenceModel
from foretaste.side_inputs import ItemMetadata, SideInputs, Use
from foretaste.storage import part

__all__ = ["EnhancedBERT4Rec"]

TAUGHT = 256  # places of a batch at which a teacher is asked


class EnhancedBERT4Rec(ItemLossSettings):
    """Guesses hidden events and the next one, with what is known of items, people, times and ratings.

    Input. An event is item vector * sqrt(dim) + place (sinusoidal) + season (waves of the day of the year) + rating.
    An item's vector is its own + W [names; year]: the mean of the vectors of its names, such as genres, and one of
    its year within the span of the catalogue, ``metadata_dim`` numbers each. A person is one token per feature, one of
    its own, and the profile, which is W' [features; own]. All events first attend to these tokens (cross-attention;
    to a single token it would be trivial, as all its weight lies on that token), then to each other in ``layers``
    blocks. The logits of these have learned biases: per head for the distance between two events (three epochs on
    MovieLens-1M came to NDCG@10 .132 with it, .125 without), and for the time between them, by powers of two.

    Heads, with the weights of the settings; the learning curve shows each loss times its weight.

    - "masked item": events are hidden by chance and guessed from both sides; of a hidden event neither item, time nor
      rating is read.
    - "next item": the same weights read the same sequences a second time looking back only, so that each place
      predicts the event behind it and none can see what it predicts. A start stands before the first event: from there
      an event is predicted from the person alone, which is what is asked of a new one.
    - "rating": the squared error, in units of the variance, at the hidden places and at those from which the next event
      is predicted. Ratings are read as well, but only those of events that are seen: a rating is never predicted from a
      place that has read it.
    - "preference": the profile is found among those of the batch from the mean of the states of the events
      (``contrast``: in-batch, by cosines, which cannot collapse as a plain cosine can). It counts for the sequences
      that were read as a stranger's, in which the events were not told the profile.

    An answer is what the head of the next item says after the last event; without that head it is what the head of the
    masked item says of a hidden event behind the history. The mean of both was worse in every trial: on validation
    .177, .182, .178 against .179, .183, .181 (MovieLens-100K, three seeds), .168 against .180 (MovieLens-1M). Of a
    rating both ways of reading tell, and the mean of them errs less than either.

    Side inputs are read where the data has them (``use``), and by chance hidden in training (``side_forgetting``), so
    that an answer needs none of them. So somebody new is answered from their features, and the more events they have,
    the less these matter. Items never met have a vector of their metadata alone; ``item_forgetting`` trains it, and
    without that an item never met takes the mean of the vectors of those with the most names in common. They take no
    part in the losses: being in the catalogue without events, they would be learned as never wanted. Instead one number
    is added to all their scores, such that after the last events of training their chances sum up, on average, to
    ``unmet_share``.

    ``teacher`` names a bundle of a sequence model, or several, from which the head of the next item learns beside the
    events: at one random place of each sequence (256 of a batch at most) the divergence from the teachers' softened
    chances.

    Differs from BERT4Rec (Sun et al., CIKM 2019) in all that is named above but the masked item; also norms before
    each part, places from the start of the window, a head per task that begins as a norm alone, no bias per item.
    Differs from what is usual for such models: the cross-attention is added to the events instead of taking their
    place, since what is known of a person can hardly replace what they did; metadata are part of the item's vector
    wherever it stands, so that they also serve to score it; the season is smooth in the day of the year.
    """

    length: PositiveInt = 50
    stride: PositiveInt | None = None
    """Events from one window of training to the next. None: ``length``, so that each event is learned from once."""
    heads: PositiveInt = 2
    inner: PositiveInt | None = None
    """Width of the position-wise network; None: four times ``dim``."""
    metadata_dim: PositiveInt = 32
    """Numbers for the names of an item, and as many for its year, before both are projected to ``dim``."""
    use: Use = Use()
    """Which side inputs are read; by default all that the data has."""
    item_columns: tuple[str, ...] | None = None
    """Columns of names of items. None: all that group the items."""
    year_column: str | None = None
    """Numbers, moments, or titles such as "Toy Story (1995)". None: guess."""
    user_columns: tuple[str, ...] | None = None
    """Columns of names, codes or ages of people. None: all that group them."""
    mask_rate: float = Field(default=0.2, ge=0, lt=1)
    """The chance of each event to be hidden from the pass of the masked item."""
    last_share: float = Field(default=0.1, ge=0, le=1)
    """The share of the sequences of which, in that pass, the last event alone is hidden."""
    masked_item_weight: NonNegativeFloat = 1.0
    next_item_weight: NonNegativeFloat = 1.0
    rating_weight: NonNegativeFloat = 0.3
    preference_weight: NonNegativeFloat = 0.2
    item_forgetting: float = Field(default=0.1, ge=0, lt=1)
    """The chance of each item to be known by its metadata alone in a batch."""
    unmet_share: float | None = Field(default=None, gt=0, lt=1)
    """How many of the next events are to be on items never met, all of these together. None: as many as the events of
    training whose item has no other. Set it higher where a new season has just come into the catalogue."""
    side_forgetting: float = Field(default=0.1, ge=0, lt=1)
    """The chance of each side input of a sequence to be missing, and, beside that, of the person to be a stranger."""
    teacher: Path | tuple[Path, ...] | None = None
    """A bundle to learn from, or several, whose chances are averaged."""
    distillation_weight: NonNegativeFloat = 0.5
    temperature: PositiveFloat = 2.0
    """What the logits of teacher and student are divided by where they are compared."""

    of_items = ("net.items.weight", "net.ratings.item_bias")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_heads(self.dim, self.heads)
        if not self.masked_item_weight and not self.next_item_weight:
            raise ValueError("masked_item_weight and next_item_weight are both 0, so no item would be learned")
        if self.loss not in (None, "softmax", "sampled_softmax"):
            raise ValueError(
                f"the loss is softmax or sampled_softmax; {self.loss} has no chances for two heads to share"
            )
        if self.teacher is not None and not self.next_item_weight:
            raise ValueError("a teacher tells what comes next, so next_item_weight must be above 0")
        return self

    @property
    def required(self) -> Needs:
        return self.needs | self.use.required

    def read(self, sequences: Sequences) -> Sequences:
        return sequences.only(times=self.use.times is not False, values=self.use.ratings is not False, user=True)

    def windows(self, sequences: Sequences) -> Sequences:
        return sequences.windows(self.length, self.stride)

    def batches(self, sequences: Sequences, tokens: int, rng: np.random.Generator) -> MaskedBatches:
        return MaskedBatches(sequences, tokens, rng, rate=self.mask_rate, last_share=self.last_share)

    def metadata(self, about: About) -> ItemMetadata | None:
        """What is read of the items; None: nothing."""
        if self.use.item_metadata is False:
            return None
        found = ItemMetadata.of(about.catalog, self.item_columns, self.year_column, met=about.met)
        if found is None and self.use.item_metadata:
            raise MissingData(
                f"use.item_metadata: no column of the items of {about.data} groups them, and none tells their year: "
                f"{', '.join(about.catalog)}. Name some in item_columns or year_column, or leave it out."
            )
        return found

    def net(self, about: About, sides: SideInputs | None = None) -> EnhancedNet:
        size = Size(
            self.dim,
            self.heads,
            self.inner or 4 * self.dim,
            self.layers,
            self.length,
            self.dropout,
            masked=self.masked_item_weight > 0,
            following=self.next_item_weight > 0,
            rated=self.rating_weight > 0,
        )
        negatives = Negatives(about.popularity[about.met], self.negatives_alpha)
        return EnhancedNet(self._items(about), sides or SideInputs.nothing(), size, negatives)

    def untrained(self, about: About, data: Dataset, run: Run) -> "EnhancedBERT4RecModel":
        sides = SideInputs.of(data, self.use, self.user_columns)
        for note in _notes(self.metadata(about), sides, self.use):
            run.log(f"{self.called()}: {note}")
        net = self.net(about, sides)
        people = None if data.catalog is None else data.catalog.users
        net.people = torch.from_numpy(sides.columns.codes(people, len(data.users)))
        if net.ratings is not None and data.value is not None:
            net.ratings.measure(data.value)
        if self.teacher is not None and self.distillation_weight:
            bundles = self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)
            net.teacher = Teacher.of(bundles, about, data)
        model = EnhancedBERT4RecModel(self, about, net, run, sides, self.metadata(about))
        model.before_training(data, self.unmet_share)
        return model

    def _fit(self, train_data: Dataset, validation: Holdout | None, run: Run) -> "SequenceModel":
        model = super()._fit(train_data, validation, run)
        if isinstance(model, EnhancedBERT4RecModel):
            model.after_training()
        return model

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "EnhancedBERT4RecModel":
        sides = SideInputs.from_arrays(part(state, "sides"))
        net = self.net(about, sides)
        load_arrays(net, part(state, "net"))
        return EnhancedBERT4RecModel(self, about, net.eval(), Run(), sides, self.metadata(about))

    def losses(self, net: EnhancedNet, batch: MaskedBatch) -> Mapping[str, Tensor]:
        vectors, known = net.items.vectors(), net.seen(batch.history)
        seen, strangers = known.forgotten(self.side_forgetting)
        there = batch.history.items != PAD
        losses: dict[str, Tensor] = {}
        errors: list[Tensor] = []
        events: Tensor | None = None  # the states of the events themselves
        if net.masked_head is not None:
            events = net.states(replace(seen, hidden=batch.masked), vectors, causal=False)[:, 1:]
            losses["masked item"] = self._item_loss(net, net.masked_head(events), vectors, batch, batch.masked)
            losses["masked item"] = losses["masked item"] * self.masked_item_weight
            errors += net.rating_error(events, vectors, batch.history, batch.masked)
        if net.next_head is not None:
            states = net.states(seen, vectors, causal=True)
            events, before = states[:, 1:] if events is None else events, states[:, :-1]
            told = net.next_head(before)
            losses["next item"] = self._item_loss(net, told, vectors, batch, there) * self.next_item_weight
            errors += net.rating_error(before, vectors, batch.history, there)
            if net.teacher is not None:
                losses["distillation"] = self._taught(net.teacher, told, net, vectors, batch) * self.distillation_weight
        if errors:
            losses["rating"] = torch.stack(errors).mean() * self.rating_weight
        if net.taste is not None and events is not None and self.preference_weight:
            losses["preference"] = net.taste_loss(events, known, strangers) * self.preference_weight
        return losses

    def candidates(self, about: About) -> int:
        return int(about.met.sum())

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        users = counts["users"] * self.dim if self.use.user_embedding is not False else 0
        return 2 * super().memory_needed(counts) + 4 * 5 * users  # two passes

    def _items(self, about: About) -> DescribedItems:
        metadata, met = self.metadata(about), torch.from_numpy(np.array(about.met))
        if metadata is None:
            return DescribedItems(met, self.dim, None)
        encoder = ItemMetadataEncoder(
            torch.from_numpy(metadata.codes.values),
            torch.from_numpy(metadata.codes.offsets),
            torch.from_numpy(metadata.year),
            len(metadata.names),
            self.metadata_dim,
            self.dim,
        )
        if self.item_forgetting or about.met.all():
            return DescribedItems(met, self.dim, encoder, self.item_forgetting)
        found, shares = metadata.alike(np.flatnonzero(~about.met), np.flatnonzero(about.met))
        return DescribedItems(met, self.dim, encoder, like=(torch.from_numpy(found), torch.from_numpy(shares)))

    def _item_loss(self, net: EnhancedNet, told: Tensor, vectors: Tensor, batch: MaskedBatch, places: Tensor) -> Tensor:
        """The softmax over the items met, of what is told (batch, length, dim) at these places (batch, length)."""
        targets = batch.history.items[places]
        if net.items.any_cold:
            vectors, targets = vectors[net.items.met], net.items.number_among_met[targets]
        return next(iter(self.item_loss(told[places], vectors, targets, net.negatives).values()))

    def _taught(self, teacher: Teacher, told: Tensor, net: EnhancedNet, vectors: Tensor, batch: MaskedBatch) -> Tensor:
        """How far the head of the next item is from the teacher, at one place of each row behind its first event."""
        lengths = batch.history.lengths
        rows = torch.randperm(len(lengths), device=lengths.device)[:TAUGHT]
        place = 1 + (torch.rand(len(rows), device=lengths.device) * (lengths[rows] - 1)).long()
        chances, answered = teacher.chances(batch.history.take(rows), place, self.temperature)
        if net.items.any_cold:
            vectors, chances = vectors[net.items.met], chances[:, net.items.met]
            chances = chances / chances.sum(1, keepdim=True)
        return divergence(told[rows, place][answered], vectors, chances[answered], self.temperature)


def _notes(metadata: ItemMetadata | None, sides: SideInputs, use: Use) -> list[str]:
    """What is read, and for each side input that is not: why, and what is off with it."""
    read = [
        *([] if metadata is None else [f"of items {', '.join(metadata.columns)}"]),
        *([f"of people {', '.join(sides.columns.names)}"] if len(sides.columns) else []),
        *([] if sides.users is None else ["a vector of each user"]),
        *(["times"] if sides.times else []),
        *(["ratings"] if sides.ratings else []),
    ]
    nobody = not len(sides.columns) and sides.users is None
    off = [
        ("item metadata", use.item_metadata, metadata is None, "items never met have no vector"),
        ("user features", use.user_features, not len(sides.columns), "new people are answered by their events alone"),
        ("a vector of each user", use.user_embedding, sides.users is None, ""),
        ("times", use.times, not sides.times, "no season, no time in the attention"),
        ("ratings", use.ratings, not sides.ratings, "the head of ratings is off"),
    ]
    notes = [f"reads beside the events: {'; '.join(read) or 'nothing'}"]
    for called, wanted, lacking, without in off:
        if lacking:
            why = "turned off" if wanted is False else "the data has none"
            notes.append(f"not read: {called} ({why})" + (f"; {without}" if without else ""))
    if nobody:
        notes.append("nothing is known of people, so the cross-attention and the head of preference are off")
    return notes
