"""A small log with all that may stand beside events, and what tests of EnhancedBERT4Rec share."""

import numpy as np
import torch

from foretaste.batching import Sequences
from foretaste.catalog import Catalog, Categories, Category, Number, Table, Text
from foretaste.dataset import Dataset
from foretaste.masking import MaskedBatch
from foretaste.models import EnhancedBERT4Rec
from foretaste.run import Run
from foretaste.train import TrainPlan
from foretaste.vocab import Strings, Vocab

DAY = 86_400_000
RUN = Run(seed=5, device="cpu", precision="fp32")
TINY = EnhancedBERT4Rec(dim=16, length=6, layers=2, batch_tokens=256, plan=TrainPlan(epochs=3, lr=0.01))
USERS, ITEMS, COLD = 40, 13, (10, 11, 12)  # the last items were never met; of the very last nothing is known


def film_log() -> Dataset:
    """Women meet and like comedies (even items), men war films (odd ones); ratings from 1 to 5."""
    rng = np.random.default_rng(3)
    woman = np.arange(USERS) % 2 == 0
    user = np.repeat(np.arange(USERS), 8)
    own = rng.random(len(user)) < 0.9
    item = 2 * rng.integers(0, 5, len(user)) + np.where(own, ~woman[user], woman[user])
    value = np.where(own, rng.integers(4, 6, len(user)), rng.integers(1, 3, len(user))).astype(float)
    value[::9] = np.nan
    genres = [["comedy"] if number % 2 == 0 else ["war", "drama"] for number in range(ITEMS)]
    genres[12] = []
    items = Table(
        ITEMS,
        {
            "title": Text.from_list([f"Film {number} ({1950 + number})" for number in range(12)] + ["Nothing"]),
            "genres": Categories.from_lists(genres),
        },
    )
    people = Table(
        USERS,
        {
            "gender": Category.from_list(["F" if each else "M" for each in woman]),
            "age": Number(np.where(np.arange(USERS) == 7, np.nan, 15.0 + np.arange(USERS))),
            "zip": Category.from_list([f"{number}" for number in range(USERS)]),
        },
    )
    return Dataset.from_arrays(
        Vocab(Strings.from_list(f"p{number}" for number in range(USERS))),
        Vocab(Strings.from_list(f"f{number}" for number in range(ITEMS))),
        user,
        item,
        time=1_600_000_000_000 + np.arange(len(user)) * 3 * DAY,
        value=value,
        catalog=Catalog(items, people),
        name="films",
    )


def plain(**changes) -> EnhancedBERT4Rec:
    """Without anything drawn by chance."""
    return TINY.model_copy(update={"dropout": 0.0, "item_forgetting": 0.0, "side_forgetting": 0.0, **changes})


def batch_of(films, rows=5, masked=((0, 2), (1, 0), (1, 3), (4, 5))) -> MaskedBatch:
    history = TINY.read(Sequences.of(films)).last(6).take(np.arange(rows)).padded(7)
    hidden = torch.zeros_like(history.items, dtype=torch.bool)
    for row, place in masked:
        hidden[row, place] = True
    return MaskedBatch(history, hidden)
