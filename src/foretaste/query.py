"""Questions and answers: who asks with what history, what they met next, and the ranked items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from foretaste.catalog import Table
from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.ragged import PAD, Ragged, spans
from foretaste.vocab import Vocab

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Holdout", "Queries", "TopK", "session_start"]


@dataclass(frozen=True, eq=False)
class Queries:
    """Who asks, and what they have met so far. A query is a history, never a row of the training data."""

    history: Ragged  # item indices, oldest first; PAD never occurs
    times: NDArray[np.int64] | None = None  # aligned with history.values, milliseconds; NO_TIME = not known
    kinds: NDArray[np.int8] | None = None  # aligned with history.values
    values: NDArray[np.float32] | None = None  # aligned with history.values; NaN = not given
    session_start: NDArray[np.int64] | None = None  # (queries,) place in each history where the running session begins
    user: NDArray[np.int32] | None = None  # (queries,) known user, or PAD
    user_features: Table | None = None  # one row per query
    context: Table | None = None  # one row per query: page, device, anchor item ...
    now: NDArray[np.int64] | None = None  # (queries,) the moment of asking, milliseconds; NO_TIME = not known

    @classmethod
    def of_histories(cls, items: Vocab, histories: Sequence[Sequence[Any]]) -> tuple["Queries", list[list[Any]]]:
        """Queries from lists of outside identifiers, oldest first.

        Returns:
            The queries, and per query the identifiers that are unknown; those are left out of its history.
        """
        flat = [each for history in histories for each in history]
        lengths = np.array([len(history) for history in histories], np.int64)
        whole = Ragged.from_lengths(items.index(flat), lengths)
        known = whole.values != PAD
        unknown = [
            [history[place] for place in np.flatnonzero(whole[row] == PAD).tolist()]
            for row, history in enumerate(histories)
        ]
        return cls(whole.where(known)), unknown

    @classmethod
    def of_users(cls, data: Dataset, users: NDArray[np.integer] | None = None) -> "Queries":
        """Known users asking after all their events in ``data``; by default every user of the vocabulary.

        The moment of asking is that of the last event; where a user has none, the last moment of the data.
        """
        users = np.arange(len(data.users)) if users is None else np.asarray(users)
        baskets = data.baskets
        places = baskets.positions(users)
        history = Ragged.from_lengths(data.item[places], baskets.lengths[users])
        now = None
        if data.time is not None:
            latest = int(data.time.max()) if len(data) else 0
            last = data.offsets[1:][users] - 1
            now = np.where(history.lengths > 0, data.time[last.clip(0)] if len(data) else latest, latest)
        return cls.at_places(data, users, history, places, now)

    @classmethod
    def at_places(
        cls,
        data: Dataset,
        user: NDArray[np.integer],
        history: Ragged,
        places: NDArray[Any],
        now: NDArray[np.int64] | None,
    ) -> "Queries":
        """Queries whose histories stand at given places of a log, with all that stands beside their events.

        Args:
            user: (queries,) PAD = a stranger.
            history: (queries) the items at these places.
            places: Rows of the log, or a mask of them, one history after the other.
            now: (queries,) the moments of asking, milliseconds; None: not known.
        """
        return cls(
            history,
            times=None if data.time is None else data.time[places],
            kinds=None if data.kind is None else data.kind[places],
            values=None if data.value is None else data.value[places],
            session_start=None if data.session is None else session_start(history, data.session[places]),
            user=user.astype(np.int32),
            user_features=None if data.catalog is None else data.catalog.users.take(user),
            now=now,
        )

    @classmethod
    def at_moments(cls, data: Dataset, user: NDArray[np.integer], moment: NDArray[np.int64]) -> "Queries":
        """Users asking at given moments, with all that they did before them; one may ask several times.

        Args:
            data: A log with times.
            user: (queries,) PAD = a stranger, without any history.
            moment: (queries,) milliseconds, which are also the moments of asking.
        """
        data.require(Needs.TIMES, "Asking at moments")
        times = np.asarray(data.time)
        known = user != PAD
        begin = np.where(known, data.offsets[:-1][user], 0)
        first = int(times.min()) if len(data) else 0
        span = int(times.max()) - first + 2 if len(data) else 1
        keys = data.user * np.int64(span) + (times - first)
        before = np.searchsorted(keys, user * np.int64(span) + np.clip(moment - first, 0, span - 1))
        lengths = np.where(known, before - begin, 0)
        places = spans(begin, lengths)
        return cls.at_places(data, user, Ragged.from_lengths(data.item[places], lengths), places, moment)

    def __len__(self) -> int:
        return len(self.history)

    def take(self, rows: NDArray[Any] | slice) -> "Queries":
        """The given queries (indices, a slice or a mask), in the given order."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        elif rows.dtype == bool:
            rows = np.flatnonzero(rows)
        places = self.history.positions(rows)
        return Queries(
            self.history.take(rows),
            times=_at(self.times, places),
            kinds=_at(self.kinds, places),
            values=_at(self.values, places),
            session_start=_at(self.session_start, rows),
            user=_at(self.user, rows),
            user_features=None if self.user_features is None else self.user_features.take(rows),
            context=None if self.context is None else self.context.take(rows),
            now=_at(self.now, rows),
        )

    def where(self, keep: NDArray[np.bool_]) -> "Queries":
        """The same queries with only the events of their histories for which ``keep`` is true."""
        start = self.session_start
        if start is not None:
            kept_before = np.concatenate([[0], np.cumsum(keep)])
            begin = self.history.offsets[:-1]
            start = kept_before[begin + start] - kept_before[begin]
        return replace(
            self,
            history=self.history.where(keep),
            times=_at(self.times, keep),
            kinds=_at(self.kinds, keep),
            values=_at(self.values, keep),
            session_start=start,
        )

    def matrix(self, items: int, weights: Sequence[float] | None = None) -> csr_matrix:
        """(queries, items) what each history holds of each item.

        Args:
            weights: What an event of each kind is worth; they add up, and nothing is held where they come to zero.
                Events that do not say their kind count as the weakest. None: 1 wherever an item was met.
        """
        history = self.history
        worth = np.ones(len(history.values), np.float32)
        if weights is not None:
            worth = np.asarray(weights, np.float32)[0 if self.kinds is None else self.kinds] * worth
        # A copy, because sum_duplicates sorts in place and would take the history's order with it.
        matrix = csr_matrix((worth, history.values.copy(), history.offsets), shape=(len(self), items))
        matrix.sum_duplicates()
        if weights is None:
            matrix.data.fill(1.0)
        matrix.eliminate_zeros()
        return matrix


