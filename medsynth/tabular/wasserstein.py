"""The game of a generator and a Wasserstein critic, on rows and on codes.

On rows: conditional, with packing (CTGAN's paper). On codes: EMR-WGAN. Privately: the critic's
view of records is one number a record, everything else touches only what was generated.
Knows cells and codes by number; no names, no files.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.tabular.codec import Cells
from medsynth.tabular.models import (
    Allowed,
    CodeBatch,
    CodeModel,
    Residual,
    RowBatch,
    RowModel,
    obeying,
    rejected,
)
from medsynth.tabular.sets import CodeRates
from medsynth.tabular.vectors import Layout, Vectors, logs
from medsynth.training.game import Metrics, Noise, Phase


class Fakes(Protocol):
    """What a generator must do for the game."""

    def real(self, batch: Any) -> Tensor:
        """Records as the critic sees them, `(B, W)`."""
        ...

    def fake(self, batch: Any, noise: Noise) -> tuple[Tensor, Tensor]:
        """Made records `(B, W)` and how badly each meets its condition, nats `(B,)`."""
        ...


class RowGenerator(RowModel):
    """Noise, and a condition when there is one, to rows.

    Args:
        layout: Of the table.
        width, depth: Of the residual blocks.
        latent: Numbers of noise.
        conditional: Whether a level of one named column is asked for.

    Source:
        Xu et al. (arXiv 1907.00503), with layer norm in place of batch norm, so that a row does
        not depend on the rows beside it.
    """

    def __init__(
        self, layout: Layout, width: int, depth: int, latent: int, conditional: bool
    ) -> None:
        super().__init__(layout.sizes)
        self.vectors, self.latent = Vectors(layout), latent
        self.named = layout.named if conditional else ()
        self.shares = layout.shares
        given = self.vectors.tokens if self.named else 0
        self.enter = nn.Linear(latent + given, width)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, self.vectors.width)
        with torch.no_grad():
            self.leave.bias[: self.vectors.tokens] = logs(layout.shares)

    def forward(self, z: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits of tokens `(B, T)` and offsets from −1 to 1 `(B, D)`."""
        h = self.enter(z if condition is None else torch.cat([z, condition], 1))
        for block in self.blocks:
            h = block(h)
        out = self.leave(functional.silu(self.norm(h))).float()
        return out[:, : self.vectors.tokens], out[:, self.vectors.tokens :].tanh()

    def condition(self, column: Tensor, token: Tensor) -> Tensor | None:
        """One-hot conditions `(B, T)`; None when nothing is asked for."""
        if not self.named:
            return None
        starts = torch.tensor(self.starts, device=column.device)
        onehot = torch.zeros(len(column), self.vectors.tokens, device=column.device)
        return onehot.scatter_(1, (starts[column] + token)[:, None], 1.0)

    def real(self, batch: RowBatch) -> Tensor:
        """Vectors of rows, with their conditions behind."""
        vectors = self.vectors.real(batch.tokens, batch.offsets)
        condition = self.condition(batch.column, batch.token)
        return vectors if condition is None else torch.cat([vectors, condition], 1)

    def fake(self, batch: RowBatch | None, noise: Noise) -> tuple[Tensor, Tensor]:
        """See `Fakes.fake`."""
        z, u = noise.normal(self.latent), noise.uniform(self.vectors.tokens)
        condition = None
        if batch is not None:
            condition = self.condition(batch.column, batch.token)
        logits, offsets = self(z, condition)
        made = self.vectors.relaxed(logits, offsets, u)
        if condition is None:
            return made, made.new_zeros(len(made))
        per_column = torch.cat([p.log_softmax(1) for p in logits.split(self.sizes, 1)], 1)
        missed = -(per_column * condition).sum(1)
        return torch.cat([made, condition], 1), missed

    def drift(self, made: Tensor) -> Tensor:
        """Squared distance between the shares of made tokens and those begun with, a scalar."""
        wanted = torch.from_numpy(np.concatenate(self.shares)).float().to(made.device)
        return (made[:, : self.vectors.tokens].mean(0) - wanted).square().sum()

    @property
    def width(self) -> int:
        """Numbers that the critic sees of a row."""
        return self.vectors.width + (self.vectors.tokens if self.named else 0)

    @torch.inference_mode()
    def draw(self, rows: int, key: Key, allowed: Allowed) -> Cells:
        """See `RowModel.draw`; one named column is asked for, the others are met by rejection."""
        self.eval()
        asked = next((i for i in allowed if i in self.named), None)

        def some(count: int, root: Key) -> Cells:
            rng = root.numpy()
            z = torch.from_numpy(rng.standard_normal((count, self.latent), np.float32))
            condition = None
            if self.named:
                column = (
                    np.full(count, asked) if asked is not None else rng.choice(self.named, count)
                )
                token = np.zeros(count, np.int64)
                for c in np.unique(column):
                    share = self.shares[c] * (allowed[c] if c == asked else 1)
                    share = share if share.sum() else allowed[c].astype(float)
                    here = column == c
                    token[here] = rng.choice(len(share), here.sum(), p=share / share.sum())
                condition = self.condition(torch.from_numpy(column), torch.from_numpy(token))
            logits, offsets = self(z, condition)
            return self.vectors.drawn(logits, offsets, rng)

        return obeying(some, rows, key, allowed)


