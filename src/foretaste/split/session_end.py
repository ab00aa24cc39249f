"""The protocol of GRU4Rec: learn from earlier sessions, guess every next event of the last days' sessions."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt, field_validator

from foretaste.catalog import Catalog
from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.ragged import PAD
from foretaste.sessions import by_session, rearranged, sessions, without_repeats
from foretaste.split.by_moment import as_text, moment
from foretaste.split.parts import Part, Split, SplitRule, assembled, of_kinds, part_of_rows
from foretaste.vocab import Strings, Vocab

__all__ = ["LastSessions", "supported"]

MILLISECONDS_PER_DAY = 86_400_000


class LastSessions(SplitRule):
    """Sessions that begin in the last days are test, those before are train; a session is a stranger to all others.

    In this order, as the official preparation has it: the sessions of the log, or sessions cut by a gap between any two
    events; events of the chosen kinds; of immediate repeats the first; then sessions with too few events and items
    with too few events are dropped in turn until nothing more falls. A session that runs across the cut gives train its
    events before the cut, and its later events to nobody. Validation is cut from the end of train in the same way.

    In the result every session is a user, and only items that the tested model learns from are in the vocabulary: all
    of them are ranked, and no others.

    Source: preparation and evaluation of hidasib/gru4rec_third_party_comparison and GRU4Rec_PyTorch_Official.
    """

    kind: Literal["last_sessions"] = "last_sessions"
    days: PositiveFloat = 7
    """How long test lasts, and validation before it."""
    end: str | None = None
    """ISO time from which the days count back; by default that of the last event that is left."""
    gap_minutes: PositiveFloat = 60
    respect_sessions: bool = True
    """Keep the sessions of the log where it has them."""
    kinds: tuple[str, ...] | None = None
    """Which events count; by default "view" where the log has such a kind, else all."""
    drop_repeats: bool = True
    min_length: PositiveInt = 2
    """Events that a session must have, in the whole and again in train."""
    min_support: PositiveInt = 5
    """Events that an item must have in the whole."""
    ties: Literal["item", "log"] = "item"
    """Order of a user's events of the same time: by item, as the official preparation has it, or as in the log."""
    validation: bool = True
    refit: bool = True
    """Whether the final model learns from train and validation together, as the official one does."""

    @field_validator("end")
    @classmethod
    def _is_a_moment(cls, end: str | None) -> str | None:
        if end is not None:
            moment(end)
        return end

    def split(self, data: Dataset) -> Split:
        """Split a log with times.

        Raises:
            MissingData: The log has no times, or no kinds where some are named.
            DataError: Too little is left.
        """
        data.require(Needs.TIMES, "The split last_sessions")
        counts: dict[str, int] = {}
        log = self._prepared(data, counts)
        end = int(_times(log).max()) if self.end is None else moment(self.end)
        length = round(self.days * MILLISECONDS_PER_DAY)
        whole, test = self._cut(log, end - length, counts)
        train, validation, refit = whole, None, None
        if self.validation:
            train, validation = self._cut(whole, end - 2 * length, {})
            refit = whole if self.refit else None
        known = np.bincount((whole if refit is not None else train).item, minlength=len(log.items)) > 0
        test_part, missed = _next_events(test, known, "test", counts)
        validation_part = None
        if validation is not None:
            known_to_train = np.bincount(train.item, minlength=len(log.items)) > 0
            validation_part, _ = _next_events(validation, known_to_train, "validation", {})
        narrow = _Narrow.to(log, known)
        return assembled(
            self,
            data,
            narrow.dataset(train),
            None if validation_part is None else narrow.part(validation_part),
            narrow.part(test_part),
            refit=None if refit is None else narrow.dataset(refit),
            counts=counts,
            cuts={
                **({"validation": as_text(end - 2 * length)} if self.validation else {}),
                "test": as_text(end - length),
            },
            sentences=self._sentences(len(test_part.holdout), missed, refit is not None),
            filter_seen=False,
            missed=missed,
        )

    def _prepared(self, data: Dataset, counts: dict[str, int]) -> Dataset:
        """The log by sessions, with only the events that count; adds to ``counts`` how many fell."""
        log = _ties_by_item(data) if self.ties == "item" else data
        log = sessions(log, gap_minutes=self.gap_minutes, respect=self.respect_sessions)
        wanted = of_kinds(log, self.kinds if self.kinds is not None else _views(log))
        before = len(log)
        if wanted is not None:
            log = log.where(wanted)
        counts["events_of_other_kinds"] = before - len(log)
        before = len(log)
        if self.drop_repeats:
            log = without_repeats(log)
        counts["immediate_repeats_dropped"] = before - len(log)
        before = len(log)
        log = by_session(log)
        log = by_session(log.where(supported(log.user, log.item, self.min_length, self.min_support)))
        counts["events_of_short_sessions_and_rare_items_dropped"] = before - len(log)
        if not len(log):
            raise DataError(
                f"No event of {data.name} is left: no sessions of at least {self.min_length} events over items with at "
                f"least {self.min_support}. Lower min_length or min_support, or widen gap_minutes."
            )
        return log

    def _cut(self, log: Dataset, cut: int, counts: dict[str, int]) -> tuple[Dataset, Dataset]:
        """What to learn from before the cut, and the sessions that begin at or after it."""
        times = _times(log)
        filled = np.diff(log.offsets) > 0
        begins = np.full(len(log.users), np.iinfo(np.int64).max)
        begins[filled] = times[log.offsets[:-1][filled]]
        later = (begins >= cut)[log.user]
        before = times < cut
        counts["events_after_the_cut_of_earlier_sessions_dropped"] = int((~later & ~before).sum())
        train = log.where(before)
        long_enough = np.bincount(train.user, minlength=len(train.users)) >= self.min_length
        counts["events_of_train_sessions_cut_too_short_dropped"] = int((~long_enough[train.user]).sum())
        return train.where(long_enough[train.user]), log.where(later)

    def _sentences(self, headline: int, missed: int, refit: bool) -> list[str]:
        sentences = [
            f"Test: the sessions that begin in the last {self.days:g} days; train: the events before; "
            f"sessions have at least {self.min_length} events, items at least {self.min_support}.",
            "Every next event of a session is one query, and the history is the session so far.",
            f"The headline counts {headline:,} queries, without test events of items unknown to training, as the "
            f"official protocol has it; with these as misses there are {headline + missed:,}.",
        ]
        if refit:
            sentences.append("The final model learns from train and validation together.")
        return sentences


