"""The page as a whole: its order, its plots, and the file."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from foretaste.evaluation.report import sections, standings
from foretaste.evaluation.report.board import Board
from foretaste.evaluation.report.comparisons import comparisons
from foretaste.evaluation.report.figures import Figure, figures
from foretaste.evaluation.report.marks import chip
from foretaste.evaluation.report.markup import Markup, joined, more, tag
from foretaste.evaluation.report.people import Example, people
from foretaste.evaluation.report.words import moment
from foretaste.storage import staged_file

__all__ = ["Example", "write_report"]


def write_report(path: Path, leaderboard: Mapping[str, Any], *, examples: Sequence[Example] = (), title: str) -> None:
    """Write one HTML file that shows a leaderboard and needs nothing beside it, neither files nor network.

    It weighs about 5 MB where there are plots, nearly all of it plotly.js. All but the plots can be read without
    JavaScript.

    Args:
        path: Written aside and then renamed.
        leaderboard: The content of leaderboard.json.
        examples: A few users to look at.
        title: The heading of the page.

    Raises:
        ForetasteError: The file cannot be written.
    """
    page = _page(Board.of(leaderboard), examples, title)
    with staged_file(path) as aside:
        # Titles may hold half of a surrogate pair, for which UTF-8 has no bytes; it becomes a question mark.
        aside.write_bytes(page.encode("utf-8", "replace"))


def _page(board: Board, examples: Sequence[Example], title: str) -> str:
    drawn = figures(board)
    shown = [
        ("measured", "What was measured", sections.measured(board)),
        ("leaderboard", "Leaderboard", standings.leaderboard(board)),
        ("checks", "Checks", [sections.checks(board)]),
        ("plots", "Plots", _plots(board, drawn)),
        ("comparisons", "Comparisons", comparisons(board)),
        ("people", "A few users", people(board, examples) if examples else []),
        ("reproduce", "How to reproduce", _reproduce(board)),
    ]
    shown = [(name, heading, content) for name, heading, content in shown if content]
    links = [tag("li", {}, tag("a", {"href": f"#{name}"}, heading)) for name, heading, _ in shown]
    body = [
        tag(
            "section",
            {"id": name, "aria-labelledby": f"{name}-heading"},
            tag("h2", {"id": f"{name}-heading"}, heading),
            content,
        )
        for name, heading, content in shown
    ]
    created = board.about.get("created")
    plotly = _plotly() if drawn else ""
    return Template(_asset("page.html")).substitute(
        title=joined(title),
        about=tag("p", {"class": "eyebrow"}, "Foretaste report", f" · {moment(str(created))}" if created else ""),
        short=sections.in_short(board),
        links=joined(links),
        body=joined(body),
        style=_asset("page.css"),
        scripts=_scripts(drawn, plotly),
        size=f" {len(plotly) / 1e6:.1f} MB of it are plotly.js, which draws the plots." if drawn else "",
    )


def _plots(board: Board, drawn: Sequence[Figure]) -> list[Markup]:
    if not drawn:
        return []
    noscript = tag(
        "noscript", {}, tag("p", {"class": "caption"}, "The plots need JavaScript; the tables hold the same numbers.")
    )
    shown = [_figure(figure) for figure in drawn]
    return [noscript, tag("div", {"class": "figures"}, shown), standings.slices(board) if board.slices else joined()]


def _figure(figure: Figure) -> Markup:
    legend = tag("div", {"class": "legend"}, [chip(row) for row in figure.legend]) if figure.legend else None
    panels = [
        tag("div", {"class": "panel", "id": panel.name, "role": "img", "aria-label": panel.label,
                    "style": f"height:{panel.height}px"})
        for panel in figure.panels
    ]  # fmt: skip
    return tag(
        "figure",
        {"class": "wide" if figure.wide else None},
        tag("h3", {}, figure.title),
        legend,
        tag("div", {"class": "panels three" if len(panels) == 3 else "panels"}, panels),
        tag("figcaption", {"class": "caption"}, figure.caption),
    )


def _reproduce(board: Board) -> list[Markup]:
    about = dict(board.about)
    command = about.pop("command", None)
    settings = [
        more(chip(row), sections.facts(row.settings, verbatim=True) or tag("p", {}, "No settings."))
        for row in (*board.rivals, *([board.oracle] if board.oracle else []), *board.absent)
    ]
    return [
        tag("pre", {"tabindex": 0}, tag("code", {}, command)) if command else joined(),
        sections.facts(about),
        tag("h3", {}, "Versions") if board.versions else joined(),
        sections.facts(board.versions, verbatim=True),
        tag("h3", {}, "Settings of each model") if settings else joined(),
        *settings,
    ]


def _scripts(drawn: Sequence[Figure], plotly: str) -> str:
    if not drawn:
        return ""
    specs = {panel.name: panel.spec for figure in drawn for panel in figure.panels}
    # Within a script element only "<" could end it.
    content = json.dumps(_finite(specs), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return (
        f'<script type="application/json" id="figures">{content}</script>\n'
        f"<script>{plotly}</script>\n<script>{_asset('page.js')}</script>"
    )


def _finite(value: Any) -> Any:
    """The same with null in place of numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _asset(name: str) -> str:
    return files("foretaste.evaluation.report").joinpath(name).read_text(encoding="utf-8")
