"""Identifiers and the indices that stand for them between the two ends of the library."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import DataError
from foretaste.ragged import PAD

__all__ = ["Strings", "Vocab"]


@dataclass(frozen=True, eq=False)
class Strings:
    """Many strings as one array of UTF-8 bytes, so that they can be memory-mapped and saved without pickle."""

    data: NDArray[np.uint8]  # (bytes,)
    offsets: NDArray[np.int64]  # (strings + 1,)

    @classmethod
    def from_list(cls, strings: Iterable[str]) -> "Strings":
        # A lone surrogate cannot be UTF-8; "surrogatepass" keeps even such an identifier what it was.
        encoded = [each.encode("utf-8", "surrogatepass") for each in strings]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        data = np.frombuffer(b"".join(encoded), np.uint8)
        return cls(data, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        row = range(len(self))[row]
        return bytes(self.data[self.offsets[row] : self.offsets[row + 1]]).decode("utf-8", "surrogatepass")

    def lists(self) -> list[str]:
        whole, ends = bytes(self.data), self.offsets.tolist()
        return [whole[start:end].decode("utf-8", "surrogatepass") for start, end in pairwise(ends)]

    def take(self, rows: NDArray[np.integer]) -> "Strings":
        lengths = np.diff(self.offsets)[rows]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        data = self.data[np.repeat(self.offsets[:-1][rows], lengths) + within]
        return Strings(data, np.concatenate([[0], ends]).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Vocab:
    """Distinct identifiers, all integers or all text; the index of each is its place.

    Identifiers stay what they were in the log. Asked with the other type, an integer vocabulary reads
    '17' as 17 and a text vocabulary reads 17 as '17', because CSV files, JSON and shells mix them up.
    """

    ids: NDArray[np.int64] | Strings

    @classmethod
    def from_ids(cls, ids: Iterable[int | str]) -> "Vocab":
        """The distinct identifiers in ascending order.

        Raises:
            DataError: Integers and text are mixed, or an integer does not fit into 64 bits.
        """
        distinct = set(ids)
        if all(isinstance(each, (int, np.integer)) for each in distinct):
            too_large = [each for each in distinct if not -(2**63) <= int(each) < 2**63]
            if too_large:
                raise DataError(f"The identifier {too_large[0]} does not fit into 64 bits; read the column as text.")
            return cls(np.array(sorted(distinct), np.int64))
        if all(isinstance(each, str) for each in distinct):
            return cls(Strings.from_list(sorted(distinct)))  # type: ignore[arg-type]
        types = sorted({type(each).__name__ for each in distinct})
        raise DataError(f"Identifiers must be all integers or all text; these are {' and '.join(types)}.")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> int | str:
        found = self.ids[index]
        return found if isinstance(found, str) else int(found)

    @property
    def is_text(self) -> bool:
        return isinstance(self.ids, Strings)

    def index(self, ids: Sequence[Any] | NDArray[Any]) -> NDArray[np.int32]:
        """(n,) the index of each identifier; PAD where it is unknown."""
        if isinstance(self.ids, Strings):
            index_of = self._index_of
            return np.fromiter((index_of.get(_as_text(each), PAD) for each in ids), np.int32, len(ids))
        if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu" and np.can_cast(ids.dtype, np.int64):
            return self._find_integers(ids.astype(np.int64))
        parsed = [_as_integer(each) for each in ids]
        found = self._find_integers(np.array([0 if each is None else each for each in parsed], np.int64))
        return np.where([each is None for each in parsed], PAD, found).astype(np.int32)

    def renumbered(self, indices: NDArray[np.integer], of: "Vocab | None") -> NDArray[np.int32]:
        """(n,) indices of another vocabulary in the numbers of this one; PAD where this one lacks the identifier.

        Args:
            of: The vocabulary of ``indices``, of which those beyond its end and PAD are nobody; None: this one.
        """
        known = (indices >= 0) & (indices < len(self if of is None else of))
        own = np.where(known, indices, PAD).astype(np.int32)
        if of is not None and of is not self and known.any():
            distinct, place = np.unique(indices[known], return_inverse=True)
            ids = of.lookup(distinct) if of.is_text else of.ids[distinct]
            own[known] = self.index(ids)[place]
        return own

    def lookup(self, indices: NDArray[np.integer]) -> list[int | str]:
        """The identifiers at the given places; PAD is not allowed."""
        if isinstance(self.ids, Strings):
            return self.ids.take(indices).lists()  # type: ignore[return-value]
        return list(self.ids[indices].tolist())

    def lists(self) -> list[int | str]:
        return self.ids.lists() if isinstance(self.ids, Strings) else self.ids.tolist()  # type: ignore[return-value]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to store."""
        if isinstance(self.ids, Strings):
            return {"data": self.ids.data, "offsets": self.ids.offsets}
        return {"integers": self.ids}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Vocab":
        return cls(arrays["integers"] if "integers" in arrays else Strings(arrays["data"], arrays["offsets"]))

    def extended(self, ids: Sequence[Any]) -> "Vocab":
        """This vocabulary with the identifiers that it lacks appended, in their order; old indices stay."""
        unknown = [each for each, index in zip(ids, self.index(ids), strict=True) if index == PAD]
        fresh = list(dict.fromkeys(_as_text(each) if self.is_text else _as_integer(each) for each in unknown))
        if isinstance(self.ids, Strings):
            return Vocab(Strings.from_list([*self.ids.lists(), *fresh]))  # type: ignore[list-item]
        if None in fresh:
            raise DataError("Text identifiers cannot be added to a vocabulary of integers.")
        return Vocab(np.concatenate([self.ids, np.array(fresh, np.int64)]))

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {each: index for index, each in enumerate(self.ids.lists())}  # type: ignore[union-attr]

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.ids, kind="stable")  # type: ignore[arg-type]

    def _find_integers(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        known: NDArray[np.int64] = self.ids  # type: ignore[assignment]
        if not len(known):
            return np.full(len(ids), PAD, np.int32)
        place = np.searchsorted(known, ids, sorter=self._order).clip(max=len(known) - 1)
        index = self._order[place]
        return np.where(known[index] == ids, index, PAD).astype(np.int32)


def _as_text(identifier: Any) -> str:
    return identifier if isinstance(identifier, str) else str(identifier)


def _as_integer(identifier: Any) -> int | None:
    """The identifier as a 64-bit integer; None where it is not one (it is then simply unknown)."""
    if isinstance(identifier, (bool, np.bool_)):
        return None
    if isinstance(identifier, (float, np.floating)) and not float(identifier).is_integer():
        return None
    try:
        number = int(identifier)
    except (TypeError, ValueError, OverflowError):
        return None
    # '007' is not 7: text that does not read back the same is another identifier.
    if isinstance(identifier, str) and str(number) != identifier.strip():
        return None
    return number if -(2**63) <= number < 2**63 else None
