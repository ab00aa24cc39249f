"""Rows of unequal length, held on the device as one flat tensor."""

import torch
from torch import Tensor, nn

__all__ = ["rows_taken"]


def rows_taken(values: Tensor, offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The values (total,) of some rows (n,), one row after another, and (n + 1,) where each begins, as in ``Ragged``.

    Args:
        values: Of all rows.
        offsets: (all + 1,) where each of these begins.
    """
    begin, end = offsets[rows], offsets[rows + 1]
    lengths = end - begin
    taken = nn.functional.pad(lengths.cumsum(0), (1, 0))
    shift = (begin - taken[:-1]).repeat_interleave(lengths)
    return values[torch.arange(len(shift), device=values.device) + shift], taken
