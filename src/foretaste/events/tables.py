"""Tables of items and users: typed columns aligned with a vocabulary."""

from collections.abc import Collection
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Catalog, Categories, Category, Table, Text
from foretaste.errors import DataError
from foretaste.events.columns import NAMES, guess_columns, normal
from foretaste.events.formats import open_parts
from foretaste.events.gathering import gather
from foretaste.events.parts import Part
from foretaste.new_items import appended
from foretaste.ragged import PAD
from foretaste.run import Log, silent
from foretaste.vocab import Strings, Vocab

__all__ = ["read_item_table", "read_new_items", "read_table", "with_items"]

Subject = Literal["item", "user"]


def read_table(
    source: Any,
    vocab: Vocab,
    subject: Subject,
    *,
    key: str | None = None,
    in_log: str | None = None,
    log: Log = silent,
) -> Table:
    """What is known of the given items or users: row i is about index i of the vocabulary.

    Rows about others are left out and counted. Of several rows about the same one the first is taken.

    Args:
        source: A path, a folder, a glob or a frame, as for a log.
        key: The column of identifiers; by default guessed from its name.
        in_log: What the log calls it; taken, without a key, where the table has such a column.
        log: Gets the guessed type of each column and what was left out.

    Raises:
        DataError: The table cannot be read, or is about none of them.
    """
    return _aligned(vocab, *_read(source, subject, key, log, in_log=in_log), subject, log)


def read_item_table(
    source: Any, items: Vocab, *, key: str | None = None, in_log: str | None = None, log: Log = silent
) -> tuple[Vocab, Table]:
    """The vocabulary with the table's further items appended, and the table aligned with it; see ``read_table``.

    If the log's items are integers and the table's are not, all become text.

    Raises:
        DataError: The table cannot be read, or has none of the items of the log.
    """
    ids, table, name = _read(source, "item", key, log, in_log=in_log)
    found = items.index(_plain(ids)) != PAD
    if not found.any() and len(items):
        raise _strangers(name, "item", ids, items)
    if ids.is_text and not items.is_text:
        items = Vocab(Strings.from_list([str(each) for each in items.lists()]))
        log("items: text, because those of the table are not all integers")
    cold = int(np.count_nonzero(~found))
    if cold:
        log(f"{name}: {cold:,} items without events were added to the {len(items):,} of the log")
    if lacking := len(items) - int(found.sum()):
        log(f"{name}: {lacking:,} of the {len(items):,} items of the log have no row in it: nothing is known of them")
    if cold:
        items = items.extended(ids.lists())
    return items, _aligned(items, ids, table, name, "item", silent)


def read_new_items(
    source: Any,
    items: Vocab,
    catalog: Table,
    *,
    key: str | None = None,
    in_log: str | None = None,
    log: Log = silent,
) -> tuple[Vocab, Table]:
    """The vocabulary with the items of a table that it lacks appended, and the catalogue with their rows.

    Args:
        catalog: What is known of the items; the table's columns are read as its columns are.

    Raises:
        DataError: The table cannot be read, or not as the catalogue was.
    """
    written = [name for name, column in catalog.columns.items() if isinstance(column, Category | Categories | Text)]
    ids, table, name = _read(source, "item", key, log, written, in_log)
    cold = np.flatnonzero(items.index(_plain(ids)) == PAD)
    if len(cold) < len(ids):
        log(f"{name}: {len(ids) - len(cold):,} of its {len(ids):,} items are known already and stay as they are")
    strange = [called for called in table if called not in catalog]
    if strange:
        log(f"{name}: left out, as the catalogue of the model has no such columns: {', '.join(strange)}")
    try:
        extended = items.extended(ids.lookup(cold))
    except DataError as error:
        raise DataError(
            f"{name} has items that are text, such as {_first_text(ids.lookup(cold))!r}; those of the model are "
            "integers."
        ) from error
    # What is written in two ways, such as " 18" and "18", may be one item: one row is taken.
    _, first = np.unique(extended.index(ids.lookup(cold)), return_index=True)
    if len(first) < len(cold):
        log(f"{name}: {len(cold) - len(first):,} rows are about an item that has one already, written otherwise")
    return extended, appended(catalog, table.take(cold[np.sort(first)]))


