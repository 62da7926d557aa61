"""Codes of subjects as values: who has which diagnosis, how often, in a sparse matrix.

A hospital has thousands of codes and a person a dozen: never made dense as a whole. Opens no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from medsynth.errors import DataError


@dataclass(frozen=True, eq=False)
class Codes:
    """Subjects by codes.

    Args:
        matrix: CSR `(subjects, codes)`, int32, counts of at least 1 where there is an entry.
        names: Of the codes, in order.

    Raises:
        DataError: Negative or fractional counts, or names that do not fit.
    """

    matrix: Any
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        matrix = sparse.csr_matrix(self.matrix)
        if matrix.shape[1] != len(self.names):
            raise DataError(f"{matrix.shape[1]} names of codes", str(len(self.names)))
        twice = len(self.names) - len(set(self.names))
        if twice:
            raise DataError("codes with different names", f"{twice} more than once")
        data = np.asarray(matrix.data)
        if data.size and (not np.isfinite(data).all() or (data < 0).any() or (data % 1).any()):
            raise DataError(
                "whole counts from 0 on", "others", None, "Codes are counted, not rated."
            )
        matrix = matrix.astype(np.int32)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        object.__setattr__(self, "matrix", matrix)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    @cached_property
    def binary(self) -> bool:
        """Whether no code is counted twice."""
        return not self.matrix.nnz or int(self.matrix.data.max()) == 1

    @cached_property
    def presence(self) -> Any:
        """The matrix with 1 for every count, CSR float32."""
        ones = np.ones(self.matrix.nnz, np.float32)
        return sparse.csr_matrix((ones, self.matrix.indices, self.matrix.indptr), self.matrix.shape)

    @cached_property
    def rates(self) -> np.ndarray:
        """Share of subjects with each code, `(codes,)`."""
        return np.bincount(self.matrix.indices, minlength=len(self.names)) / max(len(self), 1)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Codes":
        """Some subjects, in that order."""
        return replace(self, matrix=self.matrix[np.asarray(rows)])

    def index(self, name: str) -> int:
        """Where a code stands.

        Raises:
            DataError: There is none of that name; the nearest is given.
        """
        import difflib

        if name in self.names:
            return self.names.index(name)
        near = difflib.get_close_matches(name, self.names, 1, 0.4)
        raise DataError(
            f"one of {len(self.names):,} codes", repr(name), None,
            f"Did you mean {near[0]!r}?" if near else None,
        )  # fmt: skip


def same_codes(codes: Codes, names: Sequence[str]) -> Codes:
    """The same subjects with other columns: codes in the order of `names`, absent ones empty.

    Raises:
        DataError: A subject has a code that is not among `names`.
    """
    place = {name: index for index, name in enumerate(names)}
    strange = [
        n for n, rate in zip(codes.names, codes.rates, strict=True) if rate and n not in place
    ]
    if strange:
        shown = ", ".join(strange[:3])
        raise DataError(f"{len(names):,} known codes", f"{len(strange)} others ({shown}, …)")
    columns = np.array([place.get(name, 0) for name in codes.names], np.int32)
    matrix = codes.matrix
    moved = sparse.csr_matrix(
        (matrix.data, columns[matrix.indices], matrix.indptr), (len(codes), len(names))
    )
    return Codes(moved, tuple(names))
