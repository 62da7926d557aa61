"""Which records a step sees: in turn, by condition, or each by chance.

Everything is a function of (seed, step), so that a resumed run and another number of ranks go on
with the same records. Codes stay sparse until a batch is made.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from medsynth.core.random import Key
from medsynth.tabular.codec import Cells
from medsynth.tabular.models import CodeBatch, RowBatch
from medsynth.training.order import deal, poisson, positions, share
from medsynth.training.trainer import Trainer


class Rows:
    """Rows for the games on tables.

    Args:
        cells: Of all rows.
        seed: Of the run.
        conditions: Columns by which rows are chosen, so that rare levels are seen more often; with
            none, rows come in turn.

    Source:
        Training by sampling: Xu et al. (arXiv 1907.00503), section 4.3: a column at random, a
        level by the logarithm of its frequency, a row that has it.
    """

    def __init__(self, cells: Cells, seed: int, conditions: tuple[int, ...] = ()) -> None:
        self.cells, self.seed, self.conditions = cells, seed, conditions
        self._orders = {c: cells.tokens[:, c].argsort(kind="stable") for c in conditions}
        self._counts = {c: np.bincount(cells.tokens[:, c]) for c in conditions}

    def __len__(self) -> int:
        return len(self.cells.tokens)

    def batch(self, at: np.ndarray, device: torch.device) -> RowBatch:
        """Some rows, without a condition."""
        none = torch.zeros(len(at), dtype=torch.long, device=device)
        tokens = torch.from_numpy(self.cells.tokens[at]).long().to(device)
        return RowBatch(tokens, torch.from_numpy(self.cells.offsets[at]).to(device), none, none)

    def batches(self, trainer: Trainer) -> Iterator[RowBatch]:
        """This rank's micro-batches, from the trainer's step on."""
        device = trainer.world.device
        if not self.conditions:
            for at in turns(trainer, len(self)):
                yield self.batch(at, device)
            return
        for step, part in _parts(trainer):
            column, token, at = (values[part] for values in self._chosen(step, trainer.batch))
            yield self.batch(at, device)._replace(
                column=torch.from_numpy(column).to(device), token=torch.from_numpy(token).to(device)
            )

    def _chosen(self, step: int, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Conditions and rows that meet them, `(batch,)` each."""
        rng = Key(self.seed, ("conditions", step)).numpy()
        column = rng.choice(np.array(self.conditions), batch)
        token, at = np.zeros(batch, np.int64), np.zeros(batch, np.int64)
        u = rng.random((batch, 2))
        for c in np.unique(column):
            here = np.flatnonzero(column == c)
            counts = self._counts[c]
            steps = np.log1p(counts).cumsum()
            token[here] = np.searchsorted(steps / steps[-1], u[here, 0], "right")
            first = np.concatenate([[0], counts.cumsum()])
            place = first[token[here]] + (u[here, 1] * counts[token[here]]).astype(int)
            at[here] = self._orders[c][place]
        return column, token, at


class Subjects:
    """Subjects for the games on codes.

    Args:
        matrix: CSR counts `(N, V)`.
        seed: Of the run.
    """

    def __init__(self, matrix: Any, seed: int) -> None:
        self.matrix, self.seed = matrix, seed

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def batch(self, at: np.ndarray, device: torch.device) -> CodeBatch:
        """Some subjects."""
        starts, ends = self.matrix.indptr[at], self.matrix.indptr[np.asarray(at) + 1]
        sizes = ends - starts
        place = np.arange(max(int(sizes.max(initial=1)), 1))
        here = place < sizes[:, None]
        entry = np.where(here, starts[:, None] + place, 0)
        empty = not self.matrix.nnz
        codes = np.where(here, 0 if empty else self.matrix.indices[entry], self.matrix.shape[1])
        counts = np.where(here, 0 if empty else self.matrix.data[entry], 0)
        return CodeBatch(
            torch.from_numpy(codes.astype(np.int64)).to(device),
            torch.from_numpy(counts.astype(np.float32)).to(device),
        )

    def batches(self, trainer: Trainer) -> Iterator[CodeBatch]:
        """This rank's micro-batches, from the trainer's step on."""
        for at in turns(trainer, len(self)):
            yield self.batch(at, trainer.world.device)


def turns(trainer: Trainer, records: int) -> Iterator[np.ndarray]:
    """Positions of each micro-batch of this rank, from the trainer's step on.

    Every epoch is a permutation of all records; with privacy each record is drawn by chance in
    every step, as the accountant assumes, so that batches vary in size.
    """
    if not trainer.private:
        for step, part in _parts(trainer):
            yield np.array(positions(step, trainer.batch, records, trainer.seed)[part])
        return
    assert trainer.secret is not None
    (rate,) = {private.rate for private in trainer.private.values()}
    world, step = trainer.world, trainer.step
    while True:
        drawn = poisson(step, rate, records, trainer.secret)
        for micro in range(trainer.accumulate):
            at = deal(drawn, world.rank, world.size, micro, trainer.accumulate)
            yield np.array(at, np.int64)
        step += 1


def _parts(trainer: Trainer) -> Iterator[tuple[int, slice]]:
    """Steps from the trainer's on, and which part of the global batch each micro-batch is."""
    world, step = trainer.world, trainer.step
    while True:
        for micro in range(trainer.accumulate):
            part = share(trainer.batch, world.rank, world.size, micro, trainer.accumulate)
            yield step, slice(part.first, part.first + part.size)
        step += 1
