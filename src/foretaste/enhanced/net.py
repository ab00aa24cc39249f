"""The network of EnhancedBERT4Rec: events with what stands beside them, who reads them, and the heads."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from foretaste.batching import Padded
from foretaste.catalog import NO_TIME
from foretaste.distillation import Teacher
from foretaste.errors import ConfigError
from foretaste.nets.attention import RelativePlaces, RelativeTimes, SelfAttentionBlock, causal_bias, interval_table
from foretaste.nets.contrast import contrast
from foretaste.nets.crossattention import CrossAttention
from foretaste.nets.dropout import Dropout
from foretaste.nets.embeddings import PlaceEmbedding
from foretaste.nets.metadata import DescribedItems, SeasonEmbedding, UserEncoder
from foretaste.nets.ratings import Ratings
from foretaste.ragged import PAD
from foretaste.sampling import Negatives
from foretaste.sequential import SequenceNet
from foretaste.side_inputs import SideInputs

__all__ = ["EnhancedNet", "Seen", "Size"]


@dataclass(frozen=True)
class Size:
    """The shape of the network."""

    dim: int
    heads: int
    inner: int
    layers: int
    length: int
    dropout: float
    masked: bool  # is there a head of the masked item ...
    following: bool  # ... and one of the next?
    rated: bool  # ... and, where ratings are read, one of them?


@dataclass(frozen=True, eq=False)
class Seen:
    """Histories as the network reads them."""

    history: Padded
    features: Tensor  # (batch, columns) int64, of the user; PAD = missing
    hidden: Tensor | None = None  # (batch, length) bool: events of which only their place is known; None: none

    @property
    def user(self) -> Tensor:
        """(batch,) PAD = nobody known."""
        user = self.history.user
        return torch.full((len(self.features),), PAD, device=self.features.device) if user is None else user

    def forgotten(self, rate: float) -> tuple["Seen", Tensor]:
        """The same, with each side input of each row missing by chance, and (batch,) bool: is it a stranger's now?

        Times, ratings, the person and each feature are drawn for themselves; of a stranger nothing is known but the
        events. So each is learned to be done without.
        """
        history, rows = self.history, len(self.features)

        def drawn(*shape: int) -> Tensor:
            return torch.rand(shape, device=self.features.device) < rate

        strangers = drawn(rows)
        history = replace(
            history,
            user=self.user.masked_fill(strangers | drawn(rows), PAD),
            times=None if history.times is None else history.times.masked_fill(drawn(rows, 1), NO_TIME),
            values=None if history.values is None else history.values.masked_fill(drawn(rows, 1), torch.nan),
        )
        features = self.features.masked_fill(strangers[:, None] | drawn(*self.features.shape), PAD)
        return Seen(history, features, self.hidden), strangers

    def with_hidden_end(self) -> "Seen":
        """One more event behind each history, of which nothing is known."""
        history, end = self.history, self.history.lengths[:, None]
        items = nn.functional.pad(history.items, (0, 1), value=PAD)
        longer = Padded(
            items,
            times=None if history.times is None else nn.functional.pad(history.times, (0, 1)),
            values=None if history.values is None else nn.functional.pad(history.values, (0, 1), value=torch.nan),
            user=history.user,
        )
        return Seen(longer, self.features, torch.zeros_like(items, dtype=torch.bool).scatter(1, end, True))


class EnhancedNet(SequenceNet):
    """A start, and behind it the events, which first ask what is known of the person and then each other.

    The same weights read a sequence in two ways: looking to both sides, with some events hidden, and looking back
    only. The start stands before the first event: looking back from there, the first event is predicted from the
    person alone.
    """

    items: DescribedItems
    unmet_level: Tensor  # () what is added to the scores of items never met
    people: Tensor  # (users, columns) features of the users of training, while it goes on; not kept with the model
    teacher: Teacher | None  # likewise

    def __init__(self, items: DescribedItems, sides: SideInputs, size: Size, negatives: Negatives) -> None:
        super().__init__()
        dim, count = size.dim, len(items.met)
        self.items = items
        self.mask, self.start = nn.Parameter(0.1 * torch.randn(dim)), nn.Parameter(0.1 * torch.randn(dim))
        # The start, and one hidden behind the last. At full length places drown the items for epochs.
        self.places = PlaceEmbedding(size.length + 2, dim, learned=False, scale=0.1)
        self.season = SeasonEmbedding(dim) if sides.times else None
        self.place_biases = nn.ModuleList(RelativePlaces(size.length + 2, size.heads) for _ in range(size.layers))
        self.time_biases = nn.ModuleList(RelativeTimes() for _ in range(size.layers if sides.times else 0))
        self.ratings = Ratings(count, dim) if sides.ratings else None
        self.rates = sides.ratings and size.rated
        users = 0 if sides.users is None else len(sides.users)
        columns = [len(names) for names in sides.columns.names.values()]
        somebody = bool(users or columns)
        self.person = UserEncoder(users, columns, dim) if somebody else None
        self.told = CrossAttention(dim, size.heads, size.dropout) if somebody else None
        self.taste = nn.Linear(dim, dim) if somebody else None
        self.dropout = Dropout(size.dropout)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(dim, size.heads, size.inner, size.dropout) for _ in range(size.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.masked_head = _Head(dim) if size.masked else None
        self.next_head = _Head(dim) if size.following else None
        self.negatives = negatives  # of the items met
        self.teacher = None
        self.register_buffer("unmet_level", torch.zeros(()))
        self.register_buffer("people", torch.zeros(0, len(columns), dtype=torch.int64), persistent=False)

    def forward(self, history: Padded) -> Tensor:
        """States (batch, length, dim), looking back only; the users are those of training, by their numbers."""
        return self.states(self.seen(history), self.items.vectors(), causal=True)[:, 1:]

    def seen(self, history: Padded) -> Seen:
        """Histories of users of training, with their features."""
        if history.user is None:
            return Seen(history, self.people.new_full((len(history), self.people.shape[1]), PAD))
        return Seen(history, self.people[history.user])

    def after_training(self) -> None:
        """Let go of what only training reads."""
        self.teacher, self.people = None, self.people[:0]

    def states(self, seen: Seen, vectors: Tensor, *, causal: bool, places: Tensor | None = None) -> Tensor:
        """States (batch, 1 + length, dim) of the start and of the events; those of padding mean nothing.

        Args:
            vectors: (items, dim) those of all items.
            causal: Each place sees itself and those before it; else it sees all, and some should be hidden.
            places: (batch, count) the places whose states alone are wanted, the start being 0; (batch, count, dim).
        """
        states, bias, times = self._read(seen, vectors, causal)
        for number, block in enumerate(self.blocks):
            last = number == len(self.blocks) - 1
            states = block(states, self._biased(bias, times, number), places=places if last else None)
        return torch.as_tensor(self.norm(states))

    def answer_to(self, seen: Seen, vectors: Tensor) -> Tensor:
        """(batch, dim) what is compared with the items: what the next item's head says of the event after each history.

        A network without that head answers by that of the masked item, from a hidden event behind the history. A
        history may be empty.
        """
        if self.next_head is not None:
            return torch.as_tensor(self.next_head(self._asked(seen, vectors, causal=True)))
        return torch.as_tensor(self.masked_head(self._asked(seen, vectors, causal=False)))  # type: ignore[misc]

    def rating_by(self, seen: Seen, vectors: Tensor) -> Tensor:
        """(batch, dim + 1) what ratings of the event after each history are made of, see ``Ratings``.

        Raises:
            ConfigError: The network learned no ratings.
        """
        if self.ratings is None or not self.rates:
            raise ConfigError(
                "This model predicts no ratings: the data had none, use.ratings was off, or rating_weight was 0."
            )
        # The mean of both ways of reading, which errs less than either; of items the next head alone knows more.
        heads = ((True, self.next_head), (False, self.masked_head))
        asked = [self._asked(seen, vectors, causal) for causal, head in heads if head is not None]
        return torch.stack([self.ratings.guessing(each) for each in asked]).mean(0)

    def attention(self, seen: Seen, vectors: Tensor) -> tuple[Tensor | None, Tensor]:
        """How the places, looking back only, attend to the tokens of the person and, in the last block, to each other.

        Returns:
            (batch, heads, 1 + length, tokens), None where nothing is known of people; and (batch, heads, 1 + length,
            1 + length).
        """
        told = None
        if self.person is not None and self.told is not None:
            told = self.told.weights(self._events(seen, vectors), self.person(seen.user, seen.features))
        states, bias, times = self._read(seen, vectors, causal=True)
        *lower, last = self.blocks
        for number, block in enumerate(lower):
            states = block(states, self._biased(bias, times, number))
        return told, last.weights(states, self._biased(bias, times, len(lower)))  # type: ignore[operator]

    def rating_error(self, states: Tensor, vectors: Tensor, history: Padded, places: Tensor) -> list[Tensor]:
        """The mean squared error, in units of the variance, of the ratings of the events at these places; none without.

        Args:
            states: (batch, length, dim) by which they are predicted.
            places: (batch, length) bool.
        """
        if self.ratings is None or history.values is None or not self.rates:
            return []
        items, values = history.items[places], history.values[places]
        return [self.ratings.error(states, places, vectors, items, values)]

    def taste_loss(self, states: Tensor, known: Seen, strangers: Tensor) -> Tensor:
        """How badly the profiles of people are found from the mean of the states of their events.

        Only sequences that were read as a stranger's count: in the others the events have been told the profile.

        Args:
            states: (batch, length, dim) of the events.
            known: The same rows with all that is known of the people.
            strangers: (batch,) bool.
        """
        if self.person is None or self.taste is None:
            return states.new_zeros(())
        there = (known.history.items != PAD).to(states.dtype)[..., None]
        mean = (states * there).sum(1) / there.sum(1)
        profiles = self.person(known.user, known.features)[:, -1]
        same = (known.features[:, None] == known.features).all(-1)
        if self.person.own is not None:
            same &= known.user[:, None] == known.user
        return contrast(self.taste(mean), profiles, same, strangers)

    def _asked(self, seen: Seen, vectors: Tensor, causal: bool) -> Tensor:
        """(batch, dim) the state from which the event after each history is told."""
        last = seen.history.lengths[:, None]
        if causal:
            return self.states(seen, vectors, causal=True, places=last)[:, 0]
        return self.states(seen.with_hidden_end(), vectors, causal=False, places=last + 1)[:, 0]

    def _read(self, seen: Seen, vectors: Tensor, causal: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the first block gets: states, which places see which, and the buckets of the time between them."""
        states = self._events(seen, vectors)
        if self.person is not None and self.told is not None:
            states = self.told(states, self.person(seen.user, seen.features))
        bias = causal_bias(states.shape[1], states.device) if causal else _bias_to_what_is_there(seen)
        if not len(self.time_biases):
            return states, bias, None
        return states, bias, interval_table(nn.functional.pad(_times(seen), (1, 0), value=NO_TIME))

    def _events(self, seen: Seen, vectors: Tensor) -> Tensor:
        """(batch, 1 + length, dim) the start and the events, each with its place and what stands beside it."""
        history, hidden = seen.history, seen.hidden
        known = self.items(history.items, vectors) * vectors.shape[1] ** 0.5
        events = known if hidden is None else torch.where(hidden[..., None], self.mask, known)
        if self.season is not None:
            events = events + self.season(_times(seen))
        if self.ratings is not None and history.values is not None:
            values = history.values if hidden is None else history.values.masked_fill(hidden, torch.nan)
            events = events + self.ratings(values, known)
        events = torch.cat([self.start.expand(len(events), 1, -1), events], 1)
        return torch.as_tensor(self.dropout(events + self.places(events.shape[1])))

    def _biased(self, bias: Tensor, times: Tensor | None, block: int) -> Tensor:
        bias = bias + self.place_biases[block](bias.shape[-1])
        return bias if times is None else bias + self.time_biases[block](times)


