"""The event log as arrays: who met what, when, how; with what is known of items and users beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Flag, auto
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from foretaste.catalog import Catalog, Table
from foretaste.errors import DataError, MissingData
from foretaste.event_order import event_order
from foretaste.ragged import Ragged
from foretaste.storage import digest_of
from foretaste.vocab import Vocab

__all__ = ["Dataset", "EventKinds", "Impressions", "Needs"]


class Needs(Flag):
    """What a model reads of a dataset. Declared by each settings class and checked before any work."""

    NOTHING = 0
    ORDER = auto()  # the order of a user's events is meant (times, or a stated order)
    TIMES = auto()
    KINDS = auto()
    VALUES = auto()
    SESSIONS = auto()
    EVENT_TEXT = auto()
    CONTEXT = auto()  # further columns beside the events
    ITEM_TEXT = auto()
    ITEM_FEATURES = auto()
    USER_FEATURES = auto()
    IMPRESSIONS = auto()

    @classmethod
    def wanted(cls, options: Mapping["Needs", bool | None]) -> "Needs":
        """What those options read that are on."""
        return cls(sum(need.value for need, on in options.items() if on))


HOW_TO_GIVE = {
    Needs.ORDER: "name the column of times (--time-col), or say that the rows are in order (--ordered)",
    Needs.TIMES: "name the column of times (--time-col)",
    Needs.KINDS: "name the column of event kinds (--kind-col)",
    Needs.VALUES: "name the column of ratings or quantities (--value-col)",
    Needs.SESSIONS: "name the column of sessions (--session-col); sessions(data, gap_minutes=30) cuts them by gaps",
    Needs.EVENT_TEXT: "give the log a column of text, such as reviews",
    Needs.CONTEXT: "give the log further columns, such as device or page",
    Needs.ITEM_TEXT: "give the items a column of text: --items FILE",
    Needs.ITEM_FEATURES: "give a table of items: --items FILE",
    Needs.USER_FEATURES: "give a table of users: --users FILE",
    Needs.IMPRESSIONS: "read what was shown: read_impressions",
}


@dataclass(frozen=True)
class EventKinds:
    """The kinds of event, weakest first, and what each is worth."""

    names: tuple[str, ...] = ("event",)
    weights: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.weights) or len(set(self.names)) != len(self.names):
            raise DataError(f"Event kinds must be distinct, with a weight each: {self.names}, {self.weights}.")

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Impressions:
    """What was shown and what came of it, in the order of requests and positions."""

    request: NDArray[np.int64]  # (shown,) equal numbers were one list
    user: NDArray[np.int32]  # index into users; PAD = anonymous
    item: NDArray[np.int32]
    time: NDArray[np.int64]  # milliseconds since 1970, UTC
    position: NDArray[np.int32]  # 0 = first place
    labels: Mapping[str, NDArray[np.int8]]  # 1 = it happened, 0 = it did not, -1 = not known
    context: Table = field(default_factory=lambda: Table(0))  # page, device ... one row per shown item

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: NDArray[Any]) -> "Impressions":
        """The given rows, as indices or a mask."""
        return Impressions(
            self.request[rows],
            self.user[rows],
            self.item[rows],
            self.time[rows],
            self.position[rows],
            {name: label[rows] for name, label in self.labels.items()},
            self.context.take(rows) if len(self.context) else self.context,
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """Events sorted by user, then time, then position in the log (a stable sort).

    All times are milliseconds since 1970, UTC. Parts of a split share the vocabularies of the whole,
    so an index means the same everywhere.
    """

    users: Vocab
    items: Vocab
    user: NDArray[np.int32]  # (events,) index into users, ascending
    item: NDArray[np.int32]  # (events,) index into items
    time: NDArray[np.int64] | None = None
    kind: NDArray[np.int8] | None = None  # index into kinds.names
    value: NDArray[np.float32] | None = None  # rating, quantity ...; NaN = not given
    session: NDArray[np.int64] | None = None  # equal within a user = one session
    ordered: bool = False  # is the order of a user's events meant?
    kinds: EventKinds = EventKinds()
    columns: Table | None = None  # all other columns, aligned with the events
    catalog: Catalog | None = None
    impressions: Impressions | None = None
    name: str = "events"

    @classmethod
    def from_arrays(
        cls,
        users: Vocab,
        items: Vocab,
        user: NDArray[np.integer],
        item: NDArray[np.integer],
        *,
        time: NDArray[np.int64] | None = None,
        kind: NDArray[np.integer] | None = None,
        value: NDArray[np.floating] | None = None,
        session: NDArray[np.integer] | None = None,
        ordered: bool = False,
        kinds: EventKinds | None = None,
        columns: Table | None = None,
        catalog: Catalog | None = None,
        impressions: Impressions | None = None,
        name: str = "events",
    ) -> Self:
        """Sort events in any order into a dataset.

        Args:
            ordered: The rows of a user stand in their order although there are no times. With times, always so.

        Raises:
            DataError: Arrays differ in length, or an index is outside its vocabulary.
        """
        rows = len(user)
        aligned = {"item": item, "time": time, "kind": kind, "value": value, "session": session, "columns": columns}
        for called, array in aligned.items():
            if array is not None and len(array) != rows:
                raise DataError(f"{called} has {len(array)} rows where user has {rows}.")
        kinds = kinds or EventKinds()
        for called, indices, size in (
            ("user", user, len(users)),
            ("item", item, len(items)),
            ("kind", kind, len(kinds)),
        ):
            if rows and indices is not None and (indices.min() < 0 or indices.max() >= size):
                raise DataError(f"{called} holds indices outside 0..{size - 1}.")
        order = event_order(user, time)
        return cls(
            users,
            items,
            _sorted(user, order, np.int32),
            _sorted(item, order, np.int32),
            time=_sorted(time, order, np.int64),
            kind=_sorted(kind, order, np.int8),
            value=_sorted(value, order, np.float32),
            session=_sorted(session, order, np.int64),
            ordered=ordered or time is not None,
            kinds=kinds,
            columns=columns.take(order) if columns is not None and order is not None else columns,
            catalog=catalog,
            impressions=impressions,
            name=name,
        )

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {len(self):,} events, {len(self.users):,} users, {len(self.items):,} items, "
            f"has {'|'.join(each.name or '' for each in self.has) or 'NOTHING'})"
        )

    @cached_property
    def has(self) -> Needs:
        """What this dataset can give."""
        catalog = self.catalog or Catalog.empty(len(self.items), len(self.users))
        columns = self.columns or Table(len(self))
        present = {
            Needs.ORDER: self.ordered or self.time is not None,
            Needs.TIMES: self.time is not None,
            Needs.KINDS: self.kind is not None,
            Needs.VALUES: self.value is not None,
            Needs.SESSIONS: self.session is not None,
            Needs.EVENT_TEXT: bool(columns.of_kind("text")),
            Needs.CONTEXT: bool(columns.columns),
            Needs.ITEM_TEXT: bool(catalog.items.of_kind("text")),
            Needs.ITEM_FEATURES: bool(catalog.items.columns),
            Needs.USER_FEATURES: bool(catalog.users.columns),
            Needs.IMPRESSIONS: self.impressions is not None,
        }
        return Needs(sum(need.value for need, there in present.items() if there))

    def require(self, needs: Needs, who: str) -> None:
        """Raises MissingData, naming all that ``who`` needs and this dataset lacks, and how to give it."""
        lacking = [each for each in needs if each not in self.has]
        if lacking:
            names = ", ".join(str(each.name) for each in lacking)
            has = ", ".join(str(each.name) for each in self.has) or "nothing beyond users and items"
            raise MissingData(
                f"{who} needs {names}; {self.name} has {has}. To give it: "
                + "; ".join(HOW_TO_GIVE[each] for each in lacking)
                + "."
            )

    def only(self, needs: Needs) -> "Dataset":
        """This dataset stripped of everything not named: the proof that declared needs are honest."""
        catalog = self.catalog or Catalog.empty(len(self.items), len(self.users))
        items, users = catalog.items, catalog.users
        if Needs.ITEM_FEATURES not in needs:
            items = Table(items.rows, items.of_kind("text") if Needs.ITEM_TEXT in needs else {})
        if Needs.USER_FEATURES not in needs:
            users = Table(users.rows)
        columns = self.columns or Table(len(self))
        if Needs.CONTEXT not in needs:
            columns = Table(len(self), columns.of_kind("text") if Needs.EVENT_TEXT in needs else {})
        return replace(
            self,
            time=self.time if Needs.TIMES in needs else None,
            ordered=self.ordered and bool(needs & (Needs.ORDER | Needs.TIMES)),
            kind=self.kind if Needs.KINDS in needs else None,
            kinds=self.kinds if Needs.KINDS in needs else EventKinds(),
            value=self.value if Needs.VALUES in needs else None,
            session=self.session if Needs.SESSIONS in needs else None,
            columns=columns,
            catalog=Catalog(items, users),
            impressions=self.impressions if Needs.IMPRESSIONS in needs else None,
        )

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(users + 1,) where each user's events begin."""
        return np.searchsorted(self.user, np.arange(len(self.users) + 1)).astype(np.int64)

    @property
    def histories(self) -> Ragged:
        """(users) the items that each user met, oldest first.

        Raises:
            MissingData: There are neither times nor a stated order.
        """
        self.require(Needs.ORDER, "A history in order")
        return self.baskets

    @property
    def baskets(self) -> Ragged:
        """(users) the items that each user met; an order within a user may mean nothing."""
        return Ragged(self.item, self.offsets)

    def matrix(self, *, binary: bool = False) -> csr_matrix:
        """(users, items) the summed weights of the events between each user and item; 1 where ``binary``."""
        ones = np.ones(len(self), np.float32)
        matrix = csr_matrix(
            (ones if binary else self.weights(), (self.user, self.item)),
            shape=(len(self.users), len(self.items)),
            dtype=np.float32,
        )
        matrix.sum_duplicates()
        if binary:
            matrix.data.fill(1.0)
        matrix.eliminate_zeros()  # an event that is worth nothing says nothing
        return matrix

    def weights(self) -> NDArray[np.float32]:
        """(events,) what each event is worth, by its kind."""
        if self.kind is None:
            return np.ones(len(self), np.float32)
        return np.asarray(self.kinds.weights, np.float32)[self.kind]

    def where(self, keep: NDArray[np.bool_]) -> "Dataset":
        """The events for which ``keep`` (events,) is true; vocabularies and catalogue stay. Impressions stay too."""
        return replace(
            self,
            user=self.user[keep],
            item=self.item[keep],
            time=_kept(self.time, keep),
            kind=_kept(self.kind, keep),
            value=_kept(self.value, keep),
            session=_kept(self.session, keep),
            columns=None if self.columns is None else self.columns.take(np.flatnonzero(keep)),
        )

    def before(self, time: int) -> "Dataset":
        """Events, and impressions, earlier than the given moment (milliseconds)."""
        self.require(Needs.TIMES, "A cut in time")
        part = self.where(np.asarray(self.time) < time)
        shown = self.impressions
        return part if shown is None else replace(part, impressions=shown.take(shown.time < time))

    def counts(self) -> dict[str, int]:
        """How many events, and how many users and items that occur in them."""
        return {
            "events": len(self),
            "users": int(np.count_nonzero(np.diff(self.offsets))),
            "items": int(np.count_nonzero(np.bincount(self.item, minlength=len(self.items)))),
        }

    @cached_property
    def fingerprint(self) -> str:
        """A digest of ids, events with their order, kinds, tables and impressions: equal data, equal fingerprint."""
        schemas = {name: table.schema() for name, table in self.tables().items()}
        labels = None if self.impressions is None else list(self.impressions.labels)
        kinds = None if self.kind is None else (self.kinds.names, self.kinds.weights)
        return digest_of(self.arrays(), (self.ordered, kinds, labels, schemas))

    def save(self, folder: Path | str) -> None:
        """Write one .npy per array and a JSON index; ``Dataset.open`` maps them into memory without reading them."""
        from foretaste.saved_dataset import save_dataset

        save_dataset(self, Path(folder))

    @staticmethod
    def open(folder: Path | str) -> "Dataset":
        """A saved dataset, memory-mapped.

        Raises:
            BundleError: The folder holds no dataset, a torn one, or one of a newer format.
        """
        from foretaste.saved_dataset import open_dataset

        return open_dataset(Path(folder))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it holds, as flat arrays by name."""
        arrays: dict[str, NDArray[Any]] = {}
        for name in ("user", "item", "time", "kind", "value", "session"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        for name, vocab in (("users", self.users), ("items", self.items)):
            arrays |= {f"{name}.{part}": array for part, array in vocab.arrays().items()}
        for name, table in self.tables().items():
            arrays |= {f"{name}.{part}": array for part, array in table.arrays().items()}
        if self.impressions is not None:
            shown = self.impressions
            parts = {"request", "user", "item", "time", "position"}
            arrays |= {f"shown.{part}": getattr(shown, part) for part in parts}
            arrays |= {f"shown.label{number}": label for number, label in enumerate(shown.labels.values())}
        return arrays

    def tables(self) -> dict[str, Table]:
        """Its tables by name."""
        tables = {}
        if self.columns is not None:
            tables["columns"] = self.columns
        if self.catalog is not None:
            tables |= {"catalog_items": self.catalog.items, "catalog_users": self.catalog.users}
        if self.impressions is not None:
            tables["shown_context"] = self.impressions.context
        return tables


def _sorted(array: NDArray[Any] | None, order: NDArray[np.int64] | None, dtype: type) -> Any:
    if array is None:
        return None
    return np.asarray(array if order is None else array[order], dtype)


def _kept(array: NDArray[Any] | None, keep: NDArray[np.bool_]) -> NDArray[Any] | None:
    return None if array is None else array[keep]
