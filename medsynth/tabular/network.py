"""The autoregressive network: any columns known, all others predicted.

Knows tokens; no files, no columns' names.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional


class AutoregressiveNetwork(nn.Module):
    """Distributions of all unknown columns given the known ones, whichever these are.

    Args:
        sizes: Tokens of each column.
        width: Features.
        depth: Residual blocks.
        embedding: Features of a token.

    Source:
        Order-agnostic autoregressive models: Uria et al., *A deep and tractable density
        estimator* (arXiv 1310.1757); Hoogeboom et al. (arXiv 2110.02037).
    """

    def __init__(self, sizes: Sequence[int], width: int, depth: int, embedding: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        starts = [0, *accumulate(self.sizes)]
        self.register_buffer("starts", torch.tensor(starts[:-1]), persistent=False)
        self.tokens = nn.Embedding(starts[-1], embedding)
        self.unknown = nn.Parameter(torch.zeros(len(self.sizes), embedding))
        self.enter = nn.Linear(len(self.sizes) * (embedding + 1), width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, starts[-1])
        nn.init.normal_(self.tokens.weight, std=0.5)
        nn.init.normal_(self.unknown, std=0.5)

    def features(self, tokens: Tensor, known: Tensor) -> Tensor:
        """Tokens `(B, D)` and which of them are known → `(B, width)`."""
        assert isinstance(self.starts, Tensor)
        vectors = self.tokens(tokens + self.starts)
        vectors = torch.where(known[..., None], vectors, self.unknown.to(vectors.dtype))
        seen = torch.cat([vectors, known[..., None].to(vectors.dtype)], 2).flatten(1)
        h = self.enter(seen)
        for block in self.blocks:
            h = block(h)
        return functional.silu(self.norm(h))

    def forward(self, tokens: Tensor, known: Tensor) -> tuple[Tensor, ...]:
        """Logits `(B, size)` of every column."""
        return self.leave(self.features(tokens, known)).split(self.sizes, 1)

    def column(self, features: Tensor, index: int) -> Tensor:
        """Logits of one column alone, from `features`."""
        start = sum(self.sizes[:index])
        part = slice(start, start + self.sizes[index])
        return functional.linear(features, self.leave.weight[part], self.leave.bias[part])


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.drop = nn.Dropout(0.05)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.narrow(functional.silu(self.widen(self.norm(x)))))
