"""The simulated shop as a dataset, with the truth beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Column, Number, Table
from foretaste.dataset import Dataset, EventKinds, Impressions
from foretaste.ragged import PAD
from foretaste.run import Run
from foretaste.simulate.draw import Goods, People, draw_shop
from foretaste.simulate.oracle import Oracle
from foretaste.simulate.shop import Shop
from foretaste.simulate.shown import Fillers, fill, requests_of, show
from foretaste.simulate.texts import item_vocab, named, reviews, user_vocab, write_catalog
from foretaste.simulate.truth import Truth
from foretaste.simulate.visits import Sessions, Views, batches, draw_sessions, walk
from foretaste.simulate.words import DEVICES, PAGES

__all__ = ["World", "simulate"]

KINDS = EventKinds(("view", "addtocart", "purchase"), (1.0, 3.0, 5.0))
PURCHASE = 2
RATED = 0.6  # share of the purchases that are rated
REVIEWED = 0.7  # share of the ratings with a review
DISCOUNTS = np.array([0.0, 0.0, 0.0, 0.1, 0.2])  # equally likely
OTHER_DEVICE = 0.15  # chance that a session is not on the user's usual device


@dataclass(frozen=True, eq=False)
class World:
    """What a log would show of the shop, and what is true of it.

    Kinds are view < addtocart < purchase. Only purchases have a value, the stars given (1 to 5; NaN = not rated), a
    review (empty = none) and a price paid (euros). These stand beside the purchase that they are about.
    """

    data: Dataset
    truth: Truth

    def oracle(self, *, next: Literal["event", "view"] = "event", asked_at: int | None = None) -> Oracle:
        """Who ranks items by their true chances.

        Args:
            next: What is asked for. With "view", carts and purchases are passed over, as fits targets of kind view.
            asked_at: For a split by time: the moment of the cut, in milliseconds. All are then known to have done
                nothing between their last event and the cut, and what arrived or went viral until the cut is known,
                as it is to models trained on the log up to there. None: each query is asked at its ``now``.
        """
        return Oracle(self.truth, next, asked_at)

    def write(self, folder: Path | str) -> None:
        """Write events.csv, items.csv, users.csv and impressions.csv into a folder of their own.

        Raises:
            ForetasteError: The folder holds other things, or cannot be written.
        """
        from foretaste.simulate.files import write_files

        write_files(self.data, Path(folder))


def simulate(shop: Shop | None = None) -> World:
    """Open the shop for some weeks and write down what happens. By default, the shop of the demo."""
    shop = shop or Shop()
    run = Run(seed=shop.seed)
    truth, goods, people = draw_shop(shop)
    sessions = draw_sessions(truth, people, run)
    count = len(sessions.time)
    views = Views(np.empty(count, np.int32), np.empty(count, np.int8), np.empty(count))
    fillers = Fillers.empty(count, len(sessions), shop.shown)
    visits, lists = run.rng("simulate", "walk"), run.rng("simulate", "lists")
    for tables, chosen in batches(truth, sessions):
        walk(tables, sessions, chosen, views, visits)
        fill(tables, sessions, chosen, views, fillers, lists)
    outcome = _draw_outcome(truth, people, sessions, views, run)
    arrays = _events(goods, sessions, views, outcome)
    first_visit = sessions.time[sessions.first[np.searchsorted(sessions.user, np.arange(shop.users))]]
    data = Dataset.from_arrays(
        user_vocab(shop.users),
        item_vocab(goods),
        **arrays,
        kinds=KINDS,
        catalog=write_catalog(truth, goods, people, first_visit),
        impressions=_impressions(shop, sessions, views, fillers, outcome, run),
        name="simulated",
    )
    return World(data, truth)


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What came of each view, and on which device each session was."""

    device: NDArray[np.int64]  # (sessions,)
    cart: NDArray[np.bool_]  # (views,)
    purchase: NDArray[np.bool_]  # (views,)
    stars: NDArray[np.int64]  # (views,) 1 to 5; 0 = not rated
    wording: NDArray[np.float64]  # (views,) which review; NaN = none
    discount: NDArray[np.float64]  # (views,) share of the price


def _draw_outcome(truth: Truth, people: People, sessions: Sessions, views: Views, run: Run) -> _Outcome:
    rng = run.rng("simulate", "funnel")
    count, end = len(views.item), truth.shop.end
    will_cart, will_buy, will_rate, will_review, wording = rng.random((5, count))
    time_of_cart, time_of_purchase = _funnel_times(sessions)
    cart = (will_cart < truth.cart_chance(views.liking)) & (time_of_cart < end)
    purchase = cart & (will_buy < truth.purchase_chance(views.liking)) & (time_of_purchase < end)
    stars = np.clip(np.rint(2.6 + 0.9 * views.liking + rng.normal(0, 0.7, count)), 1, 5).astype(np.int64)
    stars[~purchase | (will_rate >= RATED)] = 0
    usual = people.device[sessions.user]
    other = rng.integers(0, len(DEVICES), len(sessions))
    return _Outcome(
        np.where(rng.random(len(sessions)) < OTHER_DEVICE, other, usual),
        cart,
        purchase,
        stars,
        np.where((stars > 0) & (will_review < REVIEWED), wording, np.nan),
        rng.choice(DISCOUNTS, count),
    )


def _funnel_times(sessions: Sessions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(views,) when an item would be put into the cart, and bought: while the visitor is busy with it."""
    return sessions.time + sessions.gap * 3 // 10, sessions.time + sessions.gap * 6 // 10


def _events(goods: Goods, sessions: Sessions, views: Views, outcome: _Outcome) -> dict[str, Any]:
    """The arrays of the dataset, by user and then time: each view with what of the funnel follows it."""
    stages = 1 + outcome.cart.astype(np.int64) + outcome.purchase
    view = np.repeat(np.arange(len(stages)), stages)
    kind = np.arange(len(view)) - np.repeat(np.cumsum(stages) - stages, stages)
    session = np.repeat(np.arange(len(sessions)), np.diff(sessions.first))[view]
    bought = kind == PURCHASE
    stars = np.where(bought, outcome.stars[view], 0)
    reviewed = bought & ~np.isnan(outcome.wording[view])
    paid = np.round(goods.price[views.item] * (1 - outcome.discount), 2)[view]
    columns: dict[str, Column] = {
        "page": named(views.page[view], PAGES),
        "device": named(outcome.device[session], DEVICES),
        "price_paid": Number(np.where(bought, paid, np.nan)),
        "review": reviews(np.where(reviewed, stars, 0), np.where(reviewed, outcome.wording[view], 0.0)),
    }
    return {
        "user": sessions.user[session],
        "item": views.item[view],
        "time": np.choose(kind, [sessions.time[view], *(times[view] for times in _funnel_times(sessions))]),
        "kind": kind,
        "value": np.where(stars > 0, stars, np.nan).astype(np.float32),
        "session": session,
        "columns": Table(len(view), columns),
    }


def _impressions(
    shop: Shop, sessions: Sessions, views: Views, fillers: Fillers, outcome: _Outcome, run: Run
) -> Impressions:
    requests = requests_of(shop, sessions, views, fillers)
    clicked = requests.view != PAD
    return show(
        requests,
        sessions.user[requests.session],
        np.where(clicked, views.item[requests.view], PAD).astype(np.int32),
        (clicked & outcome.cart[requests.view], clicked & outcome.purchase[requests.view]),
        named(outcome.device[requests.session], DEVICES),
        run.rng("simulate", "positions"),
    )