def supported(
    session: NDArray[np.integer], item: NDArray[np.integer], min_length: int, min_support: int
) -> NDArray[np.bool_]:
    """(events,) the most events in which every session and every item that occurs has as many events as it must."""
    keep = np.ones(len(item), bool)
    while True:
        length = np.bincount(session[keep], minlength=int(session.max(initial=-1)) + 1)
        fits = keep & (length >= min_length)[session] if len(item) else keep
        support = np.bincount(item[fits], minlength=int(item.max(initial=-1)) + 1)
        fits = fits & (support >= min_support)[item] if len(item) else fits
        if np.array_equal(fits, keep):
            return keep
        keep = fits


@dataclass(frozen=True, eq=False)
class _Narrow:
    """From all items to those that are known."""

    items: Vocab
    catalog: Catalog | None
    index: NDArray[np.int32]  # (all items,) the new index; PAD = left out

    @classmethod
    def to(cls, log: Dataset, known: NDArray[np.bool_]) -> "_Narrow":
        rows = np.flatnonzero(known)
        ids = log.items.ids
        catalog = None if log.catalog is None else Catalog(log.catalog.items.take(rows), log.catalog.users)
        index = np.where(known, np.cumsum(known) - 1, PAD).astype(np.int32)
        return cls(Vocab(ids.take(rows) if isinstance(ids, Strings) else ids[rows]), catalog, index)

    def dataset(self, data: Dataset) -> Dataset:
        return replace(data, items=self.items, item=self.index[data.item], catalog=self.catalog)

    def part(self, part: Part) -> Part:
        holdout = part.holdout
        history, targets = holdout.queries.history, holdout.targets
        queries = replace(holdout.queries, history=history.with_values(self.index[history.values]))
        return replace(
            part, holdout=replace(holdout, queries=queries, targets=targets.with_values(self.index[targets.values]))
        )


def _next_events(log: Dataset, known: NDArray[np.bool_], name: str, counts: dict[str, int]) -> tuple[Part, int]:
    """Each event but the first of each session as a query, after unknown items went; and how many queries that cost."""
    lengths = np.diff(log.offsets)
    every = int((lengths - 1).clip(0).sum())
    heard = log.where(known[log.item])
    counts[f"{name}_events_of_items_unknown_to_training_dropped"] = len(log) - len(heard)
    rows = np.arange(len(heard))
    rows = rows[rows > heard.offsets[heard.user]]
    return part_of_rows(heard, rows, name=name), every - len(rows)


def _views(log: Dataset) -> tuple[str, ...] | None:
    return ("view",) if log.kind is not None and "view" in log.kinds.names else None


def _ties_by_item(data: Dataset) -> Dataset:
    """The log with a user's events of the same time in the order of their items."""
    times = _times(data)
    tied = (np.diff(data.user) == 0) & (np.diff(times) == 0)
    if not (tied & (np.diff(data.item) < 0)).any():
        return data
    order = np.lexsort((data.item, times, data.user))
    return rearranged(data, order)


def _times(data: Dataset) -> NDArray[np.int64]:
    return np.zeros(0, np.int64) if data.time is None else data.time
