"""Which case is where: the order of an epoch and the share of a rank, from seeds alone.

Nothing is remembered, so a resumed run and another number of ranks go on with the same cases.
"""

import numpy as np

from medsynth.core.random import Key
from medsynth.training.game import Share


def positions(step: int, batch: int, cases: int, seed: int) -> list[int]:
    """Cases of one step's global batch.

    Every epoch is a permutation of all cases, seeded by (seed, epoch); batches run across the
    ends of epochs.

    Args:
        step: From 0.
        batch: Cases per step.
        cases: Cases in all.
        seed: Seed of the run.

    Returns:
        `batch` indices below `cases`.
    """
    result: list[int] = []
    for at in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(at, cases)
        result.append(int(_permutation(cases, seed, epoch)[place]))
    return result


def share(batch: int, rank: int, ranks: int, micro: int, micros: int) -> Share:
    """The part of the global batch that one rank computes in one micro-batch."""
    size = batch // (ranks * micros)
    return Share((micro * ranks + rank) * size, size, batch)


def _permutation(cases: int, seed: int, epoch: int) -> np.ndarray:
    return Key(seed, ("order", epoch)).numpy().permutation(cases)
