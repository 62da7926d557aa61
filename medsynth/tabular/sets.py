"""The autoregressive game on codes: some codes of a subject known, the next one predicted.

A subject is a set of a dozen codes among thousands, so the network guesses members of the set, not
thousands of yeses and noes. Knows codes by number; no names, no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.errors import DataError
from medsynth.tabular.models import CodeBatch, CodeModel, Residual, dropped, picked, rejected
from medsynth.training.game import Metrics, Noise, Phase

MOST_LEFT = 96
"""Codes to come that the network tells apart."""

MOST_REPEATS = 16


@dataclass(frozen=True, eq=False)
class CodeRates:
    """What can be counted of codes, each by itself.

    Args:
        lengths: Share of subjects with 0, 1, 2 … different codes, `(L + 1,)`.
        rates: Share of subjects with each code, `(V,)`.
        repeats: How often a code is counted in those who have it, shares of 1, 2 …, `(V, K)`.
    """

    lengths: np.ndarray
    rates: np.ndarray
    repeats: np.ndarray

    @classmethod
    def of(cls, matrix: Any) -> "CodeRates":
        """Count a CSR matrix `(N, V)`."""
        subjects = max(matrix.shape[0], 1)
        sizes = np.bincount(np.diff(matrix.indptr), minlength=2) / subjects
        rates = (np.bincount(matrix.indices, minlength=matrix.shape[1]) + 0.1) / (subjects + 0.2)
        often = np.minimum(matrix.data, MOST_REPEATS)
        shares = np.zeros((matrix.shape[1], max(int(often.max(initial=1)), 1)))
        np.add.at(shares, (matrix.indices, often - 1), 1)
        shares += (shares.sum(0) + 1e-9) / (shares.sum() + 1e-9)  # one entry's worth of all codes
        return cls(sizes, rates, shares / shares.sum(1, keepdims=True))

    @classmethod
    def unknown(cls, count: int) -> "CodeRates":
        """Nothing counted: every code as likely as all others, and never twice."""
        return cls(np.array([0.0, 1.0]), np.full(count, 0.01), np.ones((count, 1)))

    def counts(self, codes: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Counts of codes that are there, `(entries,)` int32."""
        steps = self.repeats.cumsum(1)
        return (1 + (u[:, None] > steps[codes][:, :-1]).sum(1)).astype(np.int32)


