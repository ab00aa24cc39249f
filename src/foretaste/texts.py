"""What a table says in words: one text per row, cleaned of markup and cut where nobody would read on."""

import html
import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from foretaste.catalog import Categories, Category, Column, Number, Table, Text
from foretaste.errors import ConfigError
from foretaste.ragged import PAD

__all__ = ["MOST_CHARACTERS", "cleaned", "column_texts", "row_texts", "word_weights", "words_of"]

MOST_CHARACTERS = 4000  # three times what sentence encoders read
TAG = re.compile(r"</?[A-Za-z!][^<>]{0,300}>")
SPACE = re.compile(r"\s+")
WORD = re.compile(r"[^\W_]{3,}")


def row_texts(
    table: Table,
    columns: Sequence[str] | None = None,
    *,
    met: NDArray[np.bool_] | None = None,
    setting: str = "text_columns",
) -> list[str]:
    """For each row what its columns say, one after another; empty where they say nothing.

    Texts stand as they are, behind them "column: name, name" of each column of names.

    Args:
        columns: Which, in this order. None: all texts, then all columns of names that group the rows.
        met: (rows,) those by which that is decided, so that others may come and change nothing. None: all.
        setting: That names the columns, for what is said of one that cannot be read.

    Raises:
        UnknownName: There is no such column.
        ConfigError: A named column is no matter of words.
    """
    if columns is None:
        texts = [name for name, column in table.columns.items() if isinstance(column, Text)]
        own = table if met is None else table.take(met)
        columns = [*texts, *(name for name, column in own.columns.items() if _groups(column))]
    said = [_said(name, table[name], setting) for name in columns]
    return [". ".join(each for each in row if each) for row in zip(*said, strict=True)] if said else [""] * len(table)


def column_texts(name: str, column: Column, setting: str = "text_columns") -> Iterator[str]:
    """Per row, what this column says, without its name; empty where it says nothing.

    Raises:
        ConfigError: The column is no matter of words.
    """
    if isinstance(column, Text):
        return (cleaned(text) for text in column.lists())
    if isinstance(column, Category):
        return ("" if each is None else cleaned(each) for each in column.lists())
    if isinstance(column, Categories):
        return (", ".join(map(cleaned, row)) for row in column.lists())
    if isinstance(column, Number):
        return ("" if each is None else f"{each:g}" for each in column.lists())
    raise ConfigError(f"{setting}: {name!r} is a column of {column.kind}; texts, names and numbers can be read.")


def cleaned(text: str) -> str:
    """Without tags, entities and runs of white space, and no longer than ``MOST_CHARACTERS``."""
    short = text[: 2 * MOST_CHARACTERS].encode("utf-8", "replace").decode("utf-8")  # half a character is none
    return SPACE.sub(" ", html.unescape(TAG.sub(" ", short))).strip().rstrip(".")[:MOST_CHARACTERS]


def words_of(text: str) -> list[str]:
    """The words of three letters or digits and more, in lower case, in their order."""
    return WORD.findall(text.lower())


def word_weights(texts: Sequence[str], met: NDArray[np.bool_]) -> csr_matrix:
    """The weights of the words that texts have.

        tf-idf(word) = count in the text * (1 + ln((1 + n) / (1 + texts with the word))),

    n being the number of texts by which that is counted.

    Args:
        met: (texts,) by which words are known, and counted.

    Returns:
        (texts, words) not brought to a length.
    """
    split = [words_of(text) for text in texts]
    number: dict[str, int] = {}
    for row in np.flatnonzero(met).tolist():
        for word in split[row]:
            number.setdefault(word, len(number))
    rows = [[number[word] for word in row if word in number] for row in split]
    row_of, codes = np.repeat(np.arange(len(rows)), [len(row) for row in rows]), np.concatenate([[], *rows]).astype(int)
    counts = csr_matrix((np.ones(len(codes), np.float32), (row_of, codes)), (len(texts), len(number)))
    counts.sum_duplicates()
    known = counts[met]
    having = np.bincount(known.indices, minlength=len(number))
    weights = 1 + np.log((1 + (known.getnnz(axis=1) > 0).sum()) / (1 + having))
    return csr_matrix(counts.multiply(weights.astype(np.float32)))


def _groups(column: Column) -> bool:
    """Is it a column of names, of which each is, on average, that of two rows or more?"""
    if isinstance(column, Category):
        codes = column.codes[column.codes != PAD]
    elif isinstance(column, Categories):
        codes = column.codes.values
    else:
        return False
    return 2 * len(np.unique(codes)) <= len(codes)


def _said(name: str, column: Column, setting: str) -> Iterator[str]:
    """Per row, what this column says; what is no text stands behind the column's name."""
    told = column_texts(name, column, setting)
    return told if isinstance(column, Text) else (f"{name}: {each}" if each else "" for each in told)
