"""The published click data of Frappe: validation and test as they are, the train part put together again.

What is known of it: two negatives were drawn for each row of frappe.csv, with its context, and all was split 7 : 2 : 1
at random. Of validation and test there are files; their positives are found in frappe.csv, row by row with their
contexts, and the rows left over are the positives of train. Its negatives are drawn anew, as many as it had, by a seed:
pairs that the user never had, with the context of a positive. So the train part is not that of the published tables,
and numbers compare only with what was measured on these very files.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["COLUMNS", "frappe_clicks"]

COLUMNS = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
USERS, ITEMS = 957, 4082
TRAIN_ROWS = 202_027  # of which so many remain for negatives as there are no positives for
Part = tuple[NDArray[np.int64], NDArray[np.int8]]  # (rows, columns) codes, each column with its own; (rows,) clicks


def frappe_clicks(folder: Path, seed: int = 0) -> dict[str, Part]:
    """Name of the part -> its codes and its clicks.

    Raises:
        ValueError: The files do not hold what they should: a positive of validation or test has no row in frappe.csv.
    """
    log = pl.read_csv(folder / "frappe.csv", separator="\t", infer_schema=False)
    rows = [tuple(row) for row in log.select(COLUMNS).iter_rows()]
    held_out = {name: list(_published(folder / f"frappe.{name}.libfm")) for name in ("validation", "test")}
    code_of = _codes(rows)
    coded = [tuple(code_of[place][value] for place, value in enumerate(row)) for row in rows]
    left = Counter(coded)
    for part in held_out.values():
        for row, click in part:
            if click:
                if not left[row]:
                    raise ValueError(f"{row} of the published files has no row left in frappe.csv")
                left[row] -= 1
    positives = np.array(sorted(left.elements()), np.int64)
    rng = np.random.default_rng(seed)
    negatives = _negatives(positives, np.array(coded, np.int64), TRAIN_ROWS - len(positives), rng)
    codes = np.concatenate([positives, negatives])
    clicks = np.repeat(np.array([1, 0], np.int8), [len(positives), len(negatives)])
    order = rng.permutation(len(codes))
    found = {"train": (codes[order], clicks[order])}
    for name, part in held_out.items():
        found[name] = (np.array([row for row, _ in part], np.int64), np.array([click for _, click in part], np.int8))
    return found


def _published(path: Path) -> Iterator[tuple[tuple[int, ...], int]]:
    """The codes of each row and whether it is a click."""
    for line in path.read_text().splitlines():
        label, *features = line.split()
        yield tuple(int(feature.partition(":")[0]) for feature in features), int(float(label) > 0)


def _codes(rows: list[tuple[str, ...]]) -> list[dict[str, int]]:
    """For each column, the code that stands for each value in the published files.

    Users are their numbers, items theirs plus 957; the values of the contexts follow, column by column, each numbered
    in the order in which frappe.csv first has it.
    """
    codes = [{row[0]: int(row[0]) for row in rows}, {row[1]: int(row[1]) + USERS for row in rows}]
    following = USERS + ITEMS
    for place in range(2, len(COLUMNS)):
        values = dict.fromkeys(row[place] for row in rows)
        codes.append({value: following + number for number, value in enumerate(values)})
        following += len(values)
    return codes


def _negatives(
    positives: NDArray[np.int64], known: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(count, columns) rows of positives with another item, which their user never had: two for each, then some."""
    items = np.unique(known[:, 1])
    had = {user: set(known[known[:, 0] == user, 1].tolist()) for user in np.unique(known[:, 0]).tolist()}
    source = np.resize(np.arange(len(positives)), 2 * len(positives))[:count]
    drawn = positives[source].copy()
    todo = np.arange(count)
    while len(todo):
        drawn[todo, 1] = rng.choice(items, len(todo))
        todo = np.array([row for row in todo.tolist() if int(drawn[row, 1]) in had[int(drawn[row, 0])]], np.int64)
    return drawn