class SetNetwork(CodeModel):
    """Which code comes next, given those a subject has and how many are to come.

    It starts at the codes' own rates. The number of codes has the distribution that was seen.

    Args:
        known: What was counted.
        width: Features.
        depth: Residual blocks.
        drop: Dropout within the blocks.

    Source:
        Order-agnostic autoregression (Uria et al., arXiv 1310.1757) on sets: every order of the
        members is equally likely, so the first of n is a given code with 1/n of the probability
        that the set contains it.
    """

    def __init__(self, known: CodeRates, width: int, depth: int, drop: float = 0.05) -> None:
        super().__init__(len(known.rates))
        self.known, self.drop = known, drop
        self.has = nn.EmbeddingBag(self.count + 1, width, mode="sum", padding_idx=self.count)
        self.left = nn.Embedding(MOST_LEFT + 1, width)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, self.count)
        nn.init.normal_(self.has.weight, std=0.3)
        nn.init.normal_(self.left.weight, std=0.3)
        nn.init.normal_(self.leave.weight, std=0.02)
        with torch.no_grad():
            self.has.weight[self.count] = 0
            shares = known.rates / known.rates.sum()
            self.leave.bias.copy_(torch.from_numpy(np.log(shares)).float())

    def forward(self, codes: Tensor, left: Tensor, noise: Noise | None = None) -> Tensor:
        """Logits of the next code `(B, V)`; those that are there already are −inf.

        Args:
            codes: Known codes `(B, L)`, padded with V.
            left: How many are to come, `(B,)`.
            noise: Drops features; None drops none.
        """
        h = self.has(codes) + self.left(left.clamp(max=MOST_LEFT))
        for block in self.blocks:
            h = block(h, None if noise is None else dropped(noise, h.shape[1], self.drop))
        logits = self.leave(functional.silu(self.norm(h))).float()
        there = torch.zeros(len(codes), self.count + 1, dtype=torch.bool, device=codes.device)
        return logits.masked_fill(there.scatter_(1, codes, True)[:, :-1], -torch.inf)

    @torch.inference_mode()
    def draw(self, rows: int, key: Key, present: Sequence[int], absent: Sequence[int]) -> Any:
        """See `CodeModel.draw`; present codes are met exactly, absent ones by rejection."""
        self.eval()
        wanted = list(dict.fromkeys(present))
        lengths = self._lengths_given(wanted)
        parts = rejected(
            lambda n, k: self._sets(n, k, wanted, lengths),
            lambda m: np.asarray(m[:, list(absent)].sum(1)).ravel() == 0,
            lambda m, at: m[at],
            rows,
            key,
        ) if absent else [self._sets(rows, key, wanted, lengths)]  # fmt: skip
        return sparse.vstack(parts, "csr")

    def _lengths_given(self, present: Sequence[int]) -> np.ndarray:
        """Distribution of the number of codes of subjects that have certain ones."""
        sizes = np.arange(len(self.known.lengths))
        log = np.log(np.maximum(self.known.lengths, 1e-30))
        known = torch.full((len(sizes), max(len(present), 1)), self.count, dtype=torch.long)
        for place, code in enumerate(present):
            left = np.maximum(sizes - place, 0)
            next_one = self(known, torch.from_numpy(left)).log_softmax(1)[:, code].numpy()
            log += next_one + np.log(np.maximum(left, 1e-30))
            known[:, place] = code
        log[: len(present)] = -np.inf
        if not np.isfinite(log).any():
            raise DataError(
                f"at most {len(sizes) - 1} codes of one subject", str(len(present)), None,
                "No subject has so many.",
            )  # fmt: skip
        shares = np.exp(log - log.max())
        return shares / shares.sum()

    def _sets(self, rows: int, key: Key, present: Sequence[int], lengths: np.ndarray) -> Any:
        rng = key.numpy()
        sizes = rng.choice(len(lengths), rows, p=lengths)
        codes = torch.full((rows, max(int(sizes.max(initial=0)), 1)), self.count, dtype=torch.long)
        codes[:, : len(present)] = torch.tensor(list(present), dtype=torch.long)
        for place in range(len(present), int(sizes.max(initial=0))):
            at = torch.from_numpy(np.flatnonzero(sizes > place))
            logits = self(codes[at, : max(place, 1)], torch.from_numpy(sizes)[at] - place)
            codes[at, place] = picked(logits, torch.from_numpy(rng.random(len(at), np.float32)))
        there = codes.numpy()
        row, column = np.nonzero(there < self.count)
        found = there[row, column]
        data = self.known.counts(found, rng.random(len(found)))
        return sparse.csr_matrix((data, (row, found)), (rows, self.count), np.int32)


class SetGame:
    """One player that predicts the codes to come from those known; how many are known is random.

    Args:
        network: The player.
    """

    phases = (Phase("predict", "generator"),)

    def __init__(self, network: SetNetwork) -> None:
        self.players = nn.ModuleDict({"generator": network})

    def loss(self, phase: str, batch: CodeBatch, noise: Noise) -> tuple[Tensor, Metrics]:
        """Mean negative log-likelihood of a subject's codes, nats."""
        network = self.players["generator"]
        assert isinstance(network, SetNetwork)
        loss = set_nats(network, batch, noise).mean()
        return loss, {"nats_per_subject": loss.detach()}


def set_nats(network: SetNetwork, batch: CodeBatch, noise: Noise) -> Tensor:
    """An estimate of each subject's negative log-likelihood given its number of codes, `(B,)`.

    A random part of the codes is shown; the mean over the others of the nats of the next one,
    times the number of codes, is right in expectation over orders, up to the logarithm of the
    number of orders, which no network can change.
    """
    codes = batch.codes
    here = codes < network.count
    sizes = here.sum(1)
    most = max(len(network.known.lengths), codes.shape[1])
    u = noise.uniform(most)[:, : codes.shape[1]]
    order = torch.where(here, u, 2).argsort(1).argsort(1)
    shown = (noise.uniform(1)[:, 0] * sizes).long()
    known = order < shown[:, None]
    seen = torch.where(known & here, codes, network.count)
    logits = network(seen, sizes - shown, noise if network.training else None)
    logs = logits.log_softmax(1)
    rest = here & ~known
    taken = logs.gather(1, torch.where(rest, codes, 0))
    total = -torch.where(rest, taken, 0.0).sum(1)
    return total / (sizes - shown).clamp(min=1) * sizes