class CodeGenerator(CodeModel):
    """Noise to codes that are there or not; the critic sees draws, not probabilities.

    Args:
        known: What was counted.
        width, depth: Of the residual blocks.
        latent: Numbers of noise.

    Source:
        EMR-WGAN: Zhang et al., JAMIA 27(1), 2020, without an autoencoder. Draws pass their
        gradients straight through (Bengio et al., arXiv 1308.3432).
    """

    def __init__(self, known: CodeRates, width: int, depth: int, latent: int) -> None:
        super().__init__(len(known.rates))
        self.latent, self.known = latent, known
        self.enter = nn.Linear(latent, width)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, self.count)
        with torch.no_grad():
            odds = known.rates / (1 - known.rates).clip(1e-6)
            self.leave.bias.copy_(torch.from_numpy(np.log(odds)).float())

    def forward(self, z: Tensor) -> Tensor:
        """Log-odds of each code `(B, V)`."""
        h = self.enter(z)
        for block in self.blocks:
            h = block(h)
        return self.leave(functional.silu(self.norm(h))).float()

    def real(self, batch: CodeBatch) -> Tensor:
        """Who has which code, `(B, V)`."""
        return (batch.dense(self.count) > 0).float()

    def fake(self, batch: CodeBatch | None, noise: Noise) -> tuple[Tensor, Tensor]:
        """See `Fakes.fake`; no conditions."""
        chances = self(noise.normal(self.latent)).sigmoid()
        there = (noise.uniform(self.count) < chances).float()
        return there + chances - chances.detach(), chances.new_zeros(len(chances))

    @property
    def width(self) -> int:
        """Numbers that the critic sees of a subject."""
        return self.count

    @torch.inference_mode()
    def draw(self, rows: int, key: Key, present: Sequence[int], absent: Sequence[int]) -> Any:
        """See `CodeModel.draw`; conditions are met by rejection."""
        self.eval()

        def some(count: int, root: Key) -> Any:
            rng = root.numpy()
            z = torch.from_numpy(rng.standard_normal((count, self.latent), np.float32))
            there = rng.random((count, self.count), np.float32) < self(z).sigmoid().numpy()
            return counted(there, self.known, rng)

        return given_codes(some, rows, key, present, absent)


def counted(there: np.ndarray, known: CodeRates, rng: np.random.Generator) -> Any:
    """Codes that are there, boolean `(N, V)`, as CSR counts."""
    row, column = np.nonzero(there)
    data = known.counts(column, rng.random(len(column)))
    return sparse.csr_matrix((data, (row, column)), there.shape, np.int32)


def given_codes(
    draw: Any, rows: int, key: Key, present: Sequence[int], absent: Sequence[int]
) -> Any:
    """Subjects with certain codes and without others, by rejection, CSR."""
    if not present and not absent:
        return draw(rows, key)

    def fits(matrix: Any) -> np.ndarray:
        having = (matrix[:, list(present)] > 0).sum(1)
        without = matrix[:, list(absent)].sum(1)
        return (np.asarray(having).ravel() == len(present)) & (np.asarray(without).ravel() == 0)

    return sparse.vstack(rejected(draw, fits, lambda m, at: m[at], rows, key), "csr")


