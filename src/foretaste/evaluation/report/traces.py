"""What all plots share: the marks of a model, the axes, and where labels stand."""

from collections.abc import Sequence
from typing import Any, Literal

from foretaste.evaluation.report.board import Estimate, Row
from foretaste.evaluation.report.marks import colour, mark
from foretaste.evaluation.report.words import decimal

__all__ = ["Spec", "in_words", "label_positions", "layout", "points", "safe", "top"]

Spec = dict[str, Any]  # a part of what plotly.js reads; colours are names of CSS variables

LETTER = 6.6  # mean width of a letter of 12 pixels, and
MARK = 8.0  # half the size of a mark with some air, in pixels
HEADROOM = 1.08  # the vertical axis goes on for a little beyond the highest interval


def points(
    row: Row,
    x: Sequence[Any],
    y: Sequence[Any],
    *,
    spread: Sequence[Estimate],
    along: Literal["x", "y"],
    hover: Sequence[str],
    linked: bool = False,
) -> Spec:
    """Marks of one model with their intervals along an axis.

    Args:
        hover: What is said of each mark beside the name; already safe.
        linked: Join the marks by a line.
    """
    trace: Spec = {
        "type": "scatter",
        "mode": "lines+markers" if linked else "markers",
        "name": safe(row.name),
        "x": list(x),
        "y": list(y),
        "marker": {"symbol": mark(row), "size": 8, "color": colour(row)},
        "customdata": [f"<b>{safe(row.name)}</b><br>{words}" for words in hover],
        "hovertemplate": "%{customdata}<extra></extra>",
        "cliponaxis": False,
    }
    if row.place is None:
        trace["marker"]["line"] = {"width": 2, "color": colour(row)}
    if linked:
        trace["line"] = {"color": colour(row), "width": 1.5, "dash": "dot" if row.place is None else "solid"}
    if any(each.low is not None and each.high is not None for each in spread):
        trace[f"error_{along}"] = {
            "type": "data",
            "symmetric": False,
            "array": [0.0 if each.high is None else each.high - each.mean for each in spread],
            "arrayminus": [0.0 if each.low is None else each.mean - each.low for each in spread],
            "color": colour(row),
            "thickness": 2,
            "width": 0,
        }
    return trace


def layout(*, x: str | None, y: str | None) -> Spec:
    """Calm axes with the given titles; nothing on them zooms or pans, so that a phone scrolls past."""

    def axis(title: str | None) -> Spec:
        return {
            "title": {"text": title or "", "font": {"size": 13, "color": "--soft"}, "standoff": 10},
            "tickfont": {"size": 12, "color": "--soft"},
            "gridcolor": "--line",
            "linecolor": "--line",
            "zeroline": False,
            "automargin": True,
            "fixedrange": True,
        }

    return {
        "xaxis": axis(x),
        "yaxis": axis(y),
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "--ink"},
        "margin": {"l": 8, "r": 18, "t": 16, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": "--raised", "bordercolor": "--line", "font": {"color": "--ink", "size": 13}},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
    }


def top(estimates: Sequence[Estimate]) -> float:
    """Where an axis from 0 ends that shows all of these."""
    return HEADROOM * max((each.mean if each.high is None else each.high for each in estimates), default=0.0) or 1.0


def label_positions(names: Sequence[str], across: Sequence[float], up: Sequence[Estimate], end: float) -> list[str]:
    """Where the label of each mark stands, so that it covers as little as possible of labels, marks and intervals.

    Reckoned for axes of 300 by 240 pixels, as a phone shows them; where there is more room, less is covered still.

    Args:
        names: The labels.
        across: Horizontal places as shares of the axis, 0 to 1.
        up: Vertical ones, with their intervals, along an axis from 0 to ``end``.
        end: As above.
    """
    width, height = 300.0, 240.0
    marks = [(width * a, height * of.mean / end) for a, of in zip(across, up, strict=True)]
    taken = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in marks]
    for (x, _), of in zip(marks, up, strict=True):
        if of.low is not None and of.high is not None:
            taken.append((x - 2, height * of.low / end, x + 2, height * of.high / end))
    chosen = []
    for name, (x, y) in zip(names, marks, strict=True):
        boxes = _places_for(LETTER * len(name), x, y)
        cost = {}
        for position, box in boxes.items():
            outside = max(0.0, -box[0]) + max(0.0, box[2] - width) + max(0.0, -box[1]) + max(0.0, box[3] - height)
            cost[position] = 16 * outside + sum(_shared(box, other) for other in taken)
        position = min(boxes, key=cost.__getitem__)
        chosen.append(position)
        taken.append(boxes[position])
    return chosen


def _places_for(wide: float, x: float, y: float) -> dict[str, tuple[float, float, float, float]]:
    """The boxes (left, bottom, right, top) that a label may take beside a mark, the most pleasing first."""
    sides = {"right": (x + MARK, x + MARK + wide), "left": (x - MARK - wide, x - MARK)}
    beside = {f"middle {side}": (left, y - 8, right, y + 8) for side, (left, right) in sides.items()}
    centre = {"center": (x - wide / 2, x + wide / 2)}
    above = {f"top {side}": (left, y + 4, right, y + 20) for side, (left, right) in {**centre, **sides}.items()}
    below = {f"bottom {side}": (left, y - 20, right, y - 4) for side, (left, right) in {**centre, **sides}.items()}
    return {**beside, **above, **below}


def in_words(of: Estimate) -> str:
    """'0.1832 (0.1768 to 0.1896)', or the mean alone where there is no interval."""
    if of.low is None or of.high is None:
        return decimal(of.mean)
    return f"{decimal(of.mean)} ({decimal(of.low)} to {decimal(of.high)})"


def safe(name: str) -> str:
    """A name as text for plotly, which reads a few tags of HTML in whatever it draws."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shared(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The area that two boxes (left, bottom, right, top) have in common."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
