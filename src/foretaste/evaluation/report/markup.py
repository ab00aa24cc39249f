"""HTML that cannot forget to escape: text becomes markup only by passing through ``tag``."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["Child", "Markup", "column", "data_table", "joined", "more", "tag"]


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


# Plain text and numbers (escaped), markup (kept), None (nothing), or a sequence of these.
Child = str | int | float | None | Sequence[Any]


def tag(name: str, attributes: Mapping[str, object] | None = None, *children: Child) -> Markup:
    """An element. Attributes that are None or False are left out, those that are True stand without a value."""
    parts = [name]
    for key, value in (attributes or {}).items():
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{escape(str(value))}"')
    return Markup(f"<{' '.join(parts)}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """The children one after the other."""
    return Markup("".join(_rendered(child) for child in children))


def column(child: Child, classes: str = "number") -> Markup:
    """A head cell of a column."""
    return tag("th", {"scope": "col", "class": classes or None}, child)


def data_table(label: str, head: Sequence[Markup], bodies: Sequence[Sequence[Markup]], classes: str = "") -> Markup:
    """A table that scrolls within its own frame.

    Args:
        label: What it holds, for those who cannot see it.
        head: The head cells.
        bodies: Groups of rows (``tr``); each group is set apart from the next.
        classes: Further classes of the table.
    """
    groups = [tag("tbody", {}, rows) for rows in bodies if rows]
    table = tag("table", {"class": classes or None}, tag("thead", {}, tag("tr", {}, list(head))), groups)
    return tag("div", {"class": "scroll", "role": "region", "aria-label": label, "tabindex": 0}, table)


def more(summary: Child, content: Child) -> Markup:
    """Something that unfolds on a click."""
    return tag("details", {}, tag("summary", {}, summary), content)


def _rendered(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return escape(str(child))
    return "".join(_rendered(each) for each in child)
