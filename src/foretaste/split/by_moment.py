"""One moment cuts the whole log: everything before it may be learnt from, everything after is to be guessed."""

import re
from datetime import UTC, datetime
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, model_validator

from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.split.parts import Part, Split, SplitRule, assembled, of_kinds, part_of_rows, part_of_users

__all__ = ["ByTime", "as_text", "moment"]

MILLISECONDS = {"min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
RATIOS = (0.8, 0.1, 0.1)


class ByTime(SplitRule):
    """Train, validation and test follow each other in time, for everybody at the same moments.

    An event at the very moment of a cut belongs to the later part. Say where to cut in one of three ways; by default
    80 % of the events are train, 10 % validation and 10 % test.
    """

    kind: Literal["by_time"] = "by_time"
    ratios: tuple[float, float, float] | None = None
    """Shares of the events in train, validation and test. Events of the same moment are never parted, so the real
    shares may differ; a validation share of 0 makes none."""
    dates: tuple[str, ...] | None = None
    """ISO dates or times (UTC where they do not say): when validation begins and when test begins, or test alone."""
    spans: tuple[str, ...] | None = None
    """How long validation and test last, up to the last event: ("7d", "7d"); or test alone. Units min, h, d, w."""
    queries: Literal["users", "events"] = "users"
    """"users": each user is asked once, at the cut, and all later events of the part are targets. "events": each event
    of the part is the only target of a query that knows everything its user did before."""
    min_history: NonNegativeInt = 1
    """Events that must stand before a query; with 0, people never seen are asked too."""
    target_kinds: tuple[str, ...] | None = None
    refit: bool = True
    """Whether the final model learns from train and validation together once its epochs are chosen."""

    @model_validator(mode="after")
    def _cut_in_one_way(self) -> Self:
        ways = [name for name in ("ratios", "dates", "spans") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"name only one of ratios, dates and spans, not {' and '.join(ways)}")
        if self.ratios is not None and (min(self.ratios) < 0 or abs(sum(self.ratios) - 1) > 1e-6):
            raise ValueError(f"ratios must be three shares that add up to 1; these are {self.ratios}")
        if self.ratios is not None and not (self.ratios[0] and self.ratios[2]):
            raise ValueError(f"train and test need a share above 0; ratios are {self.ratios}")
        for name in ("dates", "spans"):
            given = getattr(self, name)
            if given is not None and len(given) not in (1, 2):
                raise ValueError(f"{name} are two, for validation and test, or one, for test alone; these are {given}")
        moments = [moment(each) for each in self.dates or ()]
        if moments != sorted(set(moments)):
            raise ValueError(f"validation must begin before test; dates are {self.dates}")
        for each in self.spans or ():
            span(each)
        return self

    def split(self, data: Dataset) -> Split:
        """Split a log with times.

        Raises:
            MissingData: The log has no times, or no kinds where some are named.
            DataError: A part is left without events or queries.
            TooLarge: With ``queries="events"``, the histories together would be too long to hold.
        """
        data.require(Needs.TIMES, "The split by_time")
        if not len(data):
            raise DataError(f"{data.name} has no events to split.")
        validation_cut, test_cut = self._cuts(data)
        train = data.before(test_cut if validation_cut is None else validation_cut)
        refit = data.before(test_cut) if self.refit and validation_cut is not None else None
        counts: dict[str, int] = {}
        validation = None
        if validation_cut is not None:
            validation = self._part(data, validation_cut, test_cut, "validation", counts)
        test = self._part(data, test_cut, None, "test", counts)
        cuts = {"test": as_text(test_cut)}
        if validation_cut is not None:
            cuts = {"validation": as_text(validation_cut), **cuts}
        return assembled(
            self,
            data,
            train,
            validation,
            test,
            refit=refit,
            counts=counts,
            cuts=cuts,
            sentences=self._sentences(cuts, refit is not None),
            filter_seen=True,
        )

    def _cuts(self, data: Dataset) -> tuple[int | None, int]:
        """When validation (None = there is none) and test begin, milliseconds."""
        times = _times(data)
        if self.dates is not None:
            begins = [moment(each) for each in self.dates]
            return (None, begins[0]) if len(begins) == 1 else (begins[0], begins[1])
        if self.spans is not None:
            lengths = [span(each) for each in self.spans]
            test_cut = int(times.max()) + 1 - lengths[-1]
            return (None if len(lengths) == 1 else test_cut - lengths[0]), test_cut
        train, validation, _ = self.ratios or RATIOS
        places = [min(int(share * len(times) + 1e-9), len(times) - 1) for share in (train, train + validation)]
        in_order = np.partition(times, sorted(set(places)))
        return (int(in_order[places[0]]) if validation else None), int(in_order[places[1]])

    def _part(self, data: Dataset, begin: int, end: int | None, name: str, counts: dict[str, int]) -> Part:
        """The queries at or after ``begin`` and before ``end``; adds to ``counts`` what has no query."""
        times = _times(data)
        inside = times >= begin
        if end is not None:
            inside &= times < end
        wanted = of_kinds(data, self.target_kinds)
        targets = inside if wanted is None else inside & wanted
        counts[f"{name}_events_of_other_kinds"] = int(inside.sum() - targets.sum())
        if self.queries == "events":
            rows = np.flatnonzero(targets)
            known = rows - data.offsets[data.user[rows]] >= self.min_history
            counts[f"{name}_events_with_too_short_history"] = int((~known).sum())
            return part_of_rows(data, rows[known], name=name, empty_now=begin)
        history = times < begin
        users = len(data.users)
        has_target = np.bincount(data.user[targets], minlength=users) > 0
        has_history = np.bincount(data.user[history], minlength=users) >= self.min_history
        counts[f"{name}_users_with_too_short_history"] = int((has_target & ~has_history).sum())
        counts[f"{name}_events_with_too_short_history"] = int((targets & ~has_history[data.user]).sum())
        return part_of_users(data, has_target & has_history, history, targets, name=name, empty_now=begin)

    def _sentences(self, cuts: dict[str, str], refit: bool) -> list[str]:
        begins = f"test from {cuts['test']} on"
        if "validation" in cuts:
            begins = f"validation from {cuts['validation']} and {begins}"
        whose = (
            "Each user is asked once, at the cut, and all that they meet later in the part are targets."
            if self.queries == "users"
            else "Each event of a part is the target of a query that knows everything its user did before."
        )
        sentences = [f"The whole log is cut in time: {begins}.", whose]
        if self.min_history:
            earlier = "1 earlier event" if self.min_history == 1 else f"{self.min_history} earlier events"
            sentences.append(f"Who has not at least {earlier} is not asked.")
        if refit:
            sentences.append("The final model learns from train and validation together.")
        return [*sentences, "The moment of asking is the time of the last known event."]


def moment(text: str) -> int:
    """The milliseconds since 1970 of an ISO date or time; UTC where it does not say.

    Raises:
        ValueError: It is none.
    """
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r} is no ISO date or time such as 2024-03-01 or 2024-03-01T12:00:00Z") from error
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1000)


def span(text: str) -> int:
    """The milliseconds of a span such as ``7d`` or ``12h``.

    Raises:
        ValueError: It is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(min|h|d|w)\s*", text)
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is no span such as 7d, 12h, 90min or 2w")
    return round(float(found[1]) * MILLISECONDS[found[2]])


def as_text(milliseconds: int) -> str:
    """The moment in ISO form, UTC."""
    return f"{np.datetime64(milliseconds, 'ms')}Z".replace(".000Z", "Z")


def _times(data: Dataset) -> NDArray[np.int64]:
    return np.zeros(0, np.int64) if data.time is None else data.time