def critic(width: int, hidden: Sequence[int]) -> nn.Sequential:
    """Linear layers with layer norm and leaky ReLU; one number at the end."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.LayerNorm(size), nn.LeakyReLU(0.2)]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, 1))


class WassersteinGame:
    """Generator against critic.

    Args:
        generator: A `RowGenerator` or `CodeGenerator`.
        judge: The critic, one number for `pack` records side by side.
        penalty: Weight of the gradient penalty.
        turns: Critic's turns to one of the generator.
        pack: Records that the critic sees at once; more make collapse visible.
        target: Column that a classifier must be able to tell from the others; None for none.
        agreement: Weight of the classifier's verdict.
        anchor: Weight of the squared distance between the shares of made tokens and those that the
            generator began with; with privacy these are public, and keep it from drifting.

    Source:
        Gulrajani et al. (arXiv 1704.00028); packing: Lin et al. (arXiv 1712.04086); classifier:
        Park et al., TableGAN (arXiv 1806.03384).
    """

    def __init__(
        self,
        generator: RowGenerator | CodeGenerator,
        judge: nn.Module,
        *,
        penalty: float = 10.0,
        turns: int = 1,
        pack: int = 1,
        target: int | None = None,
        agreement: float = 1.0,
        anchor: float = 0.0,
    ) -> None:
        self.players = nn.ModuleDict({"generator": generator, "critic": judge})
        self.penalty, self.pack = penalty, pack
        self.target, self.agreement, self.anchor = target, agreement, anchor
        self.phases = [Phase("critic", "critic"), Phase("generate", "generator", turns)]
        if target is not None:
            assert isinstance(generator, RowGenerator)
            self.players["classifier"] = nn.Sequential(
                nn.Linear(generator.vectors.width, 128), nn.LeakyReLU(0.2),
                nn.Linear(128, generator.sizes[target]),
            )  # fmt: skip
            self.phases.insert(0, Phase("classify", "classifier"))

    @property
    def generator(self) -> RowGenerator | CodeGenerator:
        """The generator."""
        found = self.players["generator"]
        assert isinstance(found, RowGenerator | CodeGenerator)
        return found

    def loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Metrics]:
        """The loss of one phase, a mean over records."""
        if phase == "classify":
            return self._told(self.generator.real(batch), batch.tokens[:, self._target]), {}
        made, missed = self.generator.fake(batch, noise)
        if phase == "generate":
            verdict = self.verdict(made).mean()
            loss = missed.mean() - verdict
            metrics: Metrics = {"loss_generator": -verdict.detach()}
            if self.target is not None:
                agreed = self._told(made, made[:, self._own])
                loss = loss + self.agreement * agreed
                metrics["loss_agreement"] = agreed.detach()
            if self.anchor and isinstance(self.generator, RowGenerator):
                drift = self.generator.drift(made)
                loss = loss + self.anchor * drift
                metrics["drift"] = drift.detach()
            if batch is not None:  # privately nobody but the critic sees records
                with torch.no_grad():
                    real = self.generator.real(batch)
                    metrics["diversity"] = _spread(made) / _spread(real).clamp(min=1e-6)
            return loss, metrics
        made = made.detach()
        real = self.generator.real(batch)
        gap = self.verdict(made).mean() - self.verdict(real).mean()
        slope = self._slope(real, made, noise)
        return gap + self.penalty * slope, {"distance": -gap.detach(), "penalty": slope.detach()}

    def private_loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Tensor, Metrics]:
        """The critic's loss, parted into one number a record, and what touches no record.

        The gradient is penalised between made records only: what lies between a real and a made
        one would be a record's, too.
        """
        made = self.generator.fake(batch, noise)[0].detach()
        per_record = -self.verdict(self.generator.real(batch))
        pairs = len(made) // 2  # neighbours, whoever computes them
        slope = self._slope(made[0 : 2 * pairs : 2], made[1 : 2 * pairs : 2], noise)
        public = self.verdict(made).mean() + self.penalty * slope
        gap: Metrics = {
            "penalty": slope.detach(),
            "verdict_fake": self.verdict(made).mean().detach(),
        }
        return per_record, public, gap

    @property
    def _target(self) -> int:
        assert self.target is not None
        return self.target

    @property
    def _own(self) -> slice:
        """Where the target's tokens stand in a vector."""
        generator = self.generator
        assert isinstance(generator, RowGenerator)
        return slice(generator.starts[self._target], generator.starts[self._target + 1])

    def verdict(self, records: Tensor) -> Tensor:
        """What the critic says of records as it sees them, `(B / pack,)`; high for real."""
        packed = records.reshape(len(records) // self.pack, self.pack * records.shape[1])
        return torch.as_tensor(self.players["critic"](packed)).float().squeeze(1)

    def _slope(self, one: Tensor, two: Tensor, noise: Noise) -> Tensor:
        """Mean squared distance of the critic's slope from 1 between two sets of records."""
        packs = len(one) // self.pack
        u = noise.uniform(1)  # of each pack its first record's, whoever computes it
        u = u[:: max(len(u) // max(packs, 1), 1)][:packs]
        one, two = (r.reshape(packs, self.pack * r.shape[1]) for r in (one, two))
        between = (u * one + (1 - u) * two).requires_grad_()
        with torch.autocast(between.device.type, enabled=False):
            verdict = self.players["critic"](between.float())
            (slope,) = torch.autograd.grad(verdict.sum(), between, create_graph=True)
        return ((slope.square().sum(1) + 1e-12).sqrt() - 1).square().mean()

    def _told(self, records: Tensor, truth: Tensor) -> Tensor:
        """The classifier's cross-entropy of the target, from the other columns."""
        generator = self.generator
        assert isinstance(generator, RowGenerator)
        blind = records[:, : generator.vectors.width].clone()
        blind[:, self._own] = 0
        blind[:, generator.vectors.tokens + self._target] = 0
        return functional.cross_entropy(self.players["classifier"](blind), truth)


def _spread(records: Tensor) -> Tensor:
    return records.std(0).mean()
