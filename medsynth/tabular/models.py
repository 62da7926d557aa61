"""What every network that makes rows or codes can do: draw, given conditions and a key.

Knows cells and codes; no columns' names, no files.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from medsynth.core.random import Key
from medsynth.errors import DataError
from medsynth.tabular.codec import Cells
from medsynth.training.game import Noise

TRIES = 400
"""Rounds of drawing and rejecting until a condition counts as one that cannot be met."""

Allowed = Mapping[int, np.ndarray]
"""By column, which of its tokens may be drawn, boolean `(size,)`."""


class RowBatch(NamedTuple):
    """Rows for a game.

    Args:
        tokens: `(B, D)`, int64.
        offsets: `(B, D)`, 0 to 1.
        column, token: The condition that each row was chosen by, `(B,)`; see `supply`.
    """

    tokens: Tensor
    offsets: Tensor
    column: Tensor
    token: Tensor


class CodeBatch(NamedTuple):
    """Subjects for a game.

    Args:
        codes: Numbers of a subject's codes `(B, L)`, padded with V, the number of all codes.
        counts: How often each was counted, `(B, L)`, float32; 0 where padded.
    """

    codes: Tensor
    counts: Tensor

    def dense(self, count: int) -> Tensor:
        """Counts of all codes `(B, V)`."""
        whole = self.counts.new_zeros(len(self.codes), count + 1)
        return whole.scatter_(1, self.codes, self.counts)[:, :-1]


class RowModel(nn.Module, ABC):
    """A network that makes rows.

    Args:
        sizes: Tokens of each column.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.starts = (0, *accumulate(self.sizes))

    @abstractmethod
    def draw(self, rows: int, key: Key, allowed: Allowed) -> Cells:
        """Make rows.

        Args:
            rows: How many.
            key: The same key gives the same rows.
            allowed: Conditions; all rows obey them.

        Raises:
            DataError: The network never makes such a row.
        """


class CodeModel(nn.Module, ABC):
    """A network that makes subjects with codes.

    Args:
        count: Codes.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    @abstractmethod
    def draw(self, rows: int, key: Key, present: Sequence[int], absent: Sequence[int]) -> Any:
        """Make subjects, CSR `(rows, V)` of int32 counts.

        Args:
            rows: How many.
            key: The same key gives the same subjects.
            present, absent: Codes that all of them have, and that none has.

        Raises:
            DataError: The network never makes such a subject.
        """


def rejected(
    draw: Callable[[int, Key], Any],
    fits: Callable[[Any], np.ndarray],
    pick: Callable[[Any, np.ndarray], Any],
    rows: int,
    key: Key,
) -> list[Any]:
    """Draw until enough fit.

    Args:
        draw: Makes that many candidates.
        fits: Which candidates obey, boolean `(N,)`.
        pick: Candidates by position.
        rows: How many are wanted.
        key: Root of the draws.

    Returns:
        Parts that together hold `rows` candidates.

    Raises:
        DataError: Not enough of them fit within `TRIES` rounds.
    """
    parts: list[Any] = []
    found = 0
    for number in range(TRIES):
        batch = draw(max(rows, 256), key.fold("try", number))
        at = np.flatnonzero(fits(batch))[: rows - found]
        if len(at):
            parts.append(pick(batch, at))
            found += len(at)
        if found >= rows:
            return parts
    raise DataError(
        f"{rows:,} rows that obey the condition", f"{found:,} in {TRIES * max(rows, 256):,} drawn",
        None, "Nothing like that was learnt: ask for less, or for a condition that occurs.",
    )  # fmt: skip


def obeying(draw: Callable[[int, Key], Cells], rows: int, key: Key, allowed: Allowed) -> Cells:
    """Rows that obey conditions, by rejection."""
    if not allowed:
        return draw(rows, key)

    def fits(cells: Cells) -> np.ndarray:
        return np.logical_and.reduce([ok[cells.tokens[:, i]] for i, ok in allowed.items()])

    parts = rejected(draw, fits, lambda c, at: Cells(c.tokens[at], c.offsets[at]), rows, key)
    return Cells(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def picked(logits: Tensor, u: Tensor) -> Tensor:
    """One token a row from its distribution, by the inverse of the cumulative sum.

    Args:
        logits: `(B, S)`.
        u: Uniform on [0, 1), `(B,)`.
    """
    steps = logits.softmax(1).cumsum(1)
    steps = steps / steps[:, -1:]
    found = torch.searchsorted(steps, u[:, None].contiguous()).squeeze(1)
    return found.clamp(max=logits.shape[1] - 1)


class Residual(nn.Module):
    """Layer norm, twice as wide, back again; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """`(B, width)` → `(B, width)`; `kept` multiplies what is added, see `dropped`."""
        added = self.narrow(nn.functional.silu(self.widen(self.norm(x))))
        return x + (added if kept is None else added * kept)


def dropped(noise: Noise, width: int, drop: float) -> Tensor | None:
    """Dropout for each record of the global batch, whoever computes it, `(B, width)`.

    Source:
        Srivastava et al., JMLR 15, 2014.
    """
    return (noise.uniform(width) >= drop) / (1 - drop) if drop else None
