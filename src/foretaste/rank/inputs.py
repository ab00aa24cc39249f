"""Examples as tensors: every feature read once for each row of its own table, and gathered by batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.catalog import Number, Table
from foretaste.nets.rows import rows_taken
from foretaste.ragged import Ragged, spans
from foretaste.rank.examples import LEVELS, UNKNOWN, Examples, Level
from foretaste.rank.fields import Field, Fields
from foretaste.rank.reading import BasisReader, read_standard
from foretaste.run import Log, silent

__all__ = ["Inputs", "RankBatch", "RankBatches", "RowsOfNames", "TableInputs"]


@dataclass(frozen=True, eq=False)
class RowsOfNames:
    """The names, or the tokens, of some rows as codes, one row after another."""

    codes: Tensor  # (total,)
    offsets: Tensor  # (rows + 1,) where each row begins

    def take(self, rows: Tensor) -> Self:
        return type(self)(*rows_taken(self.codes, self.offsets, rows))

    def to(self, device: torch.device) -> Self:
        return type(self)(self.codes.to(device), self.offsets.to(device))


@dataclass(frozen=True, eq=False)
class RankBatch:
    """Some examples as a network reads them; features are in the order of ``Inputs``."""

    codes: Tensor  # (examples, features by name) int64, 0 = unknown
    bases: tuple[Tensor, ...]  # for each width: (examples, features of that width, width)
    rows: tuple[RowsOfNames, ...]  # for each feature of several names
    labels: Tensor  # (examples, tasks) float32, NaN = not known
    lists: Tensor  # (examples,) equal numbers stand in one list

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Self:
        return type(self)(
            self.codes.to(device),
            tuple(each.to(device) for each in self.bases),
            tuple(each.to(device) for each in self.rows),
            self.labels.to(device),
            self.lists.to(device),
        )


@dataclass(frozen=True, eq=False)
class TableInputs:
    """What a table tells, with a row behind its own in which nothing is known."""

    codes: Tensor  # (rows + 1, features)
    bases: tuple[Tensor, ...]  # for each width: (rows + 1, features, width)
    rows: dict[int, RowsOfNames]  # by the place of the feature among those of several codes

    @classmethod
    def of(cls, fields: Fields, level: Level, table: Table, *, answering: bool = False, log: Log = silent) -> Self:
        """Read the features of a table.

        Args:
            answering: Put what features are ``answered_as`` in their places.
        """
        there = [each for each in fields if each.level == level]
        plain = [each for each in there if each.is_plain_in(table) and not (answering and each.fixed)]
        own: dict[str, NDArray[Any] | Ragged] = {}
        if plain:
            numbers = [cast("Number", table[each.name]) for each in plain]
            together = read_standard([cast("BasisReader", each.reader) for each in plain], numbers)
            own = {each.name: together[:, place] for place, each in enumerate(plain)}
        own |= {each.name: each.read(table, answering=answering, log=log) for each in there if each.name not in own}

        def stacked(among: Sequence[Field], width: tuple[int, ...], kind: type) -> Tensor:
            found = [cast("NDArray[np.generic]", own[field.name]) for field in among if field.level == level]
            return torch.from_numpy(np.stack(found, 1) if found else np.empty((len(table) + 1, 0, *width), kind))

        several = {}
        for place, field in enumerate(fields.of_rows()):
            if field.level == level:
                ragged = cast("Ragged", own[field.name])
                several[place] = RowsOfNames(*map(torch.from_numpy, (ragged.values, ragged.offsets)))
        bases = tuple(stacked(among, (width,), np.float32) for width, among in fields.by_width().items())
        return cls(stacked(fields.of_kind("category"), (), np.int64), bases, several)


class Inputs:
    """Examples as tensors.

    The features by name come by table (requests, items, places), those of each width too; those of several names in
    the order of their declaration.
    """

    def __init__(
        self,
        fields: Fields,
        examples: Examples,
        tasks: Sequence[str],
        *,
        answering: bool = False,
        items: TableInputs | None = None,
        log: Log = silent,
    ) -> None:
        """Read all features.

        Args:
            tasks: Whose labels are wanted, in this order; those that are not there are not known.
            answering: Put what features are ``answered_as`` in their places.
            items: The table of items, where it was read already.
        """
        tables = examples.tables()
        self._levels = [
            items
            if level == "items" and items is not None
            else TableInputs.of(fields, level, tables[level], answering=answering, log=log)
            for level in LEVELS
        ]
        self._at = [None if (rows := examples.rows(level)) is None else torch.from_numpy(rows) for level in LEVELS]
        labels = np.full((len(examples), len(tasks)), np.nan, np.float32)
        for place, task in enumerate(tasks):
            if (label := examples.labels.get(task)) is not None:
                labels[:, place] = np.where(label == UNKNOWN, np.nan, label)
        self.labels = torch.from_numpy(labels)
        self.lists = torch.from_numpy(examples.request)
        self._several = len(fields.of_rows())

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, examples: Tensor) -> RankBatch:
        """The given examples (n,)."""
        at = [
            examples if rows is None else rows[examples] % len(level.codes)
            for level, rows in zip(self._levels, self._at, strict=True)
        ]
        codes = [level.codes[rows] for level, rows in zip(self._levels, at, strict=True)]
        widths = range(len(self._levels[0].bases))
        return RankBatch(
            torch.cat(codes, 1),
            tuple(
                torch.cat([level.bases[width][rows] for level, rows in zip(self._levels, at, strict=True)], 1)
                for width in widths
            ),
            tuple(self._rows(place, at) for place in range(self._several)),
            self.labels[examples],
            self.lists[examples],
        )

    def _rows(self, place: int, at: Sequence[Tensor]) -> RowsOfNames:
        return next(
            level.rows[place].take(rows) for level, rows in zip(self._levels, at, strict=True) if place in level.rows
        )


class RankBatches(Sequence[RankBatch]):
    """One epoch of examples in random order; a batch of a single example joins the one before it, or behind it.

    Norms over a batch know nothing of a single row.

    Args:
        whole: Keep lists together, in random order; a batch ends with the list that fills it.
    """

    def __init__(self, inputs: Inputs, size: int, rng: np.random.Generator, whole: bool = False) -> None:
        if whole:
            _, begin, lengths = np.unique(inputs.lists.numpy(), return_index=True, return_counts=True)
            drawn = rng.permutation(len(begin))
            order, ends = spans(begin[drawn], lengths[drawn]), np.cumsum(lengths[drawn])
            starts = [0, *ends[:-1][np.diff((ends - 1) // size) > 0].tolist()]
        else:
            order = rng.permutation(len(inputs))
            starts = list(range(0, len(order), size))
        self._inputs, self._groups = inputs, np.split(order, _without_single(starts, len(order)))

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> RankBatch:  # type: ignore[override]
        return self._inputs.batch(torch.from_numpy(self._groups[number]))


def _without_single(starts: Sequence[int], rows: int) -> list[int]:
    """Where batches but the first begin, so that none holds a single row, as long as there are two."""
    kept: list[int] = []
    for begin, end in zip(starts[1:], [*starts, rows][2:], strict=True):
        before = kept[-1] if kept else 0
        if end - begin > 1 and begin - before > 1:
            kept.append(begin)
    return kept
