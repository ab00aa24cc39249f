"""The columns of a log, read batch by batch into arrays; read again where the first reading was too trusting."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from foretaste.events.identifiers import IdColumn
from foretaste.events.parts import NeedsCare, Part
from foretaste.events.times import TimeColumn, TimeUnit
from foretaste.events.typed_columns import NumberColumn, TypedColumn, TypesChanged

__all__ = ["Gathered", "gather"]

ID_ROLES = ("user", "item", "kind", "session", "request")


@dataclass
class Gathered:
    """The columns of a log, each by its role or, where it has none, by its name."""

    roles: dict[str, str]  # role -> name of the column
    ids: dict[str, IdColumn]
    time: TimeColumn | None
    numbers: dict[str, NumberColumn]
    others: dict[str, TypedColumn] = field(default_factory=dict)
    rows_of_part: list[int] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(self.rows_of_part)


def gather(
    parts: Sequence[Part],
    roles: Mapping[str, str],
    time_unit: TimeUnit | None = None,
    texts: Iterable[str] = (),
) -> Gathered:
    """Read all parts, as often as it takes.

    Args:
        texts: Columns whose values stay as they are written, whatever they look like.

    Raises:
        DataError: A part cannot be read.
    """
    texts = set(texts)
    while True:
        gathered = _begun(roles, time_unit)
        try:
            for part in parts:
                _read(part, gathered, texts)
        except TypesChanged as change:
            texts.add(change.name)
        except NeedsCare as found:
            found.part.be_careful()
        else:
            return gathered


def _begun(roles: Mapping[str, str], time_unit: TimeUnit | None) -> Gathered:
    ids = {role: IdColumn(name) for role, name in roles.items() if role in ID_ROLES}
    time = TimeColumn(roles["time"], time_unit) if "time" in roles else None
    numbers = {role: NumberColumn(name) for role, name in roles.items() if role not in ID_ROLES and role != "time"}
    return Gathered(dict(roles), ids, time, numbers)


def _read(part: Part, gathered: Gathered, texts: set[str]) -> None:
    taken: dict[str, Callable[[pl.Series], None]] = {}
    taken |= {gathered.roles[role]: column.add for role, column in gathered.ids.items()}
    taken |= {gathered.roles[role]: column.add for role, column in gathered.numbers.items()}
    if gathered.time is not None:
        taken[gathered.roles["time"]] = gathered.time.add
    gathered.rows_of_part.append(0)
    for frame in part.batches():
        for name in (name for name in frame.columns if name not in taken and name not in gathered.others):
            gathered.others[name] = TypedColumn(name, text=name in texts, rows=gathered.rows)
        for name, add in (*taken.items(), *((name, column.add) for name, column in gathered.others.items())):
            add(frame[name] if name in frame.columns else pl.Series(name, [None]).new_from_index(0, len(frame)))
        gathered.rows_of_part[-1] += len(frame)
