"""The result in short, what was measured, the checks: the parts of the page that are mostly sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from foretaste.evaluation.report.board import Board
from foretaste.evaluation.report.markup import Markup, joined, more, tag
from foretaste.evaluation.report.words import count, decimal, flat, listed, moment, readable

__all__ = ["checks", "facts", "in_short", "measured"]


# How a check is called on the page, and how it is coloured, by its severity.
SEVERITIES = {
    "issue": ("Issue", "bad"),
    "error": ("Error", "bad"),
    "warning": ("Warning", "bad"),
    "tip": ("Tip", "note"),
}


def in_short(board: Board) -> Markup:
    """The result in a few sentences."""
    if not board.rivals:
        return tag("p", {"class": "lede"}, "No model has numbers; the table says why.")
    best, of = board.rivals[0], board.rivals[0].metrics[board.primary]
    between = f" (95% interval {decimal(of.low)} to {decimal(of.high)})" if of.low is not None else ""
    over = "" if of.n is None else f" over {count(of.n)} queries"
    verb = "leads with" if len(board.rivals) > 1 else "has"
    parts: list[Any] = [
        tag("strong", {}, tag("bdi", {}, best.name)),
        f" {verb} ",
        tag("strong", {}, f"{board.primary} {decimal(of.mean)}"),
    ]
    parts.append(f"{between}{over}.")
    tied = [row.name for row in board.rivals[1:] if board.tied(best, row)]
    if tied:
        parts.append(f" It cannot be told apart from {listed(tied)}.")
    if board.oracle is not None and board.oracle.metrics[board.primary].mean > 0:
        share = of.mean / board.oracle.metrics[board.primary].mean
        parts.append(f" That is {share:.0%} of the best possible, which is known here because the shop is simulated.")
    issues = sum(_severity(each)[1] == "bad" for each in board.checks)
    tips = len(board.checks) - issues
    found = [
        f"{number} {word}{'' if number == 1 else 's'}" for number, word in ((issues, "issue"), (tips, "tip")) if number
    ]
    parts.append(f" The checks found {listed(found)}." if found else " The checks found nothing to doubt.")
    return tag("p", {"class": "lede"}, parts)


def measured(board: Board) -> list[Markup]:
    """Which data, how it was split and judged, and what leaks."""
    data = {name: value for name, value in board.dataset.items() if name != "counts"}
    if isinstance(data.get("span"), list | tuple):
        data["span"] = " to ".join(moment(str(each)) for each in data["span"])
    counts = board.dataset.get("counts") or {}
    tiles = [
        tag("div", {}, tag("dt", {}, _plain(name)), tag("dd", {}, readable(value))) for name, value in flat(counts)
    ]
    protocol = {name: value for name, value in board.protocol.items() if name != "sentences"}
    leaks = {name: value for name, value in board.leaks.items() if name not in ("sentences", "unchecked")}
    return [
        tag("dl", {"class": "tiles"}, tiles) if tiles else joined(),
        facts(data),
        tag("h3", {}, "How it was split and judged"),
        _sentences(board.protocol.get("sentences") or (), "The protocol is not described in words."),
        more("All settings of the protocol", facts(protocol)) if protocol else joined(),
        tag("h3", {}, "What could leak"),
        _sentences(board.leaks.get("sentences") or (), "No leak report was made."),
        more("All counts of the leak report", facts(leaks)) if leaks else joined(),
    ]


def checks(board: Board) -> Markup:
    """The findings in words."""
    if not board.checks:
        return tag("p", {}, "No check found anything to doubt.")
    items = []
    for each in board.checks:
        called, kind = _severity(each)
        label = tag("span", {"class": f"badge {kind}"}, called)
        items.append(
            tag("li", {}, tag("span", {"class": "sign"}, label, tag("code", {}, each.get("code"))),
                tag("span", {}, each.get("text")))
        )  # fmt: skip
    return tag("ul", {"class": "checks"}, items)


def facts(content: Mapping[str, Any], *, verbatim: bool = False) -> Markup:
    """Names and values, nothing for nothing.

    Args:
        content: Where it is nested, names are joined.
        verbatim: Keep the names as one would type them, such as plan.weight_decay.
    """
    items = [(name if verbatim else _plain(name), value) for name, value in flat(content) if value is not None]
    if not items:
        return joined()
    pairs = [
        tag("div", {}, tag("dt", {}, name), tag("dd", {}, tag("bdi", {}, readable(value)))) for name, value in items
    ]
    return tag("dl", {"class": "facts"}, pairs)


def _plain(name: str) -> str:
    return name.replace("_", " ").replace(".", ": ")


def _sentences(sentences: Sequence[str], otherwise: str) -> Markup:
    items = []
    for sentence in sentences or (otherwise,):
        leak = str(sentence).startswith("LEAK")
        badge = tag("span", {"class": "badge bad"}, "Leak") if leak else None
        items.append(tag("li", {"class": "leak" if leak else None}, badge, str(sentence).removeprefix("LEAK: ")))
    return tag("ul", {"class": "sentences"}, items)


def _severity(check: Mapping[str, Any]) -> tuple[str, str]:
    severity = str(check.get("severity") or "tip")
    return SEVERITIES.get(severity, (severity.capitalize(), "note"))
