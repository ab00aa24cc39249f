"""Columns as numbers for a network, by what training met: names as codes, numbers and times as bases of functions."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import NO_TIME, Categories, Category, Column, Number, Text, Time, Vector
from foretaste.errors import DataError
from foretaste.ragged import PAD, Ragged
from foretaste.rank.features import Feature
from foretaste.text_encoder import TextEncoder
from foretaste.vocab import Strings

__all__ = ["BasisReader", "NamesReader", "TokensReader", "as_category", "read_standard"]

UNKNOWN_NAME = 0  # the code of a name that training did not meet, and of none at all
CYCLES_MS = (86_400_000.0, 7 * 86_400_000.0, 365.2425 * 86_400_000.0)  # a day, a week, a year
WHOLE = re.compile(r"(?<=\d)\.0+$")  # behind a whole number
REMEMBERED = 1000  # of names that are hashed
FAR = 10.0  # deviations: what lies beyond says no more than that


@dataclass(frozen=True, eq=False)
class NamesReader:
    """Names as codes from 1 on; 0 is a name that training did not meet, and none at all."""

    names: Strings  # in the order of their codes; where they are hashed some of them, by which texts are split
    hashed: int | None  # so many codes that names are spread over
    _latest: list[Any] = field(default_factory=list, repr=False)  # the names that were last asked for, and their codes

    @classmethod
    def of(cls, feature: Feature, names: Strings, counts: NDArray[np.number]) -> Self:
        """The names that are to be known.

        Args:
            counts: (names,) how many examples of training have each.
        """
        if feature.hashed is not None:
            return cls(names.take(np.arange(min(len(names), REMEMBERED))), feature.hashed)
        return cls(names.take(np.flatnonzero(counts >= feature.fewest)), None)

    @property
    def size(self) -> int:
        """How many codes there are, that of the unknown included."""
        return 1 + (len(self.names) if self.hashed is None else self.hashed)

    def codes(self, names: Strings) -> NDArray[np.int64]:
        """(names,) the code of each; worked out once for the same names, as columns of one log share theirs."""
        if not self._latest or self._latest[0] is not names:
            self._latest[:] = [names, self._codes(names)]
        return np.asarray(self._latest[1])

    def _codes(self, names: Strings) -> NDArray[np.int64]:
        if self.hashed is not None:
            return np.array([1 + _digest(name) % self.hashed for name in names.lists()], np.int64)
        code = {name: number for number, name in enumerate(self.names.lists(), 1)}
        code |= {WHOLE.sub("", name): number for name, number in code.items()}
        found = [code.get(name, code.get(WHOLE.sub("", name), UNKNOWN_NAME)) for name in names.lists()]
        return np.array(found, np.int64)

    def read(self, column: Category) -> NDArray[np.int64]:
        """(rows,) the code of each row."""
        codes = np.append(self.codes(column.names), UNKNOWN_NAME)  # PAD is the last
        return codes[column.codes]

    def read_rows(self, column: Categories) -> Ragged:
        """(rows) the codes of each row, in their order."""
        return column.codes.with_values(self.codes(column.names)[column.codes.values])

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"data": self.names.data, "offsets": self.names.offsets, "hashed": np.array([self.hashed or 0])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(Strings(arrays["data"], arrays["offsets"]), int(arrays["hashed"][0]) or None)


@dataclass(frozen=True, eq=False)
class BasisReader:
    """Numbers, times or vectors as values of functions, the last of which is 1 where nothing is known, and else 0.

    - standard: (x - mean) / deviation, at most ten deviations away.
    - pieces: how far x has come through each piece between two quantiles, from 0 to 1: Gorishniy, Rubachev, Babenko,
      "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022, section 3.2. Differs: beyond the
      first and the last quantile nothing grows any more.
    - cycle: sine and cosine of where x stands in its cycle; times so for the day, the week and the year.
    - vectors: as they are, divided by the root of their mean square.
    """

    kind: str  # "standard", "pieces", "cycle", "time" or "vector"
    log: bool
    fitted: NDArray[np.float64]  # mean and deviation; the quantiles; the cycle; nothing; the size and how many numbers

    @classmethod
    def of(cls, feature: Feature, column: Number | Time | Vector, counts: NDArray[np.integer]) -> Self:
        """What training tells of a column.

        Args:
            counts: (rows,) how many examples of training have each row.
        """
        if isinstance(column, Time):
            return cls("time", False, np.empty(0))
        if isinstance(column, Vector):
            known = column.values[(counts > 0) & np.isfinite(column.values).all(1)].astype(np.float64)
            size = math.sqrt(float(np.square(known).mean())) if known.size else 1.0
            return cls("vector", False, np.array([size or 1.0, column.values.shape[1]]))
        values = np.repeat(_logged(column.values, feature.log), counts)
        values = values[_known(values)]
        if feature.cycle is not None:
            return cls("cycle", feature.log, np.array([feature.cycle]))
        if feature.pieces is not None:
            edges = np.quantile(values, np.linspace(0, 1, feature.pieces + 1)) if len(values) else np.zeros(2)
            edges = np.unique(edges)
            return cls("pieces", feature.log, edges if len(edges) > 1 else np.append(edges, edges[0] + 1))
        mean, deviation = (float(values.mean()), float(values.std())) if len(values) else (0.0, 1.0)
        return cls("standard", feature.log, np.array([mean, deviation or 1.0]))

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        widths = {"standard": 1, "pieces": len(self.fitted) - 1, "cycle": 2, "time": 2 * len(CYCLES_MS)}
        return 1 + (int(self.fitted[1]) if self.kind == "vector" else widths[self.kind])

    def read(self, column: Number | Time | Vector) -> NDArray[np.float32]:
        """(rows, width) float32.

        Raises:
            DataError: Vectors have another width than those of training.
        """
        if isinstance(column, Vector):
            if column.values.shape[1] != self.width - 1:
                raise DataError(
                    f"Vectors of {column.values.shape[1]} numbers stand where training had {self.width - 1}."
                )
            missing = np.asarray(~np.isfinite(column.values).all(axis=1))
            found = column.values / self.fitted[0]
        elif isinstance(column, Time):
            missing = column.values == NO_TIME
            found = np.concatenate([_waves(column.values, cycle) for cycle in CYCLES_MS], 1)
        else:
            values = _logged(column.values, self.log)
            missing = ~_known(values)
            found = self._functions(np.where(missing, 0.0, values))
        found = np.where(missing[:, None], 0.0, found)
        return np.concatenate([found, missing[:, None]], 1).astype(np.float32)

    def _functions(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.kind == "cycle":
            return _waves(values, float(self.fitted[0]))
        if self.kind == "pieces":
            low, high = self.fitted[:-1], self.fitted[1:]
            return np.asarray(np.clip(values[:, None] - low, 0, high - low) / (high - low))
        mean, deviation = self.fitted
        return np.asarray(np.clip((values - mean) / deviation, -FAR, FAR)[:, None])

    def arrays(self) -> dict[str, NDArray[Any]]:
        kinds = ("standard", "pieces", "cycle", "time", "vector")
        return {"fitted": self.fitted, "kind": np.array([kinds.index(self.kind), self.log])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        kinds = ("standard", "pieces", "cycle", "time", "vector")
        return cls(kinds[int(arrays["kind"][0])], bool(arrays["kind"][1]), arrays["fitted"])


@dataclass(frozen=True, eq=False)
class TokensReader:
    """Texts as the tokens that an encoder reads, for one that learns."""

    feature: Feature

    def read(self, column: Text | Category) -> Ragged:
        """(rows) the first tokens of each row; none of an empty text."""
        texts = [text or "" for text in column.lists()]
        distinct = sorted({text for text in texts if text})
        tokens = dict(zip(distinct, self._encoder.tokens(distinct, self.feature.length), strict=True))
        return Ragged.from_lists([tokens.get(text, []) for text in texts], np.int64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """None: all that it knows stands in the feature."""
        return {}

    @cached_property
    def _encoder(self) -> TextEncoder:
        return TextEncoder(self.feature.encoder)


def read_standard(readers: Sequence[BasisReader], columns: Sequence[Number]) -> NDArray[np.float32]:
    """(rows + 1, columns, 2) what each reader makes of its column, all at once; behind them a row of nothing.

    Args:
        readers: All of kind "standard".
    """
    values = np.stack([column.values for column in columns], 1)
    logged = np.array([reader.log for reader in readers])
    if logged.any():
        values = np.where(logged, _logged(values, True), values)
    mean, deviation = np.stack([reader.fitted for reader in readers]).T
    known = _known(values)
    found = np.empty((len(values) + 1, len(readers), 2), np.float32)
    found[:-1, :, 0] = np.where(known, np.clip((np.where(known, values, 0.0) - mean) / deviation, -FAR, FAR), 0.0)
    found[:-1, :, 1] = ~known
    found[-1] = (0, 1)
    return found


def as_category(column: Column) -> Category | None:
    """A column of names, numbers or texts as one of names; None where it is of another kind.

    Whole numbers are named alike whether they were written as 7 or 7.0, as they are where a column has gaps.
    """
    if isinstance(column, Category):
        return column
    if isinstance(column, Text):
        return Category.from_list([text or None for text in column.lists()])
    if isinstance(column, Number):
        distinct, codes = np.unique(column.values, return_inverse=True)
        names = ["" if math.isnan(each) else _name(each) for each in distinct.tolist()]
        return Category(np.where(np.isnan(column.values), PAD, codes).astype(np.int32), Strings.from_list(names))
    return None


def _name(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


def _digest(name: str) -> int:
    name = WHOLE.sub("", name)
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _logged(values: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    return np.sign(values) * np.log1p(np.abs(values)) if log else values


def _known(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which are numbers at all, and not beyond what float32 holds."""
    return np.abs(values) <= np.finfo(np.float32).max


def _waves(values: NDArray[Any], cycle: float) -> NDArray[np.float64]:
    angles = 2 * math.pi * np.remainder(values / cycle, 1.0)
    return np.stack([np.sin(angles), np.cos(angles)], 1)
