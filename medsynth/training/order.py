"""Which case is where: the order of an epoch and the share of a rank, from seeds alone.

Nothing is remembered, so a resumed run and another number of ranks go on with the same cases.
"""

from functools import lru_cache

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
    at = np.arange(step * batch, (step + 1) * batch)
    epochs, places = np.divmod(at, cases)
    parts = [_permutation(cases, seed, int(e))[places[epochs == e]] for e in np.unique(epochs)]
    return np.concatenate(parts).tolist()


def share(batch: int, rank: int, ranks: int, micro: int, micros: int) -> Share:
    """The part of the global batch that one rank computes in one micro-batch."""
    size = batch // (ranks * micros)
    return Share((micro * ranks + rank) * size, size, batch)


@lru_cache(maxsize=4)
def _permutation(cases: int, seed: int, epoch: int) -> np.ndarray:
    return Key(seed, ("order", epoch)).numpy().permutation(cases)
