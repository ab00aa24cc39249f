"""What the tests share: tiny logs written here, never cut from published data."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from foretaste.catalog import Catalog, Categories, Category, Number, Table, Text, Time, Vector
from foretaste.dataset import Dataset, EventKinds, Impressions
from foretaste.vocab import Strings, Vocab

DAY = 86_400_000

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("FORETASTE_DATA"):
        return
    absent = pytest.mark.skip(reason="FORETASTE_DATA names no folder of published data")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(absent)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> Iterator[None]:
    """What is encoded in a test is kept for the other tests, and not with what the user of this machine keeps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORETASTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of published data; only for tests marked ``data``."""
    return Path(os.environ["FORETASTE_DATA"])


@pytest.fixture(scope="session")
def shop() -> Dataset:
    """60 people, 15 items of which the last was never met, with everything that a log can have."""
    rng = np.random.default_rng(7)
    events, users, items = 700, 60, 15
    draw = rng.permutation(items - 1)
    item = draw[np.minimum(rng.geometric(0.15, events) - 1, items - 2)]
    user = np.concatenate([np.arange(users), rng.integers(0, users, events - users)])
    return Dataset.from_arrays(
        Vocab(Strings.from_list(f"u{number}" for number in range(users))),
        Vocab(Strings.from_list([*(f"sku-{number}" for number in range(items - 1)), "never"])),
        user,
        item,
        time=1_700_000_000_000 + rng.integers(0, 90 * DAY, events),
        kind=rng.choice(3, events, p=[0.7, 0.2, 0.1]),
        kinds=EventKinds(("view", "cart", "purchase"), (1.0, 3.0, 5.0)),
        value=np.where(rng.random(events) < 0.2, np.nan, rng.integers(1, 6, events)),
        session=np.arange(events) // 4,
        columns=event_columns(rng, events),
        catalog=Catalog(item_table(items), Table(users, {"age": Number(rng.integers(18, 80, users).astype(float))})),
        impressions=some_impressions(rng, users, items),
        name="shop",
    )


def event_columns(rng: np.random.Generator, events: int) -> Table:
    device = Category.from_list([("phone", "desk", None)[each] for each in rng.integers(0, 3, events)])
    return Table(events, {"device": device, "review": Text.from_list(["good", ""] * (events // 2))})


def item_table(items: int) -> Table:
    columns = {
        "title": Text.from_list([f"Thing no. {number}" for number in range(items)]),
        "genres": Categories.from_lists([["a", "b"][: number % 3] for number in range(items)]),
        "price": Number(np.arange(items, dtype=float)),
        "look": Vector(np.arange(2 * items, dtype=np.float32).reshape(items, 2)),
        "since": Time(np.arange(items, dtype=np.int64)),
    }
    return Table(items, columns)


def some_impressions(rng: np.random.Generator, users: int, items: int) -> Impressions:
    return Impressions(
        np.repeat(np.arange(10), 3),
        np.repeat(rng.integers(0, users, 10), 3).astype(np.int32),
        rng.integers(0, items, 30).astype(np.int32),
        1_700_000_000_000 + np.repeat(np.arange(10), 3) * DAY,
        np.tile(np.arange(3, dtype=np.int32), 10),
        {"click": rng.integers(-1, 2, 30).astype(np.int8)},
        Table(30, {"page": Category.from_list(["home"] * 30)}),
    )
