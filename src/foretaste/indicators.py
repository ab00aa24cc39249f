"""Columns of names as sparse matrices."""

import numpy as np
from scipy.sparse import csr_matrix

from foretaste.catalog import Categories, Category
from foretaste.ragged import PAD

__all__ = ["indicators"]


def indicators(column: Category | Categories) -> csr_matrix:
    """(rows, names) 1 where a row has a name, however often it says so."""
    if isinstance(column, Category):
        row = np.flatnonzero(column.codes != PAD)
        code = column.codes[row]
    else:
        row, code = column.codes.row_of_value(), column.codes.values
    ones = np.ones(len(row), np.float32)
    matrix = csr_matrix((ones, (row, code)), shape=(len(column), len(column.names)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
