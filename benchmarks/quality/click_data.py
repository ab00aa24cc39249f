"""Tables of clicks to compare rankers on: every library reads the same codes of the same rows."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from frappe_clicks import COLUMNS, frappe_clicks
from numpy.typing import NDArray

from foretaste.catalog import Category, Table
from foretaste.dataset import Dataset
from foretaste.errors import DataError, UnknownName
from foretaste.experiment import load_data
from foretaste.rank.examples import Examples
from foretaste.rank.metrics import auc, calibration_error, grouped_auc, log_loss
from foretaste.recipe import DataSettings
from foretaste.run import Run
from foretaste.vocab import Strings

__all__ = ["PARTS", "SHARES", "TASK", "Clicks", "Part", "Predicted", "clicks_of"]

Predicted = Mapping[str, NDArray[np.floating]]  # task -> chances
TASK = "click"
JUDGED = {"auc": auc, "log_loss": log_loss, "calibration_error": calibration_error}

PARTS = ("train", "validation", "test")
SHARES = (0.7, 0.2, 0.1)  # of users, or of time
LIKED = 4  # stars from which on somebody liked it
UNKNOWN = 0  # the code of what train does not have


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of a table: a list is what one person was asked about."""

    codes: NDArray[np.int64]  # (rows, columns)
    labels: NDArray[np.int8]  # (rows,) 1 = came
    lists: NDArray[np.int64]  # (rows,) the person

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Clicks:
    """A table in three parts, with the codes that train has numbered from 1 on in each column; 0 = not in train."""

    columns: tuple[str, ...]
    parts: Mapping[str, Part]
    words: tuple[str, ...]  # how the parts were made

    @classmethod
    def of(cls, columns: tuple[str, ...], raw: Mapping[str, Part], words: tuple[str, ...]) -> "Clicks":
        known = [np.unique(raw["train"].codes[:, place]) for place in range(len(columns))]
        parts = {}
        for name, part in raw.items():
            codes = np.empty_like(part.codes)
            for place, there in enumerate(known):
                at = np.searchsorted(there, part.codes[:, place]).clip(max=len(there) - 1)
                codes[:, place] = np.where(there[at] == part.codes[:, place], at + 1, UNKNOWN)
            parts[name] = Part(codes, part.labels, part.lists)
        return cls(columns, parts, words)

    @property
    def sizes(self) -> list[int]:
        """How many codes each column has, the unknown one included."""
        return [int(most) + 1 for most in self.parts["train"].codes.max(0)]

    def examples(self, name: str) -> Examples:
        """A part for our ranker."""
        return self._examples(name)[0]

    def told(self, name: str, predicted: Predicted) -> Predicted:
        """What a ranker of ours says of a part, in the order of its rows."""
        order = self._examples(name)[1]
        chances = np.empty(len(order), np.float32)
        chances[order] = predicted[TASK]
        return {TASK: chances}

    def judged(self, name: str, predicted: Predicted) -> dict[str, float]:
        """Metric -> value, of what any ranker says of the rows of a part."""
        part, chances = self.parts[name], predicted[TASK]
        found = {metric: float(of(part.labels, chances)) for metric, of in JUDGED.items()}
        return found | {"grouped_auc": float(grouped_auc(part.lists, part.labels, chances))}

    def about(self) -> dict[str, Any]:
        """What a result keeps of them."""
        return {
            "fingerprint": self.fingerprint(),
            "rows": {name: len(part) for name, part in self.parts.items()},
            "positives": {name: int(part.labels.sum()) for name, part in self.parts.items()},
            "columns": list(self.columns),
            "words": list(self.words),
        }

    def _examples(self, name: str) -> tuple[Examples, NDArray[np.int64]]:
        """A part for our ranker, and (rows,) the row of the part that each example is."""
        part = self.parts[name]
        table = Table(
            len(part),
            {
                column: Category(
                    (part.codes[:, place] - 1).astype(np.int32), Strings.from_list(map(str, range(1, size)))
                )
                for place, (column, size) in enumerate(zip(self.columns, self.sizes, strict=True))
            },
        )
        return Examples.of_rows(table, part.lists, {TASK: part.labels})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For the libraries that run in an environment of their own."""
        found: dict[str, NDArray[Any]] = {"columns": np.array(self.columns), "sizes": np.array(self.sizes)}
        for name, part in self.parts.items():
            found |= {f"{name}.codes": part.codes, f"{name}.labels": part.labels}
        return found

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(repr(self.columns).encode(), digest_size=12)
        for name in PARTS:
            for array in (self.parts[name].codes, self.parts[name].labels, self.parts[name].lists):
                digest.update(np.ascontiguousarray(array).data.cast("B"))
        return digest.hexdigest()


def clicks_of(name: str, data_dir: Path, run: Run) -> Clicks:
    """The table of a name.

    Raises:
        UnknownName: There is none.
        DataError: Its files are not there.
    """
    if name not in TABLES:
        raise UnknownName("table of clicks", name, TABLES)
    return TABLES[name](data_dir, run)


def _frappe(data_dir: Path, run: Run) -> Clicks:
    raw = {name: Part(codes, labels, codes[:, 0]) for name, (codes, labels) in _published(data_dir).items()}
    words = (
        "Validation and test are the published files. The positives of train are the rows of the log that are in "
        "neither, its negatives are drawn anew with seed 0, as many as it had, so these numbers compare with each "
        "other and only roughly with those in print.",
    )
    return Clicks.of(COLUMNS, raw, words)


def _frappe_users(data_dir: Path, run: Run) -> Clicks:
    parts = _published(data_dir)
    codes = np.concatenate([parts[name][0] for name in PARTS])
    labels = np.concatenate([parts[name][1] for name in PARTS])
    users = np.unique(codes[:, 0])
    drawn = np.random.default_rng(0).permutation(users)
    bounds = np.round(np.cumsum(SHARES) * len(users)).astype(int)
    raw = {}
    for name, begin, end in zip(PARTS, [0, *bounds], bounds, strict=False):
        there = np.isin(codes[:, 0], drawn[begin:end])
        raw[name] = Part(codes[there], labels[there], codes[there, 0])
    words = (
        "All rows of the published table together; seven tenths of the people are train, two validation and one test, "
        "drawn with seed 0, each with all their rows. Nobody of validation and test is in train.",
    )
    return Clicks.of(COLUMNS, raw, words)


def _published(data_dir: Path) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int8]]]:
    folder = data_dir / "frappe"
    if not (folder / "frappe.csv").exists():
        raise DataError(f"{folder} holds no frappe.csv.")
    return frappe_clicks(folder)


def _movies(data_dir: Path, run: Run) -> Clicks:
    data = load_data(DataSettings(source="ml-100k"), "random", data_dir, run).data
    if data.time is None or data.value is None:
        raise DataError("ml-100k has no times or no ratings.")
    columns = _movie_columns(data)
    codes = np.stack(list(columns.values()), 1)
    labels = (data.value >= LIKED).astype(np.int8)
    cuts = np.quantile(data.time, np.cumsum(SHARES)[:2])
    of_part = np.searchsorted(cuts, data.time, side="right")
    raw = {
        name: Part(codes[of_part == number], labels[of_part == number], data.user[of_part == number].astype(np.int64))
        for number, name in enumerate(PARTS)
    }
    words = (
        f"Every rating is a row, from {LIKED} stars on it was liked. The first seven tenths of the time are train, the "
        "next two validation, the last one is test, so most people of the test are new.",
    )
    return Clicks.of(tuple(columns), raw, words)


def _movie_columns(data: Dataset) -> dict[str, NDArray[np.int64]]:
    """(ratings,) codes of who rates what and when, and of what is known of both."""
    if data.catalog is None or data.time is None:
        raise DataError("ml-100k has no tables.")
    people, films = data.catalog.users, data.catalog.items
    hours = data.time // 3_600_000
    of_user = {
        "age": [None if age is None else age // 5 for age in people["age"].lists()],
        "gender": people["gender"].lists(),
        "occupation": people["occupation"].lists(),
        "zip": [str(code or "")[:2] for code in people["zip"].lists()],
    }
    of_item = {
        "genres": ["|".join(names) for names in films["genres"].lists()],
        "genre": [next(iter(names), None) for names in films["genres"].lists()],
        "year": films["year"].lists(),
    }
    return {
        "user": data.user.astype(np.int64),
        "item": data.item.astype(np.int64),
        **{name: _coded(values)[data.user] for name, values in of_user.items()},
        **{name: _coded(values)[data.item] for name, values in of_item.items()},
        "weekday": (hours // 24 + 3) % 7,
        "hour": hours % 24,
    }


def _coded(values: list[Any]) -> NDArray[np.int64]:
    codes = {value: code for code, value in enumerate(dict.fromkeys(values))}
    return np.array([codes[value] for value in values], np.int64)


TABLES: Mapping[str, Callable[[Path, Run], Clicks]] = {
    "frappe": _frappe,
    "frappe-users": _frappe_users,
    "ml-100k-time": _movies,
}
