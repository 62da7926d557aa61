"""Rows as vectors for networks that see them whole: one-hot tokens, then an offset a column.

Knows tokens; no columns' names, no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medsynth.tabular.codec import Cells, Codec, Tokens
from medsynth.tabular.models import picked

TEMPERATURE = 0.3
"""Of the relaxed draws of tokens; Jang et al. (arXiv 1611.01144)."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What networks need to know of a table's columns.

    Args:
        shares: How often each token of each column occurs, arrays `(size,)`.
        intervals: Of each column, which tokens have offsets, boolean arrays `(size,)`.
        order: Of each column, where each token lies from the smallest value (0) to the largest (1),
            arrays `(size,)`; NaN for names without an order and for missing marks.
        named: Columns of names, by number.
    """

    shares: tuple[np.ndarray, ...]
    intervals: tuple[np.ndarray, ...]
    order: tuple[np.ndarray, ...]
    named: tuple[int, ...]

    @classmethod
    def of(cls, codec: Codec, tokens: np.ndarray | None) -> "Layout":
        """The layout of a codec's cells, counted over tokens `(N, D)`; None counts nothing."""
        if tokens is None:
            shares = [np.full(size, 1 / size) for size in codec.sizes]
        else:
            counts = [np.bincount(tokens[:, i], minlength=s) for i, s in enumerate(codec.sizes)]
            shares = [count / max(len(tokens), 1) for count in counts]
        return cls(
            tuple(shares),
            tuple(np.arange(c.size) >= c.size - c.intervals for c in codec.columns),
            tuple(_order(c) for c in codec.columns),
            tuple(i for i, c in enumerate(codec.columns) if c.column.named and c.size > 1),
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tokens of each column."""
        return tuple(len(share) for share in self.shares)


def _order(tokens: Tokens) -> np.ndarray:
    marks = len(tokens.column.marks)
    place = (tokens.ranks() - marks + 0.5) / max(tokens.size - marks, 1)
    ordered = tokens.column.kind not in ("categorical", "binary")
    return np.where(ordered & (np.arange(tokens.size) >= marks), place, np.nan)


class Vectors(nn.Module):
    """Cells to vectors `(B, T + D)`: T one-hot tokens of all columns, D offsets from −1 to 1.

    Args:
        layout: Of the table.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.sizes = layout.sizes
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.tokens, self.columns = int(starts[-1]), len(self.sizes)
        owner = np.repeat(np.arange(self.columns), self.sizes)
        spans = np.zeros((self.tokens, self.columns), np.float32)
        spans[np.arange(self.tokens), owner] = np.concatenate(layout.intervals)
        self.register_buffer("starts", torch.from_numpy(starts[:-1]), persistent=False)
        self.register_buffer("spans", torch.from_numpy(spans), persistent=False)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.tokens + self.columns

    def places(self, tokens: Tensor) -> Tensor:
        """Where tokens `(B, D)` stand in a vector, `(B, D)`."""
        assert isinstance(self.starts, Tensor)
        return tokens + self.starts

    def real(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """Vectors of cells."""
        onehot = torch.zeros(len(tokens), self.tokens, device=tokens.device)
        onehot.scatter_(1, self.places(tokens), 1.0)
        return self._joined(onehot, 2 * offsets - 1)

    def relaxed(self, logits: Tensor, offsets: Tensor, u: Tensor) -> Tensor:
        """Vectors of drawn tokens, differentiable.

        Args:
            logits: `(B, T)`.
            offsets: −1 to 1, `(B, D)`.
            u: Uniform on [0, 1), `(B, T)`.
        """
        gumbel = -torch.log(-torch.log(u.clamp(1e-6, 1 - 1e-6)))
        parts = ((logits + gumbel) / TEMPERATURE).split(self.sizes, 1)
        return self._joined(torch.cat([part.softmax(1) for part in parts], 1), offsets)

    def _joined(self, onehot: Tensor, offsets: Tensor) -> Tensor:
        assert isinstance(self.spans, Tensor)
        return torch.cat([onehot, offsets * (onehot @ self.spans)], 1)

    def drawn(self, logits: Tensor, offsets: Tensor, rng: np.random.Generator) -> Cells:
        """Cells from logits `(B, T)` and offsets from −1 to 1 `(B, D)`."""
        tokens = [
            picked(part, torch.from_numpy(rng.random(len(part), np.float32)))
            for part in logits.split(self.sizes, 1)
        ]
        return Cells(
            torch.stack(tokens, 1).numpy().astype(np.int32),
            (offsets.clamp(-1, 1).numpy() + 1) / 2,
        )

    def nats(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Negative log-likelihood of each token, `(B, D)`."""
        parts = logits.float().split(self.sizes, 1)
        losses = [
            functional.cross_entropy(part, tokens[:, i], reduction="none")
            for i, part in enumerate(parts)
        ]
        return torch.stack(losses, 1)


def logs(shares: Sequence[np.ndarray]) -> Tensor:
    """Logits that give every column its own distribution, `(T,)`."""
    safe = [np.log((share + 1e-5) / (share + 1e-5).sum()) for share in shares]
    return torch.from_numpy(np.concatenate(safe)).float()
