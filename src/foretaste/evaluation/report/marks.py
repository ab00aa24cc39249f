"""One colour and one mark per model, the same in every plot, table and list."""

from foretaste.evaluation.report.board import Row
from foretaste.evaluation.report.markup import Markup, tag

__all__ = ["chip", "colour", "mark"]

COLOURS = 8  # as many are defined in page.css, for light and for dark: --series-0, --series-1 ...

# Marks by the names plotly has for them, with their outline in a box of 12 by 12.
OUTLINES = {
    "circle": "M6 1.2a4.8 4.8 0 1 0 0 9.6a4.8 4.8 0 1 0 0-9.6Z",
    "square": "M1.6 1.6H10.4V10.4H1.6Z",
    "diamond": "M6 .4L11.6 6L6 11.6L.4 6Z",
    "triangle-up": "M6 1L11.4 10.6H.6Z",
    "triangle-down": "M6 11L.6 1.4H11.4Z",
    "hexagon": "M6 .8L10.6 3.4V8.6L6 11.2L1.4 8.6V3.4Z",
    "star": "M6 .4L7.5 4.2L11.6 4.4L8.4 7L9.5 11L6 8.7L2.5 11L3.6 7L.4 4.4L4.5 4.2Z",
    "cross": "M4.2.8H7.8V4.2H11.2V7.8H7.8V11.2H4.2V7.8H.8V4.2H4.2Z",
    "diamond-open": "M6 1.6L10.4 6L6 10.4L1.6 6Z",
}
SYMBOLS = tuple(OUTLINES)[:-1]


def colour(row: Row) -> str:
    """The name of the CSS variable that holds the colour of a model."""
    return "--oracle" if row.place is None else f"--series-{row.place % COLOURS}"


def mark(row: Row) -> str:
    """The mark of a model; where colours come round again, with another mark."""
    if row.place is None:
        return "diamond-open"
    return SYMBOLS[(row.place + row.place // COLOURS) % len(SYMBOLS)]


def chip(row: Row) -> Markup:
    """The mark of a model in its colour, and its name."""
    outline = OUTLINES[mark(row)]
    filled = {"fill": "currentColor"}
    hollow = {"fill": "none", "stroke": "currentColor", "stroke-width": 1.6}
    path = tag("path", {"d": outline, **(hollow if row.place is None else filled)})
    drawing = tag(
        "svg",
        {"class": "mark", "viewBox": "0 0 12 12", "style": f"color:var({colour(row)})", "aria-hidden": "true"},
        path,
    )
    return tag("span", {"class": "chip"}, drawing, tag("bdi", {}, row.name))
