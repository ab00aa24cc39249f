"""What is put before a text, or around the columns of a row, so that an encoder reads it under one aspect."""

from collections.abc import Sequence
from string import Formatter

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Table
from foretaste.texts import cleaned, column_texts, row_texts

__all__ = ["check_prompt", "prompted", "prompted_rows"]


def check_prompt(prompt: str) -> None:
    """Raises ValueError, as settings do, where the braces of a prompt do not name columns."""
    try:
        parts = list(Formatter().parse(prompt))
    except ValueError as error:
        raise ValueError(f"the prompt {prompt!r} has braces that are not closed or not opened ({error})") from error
    for _, column, spec, conversion in parts:
        if column == "" or spec or conversion:
            raise ValueError(f"the prompt {prompt!r} must name a column, and nothing else, within braces")


def prompted_rows(
    table: Table, prompt: str, columns: Sequence[str] | None = None, *, met: NDArray[np.bool_] | None = None
) -> list[str]:
    """For each row what is read of it under a prompt; empty where it says nothing.

    The columns that the prompt names in braces are put in their places. Under a prompt that names none all that the row
    says (``row_texts`` of ``columns``, decided by ``met``) stands behind it.

    Raises:
        UnknownName: There is no such column.
        ConfigError: A named column is no matter of words.
    """
    named = _columns(prompt)
    if not named:
        return [prompt + each if each else "" for each in row_texts(table, columns, met=met)]
    said = [column_texts(name, table[name]) for name in named]
    return [_filled(prompt, row) for row in zip(*said, strict=True)]


def prompted(text: str, prompt: str) -> str:
    """A free text under a prompt, in the place of the first column that it names; empty for an empty text."""
    text, named = cleaned(text), _columns(prompt)
    return _filled(prompt, [text, *[""] * (len(named) - 1)]) if named else prompt + text if text else ""


def _columns(prompt: str) -> list[str]:
    return [column for _, column, _, _ in Formatter().parse(prompt) if column is not None]


def _filled(prompt: str, values: Sequence[str]) -> str:
    """The prompt with values in the places of its columns; empty where all of them are."""
    if not any(values):
        return ""
    rest = iter(values)
    parts = ((literal, "" if column is None else next(rest)) for literal, column, _, _ in Formatter().parse(prompt))
    return "".join(literal + value for literal, value in parts)
