"""A few users, what came next for them, and what each model would have offered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foretaste.evaluation.report.board import Board
from foretaste.evaluation.report.marks import chip
from foretaste.evaluation.report.markup import Markup, joined, tag

__all__ = ["Example", "people"]

OPEN = 2  # examples that are unfolded at first
FALLBACK = "popularity"  # how the names of sources end that answer in place of a model


@dataclass(frozen=True)
class Example:
    """A test user, and the list of each model for them, by titles."""

    user: str
    history: list[str]  # latest last
    target: list[str]
    lists: Mapping[str, list[tuple[str, str, bool]]]  # model -> (title, which part answered, whether it is a target)


def people(board: Board, examples: Sequence[Example]) -> list[Markup]:
    """A card per user."""
    hits = tag("span", {"class": "hit"}, "✓ bold")
    fallback = tag("span", {"class": "fallback"}, "fallback")
    note = tag(
        "p", {}, "What each of them met before (latest last), what came next, and what each model offered: ", hits,
        " stands for an item that did come next, ", fallback,
        " for one that popularity filled in because the model had no answer.",
    )  # fmt: skip
    return [note, *(_card(board, example, opened=place < OPEN) for place, example in enumerate(examples))]


def _card(board: Board, example: Example, *, opened: bool) -> Markup:
    found = [name for name, offered in example.lists.items() if any(hit for _, _, hit in offered)]
    told = f"found by {len(found)} of {len(example.lists)} models" if found else "found by no model"
    summary = tag("summary", {}, tag("bdi", {}, f"User {example.user}"), tag("small", {}, told))
    history = [tag("li", {}, tag("bdi", {}, title)) for title in example.history]
    target = [tag("li", {"class": "target"}, tag("bdi", {}, title)) for title in example.target]
    nothing = tag("p", {"class": "caption"}, "No history: nothing is known.")
    # As on the leaderboard, best first.
    order = {row.name: place for place, row in enumerate(board.rows)}
    names = sorted(example.lists, key=lambda name: order.get(name, len(order)))
    return tag(
        "details",
        {"class": "person", "open": opened},
        summary,
        tag("h4", {}, "Met before"),
        tag("ol", {"class": "titles"}, history) if history else nothing,
        tag("h4", {}, "Came next"),
        tag("ul", {"class": "titles"}, target) if target else tag("p", {"class": "caption"}, "Not known."),
        tag("div", {"class": "lists"}, [_list(board, name, example.lists[name]) for name in names]),
    )


def _list(board: Board, name: str, offered: Sequence[tuple[str, str, bool]]) -> Markup:
    row = next((row for row in board.rows if row.name == name), None)
    items = []
    for title, source, hit in offered:
        filled = source != name and source.endswith(FALLBACK)
        items.append(
            tag(
                "li",
                {"class": " ".join([*(["hit"] if hit else []), *(["fallback"] if filled else [])]) or None},
                tag("span", {"class": "tick"}, "✓", tag("span", {"class": "unseen"}, " came next: ")) if hit else None,
                tag("bdi", {}, title),
                tag("small", {}, "fallback") if filled else None,
            )
        )
    content = tag("ol", {}, items) if items else tag("p", {"class": "caption"}, "No list.")
    return tag("div", {}, tag("h5", {}, tag("bdi", {}, name) if row is None else chip(row)), joined(content))