class _Head(nn.Module):
    """What one task makes of the states. It begins as a norm alone, so states are like items from the first step.

    The vectors of items are read and compared with, and blocks add to what was read. A layer in between, as BERT4Rec
    has it, first has to learn to pass this on: on MovieLens-1M three epochs came to NDCG@10 .105 with it, .143 without.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.change = nn.Linear(dim, dim)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)
        self.norm = nn.LayerNorm(dim)

    def forward(self, states: Tensor) -> Tensor:
        """(..., dim) for states (..., dim)."""
        return torch.as_tensor(self.norm(states + nn.functional.gelu(self.change(states))))


def _times(seen: Seen) -> Tensor:
    """(batch, length) NO_TIME where a time is not known, and where it belongs to a hidden event."""
    times = seen.history.times_or_unknown()
    return times if seen.hidden is None else times.masked_fill(seen.hidden, NO_TIME)


def _bias_to_what_is_there(seen: Seen) -> Tensor:
    """(batch, 1, 1, 1 + length) -inf at padding; the start and hidden events are there."""
    there = seen.history.items != PAD
    if seen.hidden is not None:
        there = there | seen.hidden
    bias = torch.zeros(there.shape, device=there.device).masked_fill_(~there, -torch.inf)
    return nn.functional.pad(bias, (1, 0))[:, None, None]
