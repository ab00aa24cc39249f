"""Which column of a log is what: as given, or guessed from its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import polars as pl

from foretaste.errors import DataError, UnknownName

__all__ = ["GUESSED", "NAMES", "Columns", "guess_columns", "guess_positions"]


@dataclass(frozen=True)
class Columns:
    """Which column of a log is what; None: guessed from its name."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    kind: str | None = None
    value: str | None = None
    session: str | None = None

    def given(self) -> dict[str, str]:
        """The columns that are named, by their role."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {role: name for role, name in named.items() if name is not None}


GUESSED = Columns()  # no column is given

# Earlier names are taken first. Case, '_', '-', '.' and spaces do not count.
NAMES: dict[str, list[str]] = {
    role: names.split()
    for role, names in {
        "user": "userid user visitorid reviewerid customerid customer clientid client memberid accountid account "
        "profileid buyerid shopperid visitor reviewer useridx usernum uid userindex usernumber",
        "item": "itemid item parentasin asin productid product movieid movie articleid article sku skuid trackid track "
        "songid bookid isbn videoid video goodsid contentid docid documentid newsid offerid adid businessid gameid "
        "appid iid stockcode poiid locationid artistid",
        "time": "timestamp unixreviewtime datetime eventtime eventtimestamp time ts timestampms createdat created "
        "eventdate reviewtime invoicedate orderdate purchasedate date",
        "kind": "event eventtype eventkind eventname kind behavior behaviour behaviortype behaviourtype action "
        "actiontype interaction interactiontype",
        "value": "rating overall value quantity qty score stars ratings playcount plays count cnt",
        "session": "sessionid session visitid usersession sessid",
    }.items()
}
OPTION = {"user": "--user-col", "item": "--item-col"}


def normal(name: str) -> str:
    """A column's name as it is compared."""
    return "".join(each for each in name.lower() if each not in "_-. ")


def guess_columns(
    present: Sequence[str],
    given: Mapping[str, str],
    where: str,
    names: Mapping[str, Sequence[str]] = NAMES,
    needed: Sequence[str] = ("user", "item"),
) -> tuple[dict[str, str], list[str]]:
    """What each role's column is called, and sentences that say what was guessed.

    Args:
        given: role -> name of its column.
        names: role -> names by which its column is known, the best first.

    Raises:
        UnknownName: A given column is not there.
        DataError: A needed column is neither given nor to be guessed, or one column has two roles.
    """
    chosen = dict(given)
    for name in chosen.values():
        if name not in present:
            raise UnknownName(f"column of {where}", name, present)
    twice = [name for name in chosen.values() if list(chosen.values()).count(name) > 1]
    if twice:
        raise DataError(f"Column {twice[0]!r} is given for two things. Name one column for each.")
    said = [f"{role}: column {name!r}, as given" for role, name in chosen.items()]
    by_name: dict[str, str] = {}
    for name in present:
        if name not in chosen.values():
            by_name.setdefault(normal(name), name)
    for role, known in names.items():
        found = [by_name[each] for each in known if each in by_name]
        if role in chosen or not found:
            continue
        chosen[role] = found[0]
        others = f" (not {', '.join(map(repr, found[1:]))})" if found[1:] else ""
        said.append(f"{role}: column {found[0]!r}{others}")
    if "user" in needed and "user" not in chosen and "session" in chosen:
        chosen["user"] = chosen.pop("session")
        said = [each for each in said if not each.startswith("session:")]
        said.append(f"user: column {chosen['user']!r}; there are no users, so each session counts as one")
    for role in needed:
        if role not in chosen:
            raise DataError(
                f"{where} has no column that looks like the {role}; it has {', '.join(present)}. "
                f"Name it: {OPTION.get(role, role)}."
            )
    return chosen, said


def guess_positions(columns: Sequence[str], sample: pl.DataFrame, where: str) -> tuple[dict[str, str], list[str]]:
    """The roles of a log without a header: two to four columns of numbers, user item [value] [time].

    Raises:
        DataError: It is not such a log.
    """
    numbers = [sample[name].cast(pl.Float64, strict=False) for name in columns]
    if not 2 <= len(columns) <= 4 or any(each.null_count() for each in numbers):
        first = ",".join(str(each) for each in sample.row(0)) if len(sample) else ""
        raise DataError(
            f"{where} line 1 is data ({first[:80]}), not a header, and its columns cannot be told apart. "
            f"Write names above them, such as user_id,item_id,timestamp, or name them "
            f"column1 … column{len(columns)}: --user-col column1 --item-col column2."
        )
    roles = ["user", "item", "value", "time"][: len(columns)]
    if len(columns) == 3 and float(numbers[2].median() or 0) >= 1e8:  # type: ignore[arg-type]
        roles[2] = "time"
    chosen = dict(zip(roles, columns, strict=True))
    return chosen, [f"{role}: column {name[6:]} (there is no header)" for role, name in chosen.items()]