def _first_text(ids: list[int | str]) -> int | str:
    """The first identifier that is no integer."""
    return next((each for each in ids if not str(each).strip().lstrip("-").isdigit()), ids[0])


def with_items(catalog: Catalog | None, items: int, users: int) -> Catalog | None:
    """The catalogue with empty rows for items that were appended to the vocabulary."""
    if catalog is None:
        return None
    rows = np.arange(items)
    rows[catalog.items.rows :] = PAD
    return Catalog(catalog.items.take(rows), catalog.users)


def _read(
    source: Any,
    subject: Subject,
    key: str | None,
    log: Log,
    written: Collection[str] = (),
    in_log: str | None = None,
) -> tuple[Vocab, Table, str]:
    """The identifiers of the rows in ascending order, the columns in that order, and the name of the table.

    Args:
        written: Columns whose texts are texts, whatever they look like.
    """
    parts = open_parts(source)
    name = parts[0].name
    if key is None and in_log in parts[0].columns:
        key = in_log
    roles: dict[str, str] = {subject: key_column(parts[0], subject, key)}
    gathered = gather(parts, roles, texts=written)
    missing = gathered.ids[subject].missing()
    if missing.any():
        log(f"{name}: {int(missing.sum()):,} rows without {subject} were left out")
    table_ids, index = gathered.ids[subject].encode(~missing if missing.any() else None)
    distinct, first = np.unique(index, return_index=True)
    if not len(index):
        raise DataError(f"{name} has no rows with a {subject}. Give one row per {subject}.")
    if len(distinct) < len(index):
        log(
            f"{name}: {len(index) - len(distinct):,} rows are about a {subject} that has one already; the first is used"
        )
    rows = np.flatnonzero(~missing)[first]
    columns, said = {}, []
    for called, column in gathered.others.items():
        if called in written:
            columns[called], kind = column.as_written(rows), "as it was"
        else:
            columns[called], kind = column.column(rows)
        said.append(f"{called} ({kind})")
    log(f"{subject}s: {name}, key {roles[subject]!r}, columns: {', '.join(said) or 'none'}")
    for part in parts:
        for repair in part.repairs:
            log(f"{part.name}: {repair.text()}")
    return table_ids, Table(len(rows), columns), name


def key_column(part: Part, subject: Subject, key: str | None) -> str:
    """The column of a table that identifies its rows.

    Raises:
        DataError: It can be neither found nor guessed.
    """
    if not part.header:
        raise DataError(f"{part.name} has no header. Write a line of column names above the rows.")
    given: dict[str, str] = {} if key is None else {subject: key}
    plain = [each for each in part.columns if each.lower() == "id"]
    # In a table of items, 'id' is the item's; unless there is a better name.
    if key is None and plain and not {normal(each) for each in part.columns} & set(NAMES[subject]):
        given = {subject: plain[0]}
    chosen, _ = guess_columns(part.columns, given, part.name, {subject: NAMES[subject]}, needed=(subject,))
    return chosen[subject]


def _aligned(vocab: Vocab, ids: Vocab, table: Table, name: str, subject: Subject, log: Log) -> Table:
    index = vocab.index(_plain(ids))
    known = index != PAD
    if not known.any() and len(vocab):
        raise _strangers(name, subject, ids, vocab)
    if not known.all():
        log(f"{name}: {int((~known).sum()):,} rows about {subject}s without events were left out")
    row_of = np.full(len(vocab), PAD, np.int64)
    row_of[index[known]] = np.flatnonzero(known)
    lacking = int((row_of == PAD).sum())
    if lacking:
        log(f"{name}: {lacking:,} of {len(vocab):,} {subject}s have no row in it")
    return table.take(row_of)


def _plain(ids: Vocab) -> NDArray[np.int64] | list[Any]:
    """Identifiers as an array where they are integers: that is looked up at once."""
    return ids.lists() if isinstance(ids.ids, Strings) else ids.ids


def _strangers(name: str, subject: Subject, ids: Vocab, vocab: Vocab) -> DataError:
    return DataError(
        f"{name} has none of the {subject}s of the log: its first is {ids[0]!r}, the log's is {vocab[0]!r}. "
        f"Check which column identifies them."
    )