@dataclass(frozen=True, eq=False)
class Holdout:
    """Queries and what came of each: the part of a split that a model is judged by."""

    queries: Queries
    targets: Ragged  # (queries) distinct item indices
    unknown: NDArray[np.int32] | None = None  # (queries,) targets outside the vocabulary: they count as misses
    slices: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)  # name -> (queries,) mask
    filter_seen: bool = True  # does the protocol hide what is in the history?
    exclude_kinds: tuple[str, ...] = ()  # with filter_seen: only what was met by events of these kinds is hidden
    offered: NDArray[np.int32] | None = None  # the items that lists are made of; None: the whole catalogue
    name: str = "test"

    def __post_init__(self) -> None:
        if len(self.queries) != len(self.targets):
            raise DataError(f"{len(self.queries)} queries have {len(self.targets)} rows of targets.")

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: NDArray[Any]) -> "Holdout":
        return Holdout(
            self.queries.take(rows),
            self.targets.take(rows),
            unknown=_at(self.unknown, rows),
            slices={name: mask[rows] for name, mask in self.slices.items()},
            filter_seen=self.filter_seen,
            exclude_kinds=self.exclude_kinds,
            offered=self.offered,
            name=self.name,
        )


@dataclass(frozen=True, eq=False)
class TopK:
    """The best items for each query, best first."""

    items: NDArray[np.int32]  # (queries, k); PAD where nothing is left
    scores: NDArray[np.float32]  # (queries, k) comparable within a row; -inf at PAD
    source: NDArray[np.int8]  # (queries, k) index into sources: which part answered; PAD at PAD
    sources: tuple[str, ...]
    vocab: Vocab
    labels: Sequence[Any] | None = None  # (queries,) who asked, by outside id; None: numbered from 0
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # (queries, k) more per item
    unknown_users: tuple[Any, ...] = ()  # asked for by id, and answered like strangers
    unknown_items: tuple[Any, ...] = ()  # left out of the histories that were passed

    def __len__(self) -> int:
        return len(self.items)

    def lists(self) -> list[list[int | str]]:
        """The outside identifiers of each row, best first."""
        return [self.vocab.lookup(row[row != PAD]) for row in self.items]

    def frame(self) -> "pl.DataFrame":
        """One row per recommended item: user_id, item_id, score, rank (1 = best), source, further columns."""
        import polars as pl

        row, place = np.nonzero(self.items != PAD)
        labels: Sequence[Any] = range(len(self)) if self.labels is None else self.labels
        sources = np.array(self.sources, dtype=object)
        return pl.DataFrame(
            {
                "user_id": pl.Series([labels[each] for each in row.tolist()], strict=False),
                "item_id": self.vocab.lookup(self.items[row, place]),
                "score": self.scores[row, place],
                "rank": (place + 1).astype(np.int32),
                "source": sources[self.source[row, place]].tolist(),
                **{name: values[row, place] for name, values in self.columns.items()},
            }
        )

    def _repr_html_(self) -> str:
        return self.frame()._repr_html_()


def session_start(history: Ragged, session: NDArray[np.int64]) -> NDArray[np.int64]:
    """(queries,) where in each history the session of its last event began; 0 where there is no history.

    Args:
        session: Aligned with ``history.values``.
    """
    changes = np.flatnonzero(np.diff(session)) + 1
    filled = history.lengths > 0
    before = np.searchsorted(changes, history.offsets[1:] - 1, side="right")
    begun = np.concatenate([[0], changes])[before]
    return np.where(filled, np.maximum(begun, history.offsets[:-1]) - history.offsets[:-1], 0)


def _at(array: NDArray[Any] | None, places: NDArray[Any]) -> Any:
    return None if array is None else array[places]
