"""The autoregressive game on rows: any columns known, all others predicted.

Knows tokens; no files, no columns' names.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.tabular.codec import Cells
from medsynth.tabular.models import (
    Allowed,
    Residual,
    RowBatch,
    RowModel,
    dropped,
    picked,
)
from medsynth.tabular.vectors import Layout, logs
from medsynth.training.game import Metrics, Noise, Phase

WAVES = 12
"""Cosines along an ordered column that its logits start from."""


class AutoregressiveNetwork(RowModel):
    """Distributions of all unknown columns given the known ones, whichever these are.

    It starts at the columns' own distributions, each by itself, and with waves along the columns
    that have an order, so that neighbouring intervals are alike until they are told apart.

    Args:
        layout: Of the table.
        width: Features.
        depth: Residual blocks.
        embedding: Features of a token.
        drop: Dropout within the blocks.

    Source:
        Order-agnostic autoregressive models: Uria et al., *A deep and tractable density
        estimator* (arXiv 1310.1757); Hoogeboom et al. (arXiv 2110.02037).
    """

    def __init__(
        self,
        layout: Layout,
        width: int,
        depth: int,
        embedding: int,
        drop: float = 0.05,
    ) -> None:
        super().__init__(layout.sizes)
        count = len(self.sizes)
        self.drop = drop
        self.register_buffer("first", torch.tensor(self.starts[:-1]), persistent=False)
        self.tokens = nn.Embedding(self.starts[-1], embedding)
        self.unknown = nn.Parameter(torch.zeros(count, embedding))
        self.enter = nn.Linear(count * (embedding + 1), width)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, self.starts[-1])
        nn.init.normal_(self.tokens.weight, std=0.5)
        nn.init.normal_(self.unknown, std=0.5)
        nn.init.normal_(self.leave.weight, std=0.02)
        with torch.no_grad():
            self.leave.bias.copy_(logs(layout.shares))
            for start, place in zip(self.starts, layout.order, strict=False):
                at = start + torch.from_numpy(np.flatnonzero(~np.isnan(place)))
                known = place[~np.isnan(place)]
                if not len(known):
                    continue
                near = 0.1 * torch.randn(len(at), embedding)
                self.tokens.weight[at] = 0.7 * _waves(known, embedding, both=True) + near
                smooth = torch.randn(WAVES, width) / torch.arange(1, WAVES + 1)[:, None].sqrt()
                self.leave.weight[at] = 0.02 * _waves(known, WAVES, both=False) @ smooth

    def features(self, tokens: Tensor, known: Tensor, noise: Noise | None = None) -> Tensor:
        """Tokens `(B, D)` and which of them are known → `(B, width)`; noise drops features."""
        assert isinstance(self.first, Tensor)
        vectors = self.tokens(tokens + self.first)
        vectors = torch.where(known[..., None], vectors, self.unknown.to(vectors.dtype))
        seen = torch.cat([vectors, known[..., None].to(vectors.dtype)], 2).flatten(1)
        h = self.enter(seen)
        for block in self.blocks:
            h = block(h, None if noise is None else dropped(noise, h.shape[1], self.drop))
        return functional.silu(self.norm(h))

    def forward(
        self, tokens: Tensor, known: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, ...]:
        """Logits `(B, size)` of every column."""
        return self.leave(self.features(tokens, known, noise)).split(self.sizes, 1)

    def column(self, features: Tensor, index: int) -> Tensor:
        """Logits of one column alone, from `features`."""
        part = slice(self.starts[index], self.starts[index + 1])
        return functional.linear(features, self.leave.weight[part], self.leave.bias[part])

    @torch.inference_mode()
    def draw(self, rows: int, key: Key, allowed: Allowed) -> Cells:
        """See `RowModel.draw`; conditions are met exactly, the other columns are drawn given them.

        The order of the columns is drawn from the key, conditions first.
        """
        rng = key.numpy()
        count = len(self.sizes)
        rest = [i for i in rng.permutation(count).tolist() if i not in allowed]
        tokens = torch.zeros(rows, count, dtype=torch.long)
        known = torch.zeros(rows, count, dtype=torch.bool)
        self.eval()
        for index in (*allowed, *rest):
            logits = self.column(self.features(tokens, known), index).float()
            if index in allowed:
                logits = logits.masked_fill(~torch.from_numpy(allowed[index]), -torch.inf)
            tokens[:, index] = picked(logits, torch.from_numpy(rng.random(rows, np.float32)))
            known[:, index] = True
        return Cells(tokens.numpy().astype(np.int32), rng.random((rows, count), np.float32))


def _waves(place: np.ndarray, count: int, *, both: bool) -> Tensor:
    """Cosines, and sines beside them, of growing frequency, `(size, count)`."""
    number = np.arange(count)
    angle = np.pi * np.outer(place, number // 2 + 1 if both else number + 1)
    shift = np.pi / 2 * (number % 2) if both else 0.0
    return torch.from_numpy(np.cos(angle - shift)).float()


class AutoregressiveGame:
    """One player that predicts hidden columns from shown ones; how many are shown is random.

    Args:
        network: The player.
    """

    phases = (Phase("predict", "generator"),)

    def __init__(self, network: AutoregressiveNetwork) -> None:
        self.players = nn.ModuleDict({"generator": network})

    def loss(self, phase: str, batch: RowBatch, noise: Noise) -> tuple[Tensor, Metrics]:
        """Mean negative log-likelihood of a hidden column, nats."""
        network = self.players["generator"]
        assert isinstance(network, AutoregressiveNetwork)
        loss = hidden_nats(network, batch.tokens, noise).mean()
        return loss, {"nats_per_column": loss.detach()}


def hidden_nats(network: AutoregressiveNetwork, tokens: Tensor, noise: Noise) -> Tensor:
    """Mean negative log-likelihood of the hidden columns of each row, nats, `(B,)`.

    In expectation over orders and counts it is the negative log-likelihood of a row, over the
    number of its columns.
    """
    count = tokens.shape[1]
    order = noise.uniform(count).argsort(1).argsort(1)
    shown = (noise.uniform(1) * count).long()
    known = order < shown
    losses = torch.stack(
        [
            functional.cross_entropy(part.float(), tokens[:, index], reduction="none")
            for index, part in enumerate(
                network(tokens, known, noise if network.training else None)
            )
        ],
        1,
    )
    hidden = ~known
    return (losses * hidden).sum(1) / hidden.sum(1)
