"""What was shown on the way: lists of items, one of which was clicked or none."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Category, Table
from foretaste.dataset import Impressions
from foretaste.ragged import PAD, Ragged
from foretaste.simulate.shop import Shop
from foretaste.simulate.texts import named
from foretaste.simulate.visits import HOME, KINDS_OF_PEOPLE, PRODUCT_PAGE, DayTables, Sessions, Views
from foretaste.simulate.words import PAGES

__all__ = ["Fillers", "Requests", "fill", "requests_of", "show"]

EXAMINED_AGAIN = 0.8  # chance that somebody who has looked at a place of a list also looks at the next
FRONT_FILLERS = 0.25  # share of the places of a category or product page that the storefront fills
CLICK_DELAY = 4000  # milliseconds between a list and the click on it


@dataclass(frozen=True, eq=False)
class Fillers:
    """What else stood on the lists: one led to each view, and one at the end of each session led nowhere."""

    of_view: NDArray[np.int32]  # (views, shown - 1)
    at_end: NDArray[np.int32]  # (sessions, shown - 1)

    @classmethod
    def empty(cls, views: int, sessions: int, shown: int) -> "Fillers":
        return cls(np.empty((views, shown - 1), np.int32), np.empty((sessions, shown - 1), np.int32))


@dataclass(frozen=True, eq=False)
class Requests:
    """Lists that were asked for, in the order of the sessions and then in time."""

    session: NDArray[np.int64]  # (requests,)
    view: NDArray[np.int64]  # (requests,) the view it led to; PAD = no click
    time: NDArray[np.int64]  # (requests,) milliseconds
    page: NDArray[np.int8]  # (requests,)
    fillers: NDArray[np.int32]  # (requests, shown - 1)


def fill(
    tables: DayTables,
    sessions: Sessions,
    chosen: NDArray[np.int64],
    views: Views,
    fillers: Fillers,
    rng: np.random.Generator,
) -> None:
    """Write into ``fillers`` what was shown in the chosen sessions, which have been walked."""
    theme = tables.truth.theme
    places = Ragged(views.item, sessions.first).positions(chosen)
    day = np.repeat(sessions.day[chosen], np.diff(sessions.first)[chosen])
    shape = fillers.at_end.shape[1]
    fillers.of_view[places] = _draw(tables, day, views.page[places] == HOME, theme[views.item[places]], shape, rng)
    last = sessions.first[1:][chosen] - 1
    at_home = np.zeros(len(chosen), bool)
    fillers.at_end[chosen] = _draw(tables, sessions.day[chosen], at_home, theme[views.item[last]], shape, rng)


def requests_of(shop: Shop, sessions: Sessions, views: Views, fillers: Fillers) -> Requests:
    """The lists behind all views, and those at the ends of the sessions, as far as the log reaches."""
    session = np.repeat(np.arange(len(sessions)), np.diff(sessions.first))
    last = sessions.first[1:] - 1
    done = sessions.time[last] + sessions.gap[last]
    ends = np.flatnonzero(done < shop.end)
    owner = np.concatenate([session, ends])
    order = np.argsort(owner, kind="stable")  # the list that led nowhere comes behind those that led to views
    time = np.concatenate([np.maximum(sessions.time - CLICK_DELAY, shop.start), done[ends]])
    return Requests(
        owner[order],
        np.concatenate([np.arange(len(session)), np.full(len(ends), PAD)])[order],
        time[order],
        np.concatenate([views.page, np.full(len(ends), PRODUCT_PAGE, np.int8)])[order],
        np.concatenate([fillers.of_view, fillers.at_end[ends]])[order],
    )


def show(
    requests: Requests,
    user: NDArray[np.int32],
    clicked: NDArray[np.int32],
    funnel: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    device: Category,
    rng: np.random.Generator,
) -> Impressions:
    """Put the clicked items among the fillers.

    A visitor examines a list from the top and may stop after every place. An item of its own appeal is clicked if it
    is examined; so, given a click, its place is distributed as examination is, whatever the item.

    Args:
        requests: Their fillers may hold an item twice; it is then shown once, and the list is shorter.
        user: (requests,)
        clicked: (requests,) PAD where there was no click.
        funnel: (requests,) whether the clicked item was put into the cart, and whether it was bought.
        device: (requests,)
    """
    keep = _first_of_each(np.column_stack([clicked, requests.fillers]))
    has_click = clicked != PAD
    keep[:, 0] = has_click
    count = keep.sum(axis=1)
    # Fillers keep their order; the clicked item takes its place and moves those behind it down.
    place = np.where(has_click, _examined_place(count, rng), count)
    row, column = np.nonzero(keep)
    order_in_list = np.cumsum(keep[:, 1:], axis=1, dtype=np.int32) - 1
    order_in_list += order_in_list >= place[:, None]
    position = np.column_stack([place, order_in_list])[row, column]
    begins = np.cumsum(count) - count
    at = np.empty(len(row), np.int64)
    at[begins[row] + position] = np.arange(len(row))
    row, column = row[at], column[at]
    is_click = column == 0
    labels = {
        "click": is_click.astype(np.int8),
        "addtocart": (is_click & funnel[0][row]).astype(np.int8),
        "purchase": (is_click & funnel[1][row]).astype(np.int8),
    }
    items = np.column_stack([clicked, requests.fillers])[row, column].astype(np.int32)
    context = Table(len(row), {"page": named(requests.page[row], PAGES), "device": device.take(row)})
    return Impressions(
        row.astype(np.int64),
        user[row],
        items,
        requests.time[row],
        position[at].astype(np.int32),
        labels,
        context,
    )


def _first_of_each(items: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(rows, places) whether an item stands in no earlier place of its row."""
    first = np.ones(items.shape, bool)
    for place in range(1, items.shape[1]):
        first[:, place] = (items[:, :place] != items[:, place, None]).all(axis=1)
    return first


def _examined_place(count: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """(rows,) a place below ``count``, with chances in proportion to EXAMINED_AGAIN ** place."""
    chance = rng.random(len(count)) * (1 - EXAMINED_AGAIN**count)
    place = np.floor(np.log1p(-chance) / np.log(EXAMINED_AGAIN)).astype(np.int64)
    return np.asarray(np.minimum(place, count - 1), np.int64)


def _draw(
    tables: DayTables,
    day: NDArray[np.int64],
    at_home: NDArray[np.bool_],
    theme: NDArray[np.int32],
    places: int,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """(lists, places) items that the shop would show to anybody: it does not know its visitors' tastes."""
    days = np.repeat(day, places)
    item_chance, way = rng.random((2, len(days)))
    front = np.repeat(at_home, places) | (way < FRONT_FILLERS)
    rest = ~front
    items = np.empty(len(days), np.int32)
    items[front] = tables.front(days[front], item_chance[front])
    items[rest] = tables.within(days[rest], KINDS_OF_PEOPLE, np.repeat(theme, places)[rest], item_chance[rest])
    return items.reshape(-1, places)
