"""Numbers, times and names as people read them."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["MEANINGS", "count", "decimal", "duration", "flat", "listed", "moment", "readable", "signed"]

# What a metric tells, by the part of its name before the @.
MEANINGS = {
    "ndcg": "how far up the list the targets stand: 1 = all at the very top, 0 = none in the list",
    "recall": "share of the targets that are in the list",
    "hit": "share of queries with at least one target in the list",
    "mrr": "mean of 1 / rank of the first target found",
    "map": "precision at the rank of each target found, averaged over the targets",
    "precision": "share of the list that are targets",
    "coverage": "share of the catalogue that stands in at least one list",
    "novelty": "how rarely met the listed items are, in bits",
    "diversity": "how unlike the items of a list are: 0 = alike",
    "arp": "mean popularity of the listed items, in training events",
    "gini": "how unequally the places go to the items: 0 = evenly, near 1 = all to a few",
    "long_tail_recall": "recall of all but the most popular items that make up half of the events",
}

SMALL = 100  # from here on a metric (such as a popularity) needs no digits after the second


def decimal(value: float | None) -> str:
    """A metric: four digits below 1, fewer above; a dash where there is none."""
    if value is None:
        return "–"
    if abs(value) <= 1:
        return f"{value:.4f}"
    return f"{value:.2f}" if abs(value) < SMALL else f"{value:,.0f}"


def signed(value: float) -> str:
    """A difference, with a sign in front that is as wide as a plus."""
    return f"{'−' if value < 0 else '+'}{abs(value):.4f}"


def count(value: float | None) -> str:
    """A number of things, with separators; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as '0.21 s', '34 s', '2 min 05 s' or '1 h 12 min'; a dash where there are none."""
    if seconds is None:
        return "–"
    if seconds < 0.005:
        return "< 0.01 s"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(text: str) -> str:
    """An ISO time as '14 March 2026, 09:26 UTC'; anything else as it is."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    if when.tzinfo is None:
        return f"{when.day} {when:%B %Y, %H:%M}"
    return f"{when.astimezone(UTC).day} {when.astimezone(UTC):%B %Y, %H:%M} UTC"


def readable(value: Any) -> str:
    """A value out of JSON: yes and no, numbers with separators, lists with commas; a dash for null."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(readable(each) for each in value) if value else "none"
    return str(value)


def flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (dotted name, value)."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{before}{name}.")
        elif not isinstance(value, Mapping):
            yield f"{before}{name}", value


def listed(names: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
