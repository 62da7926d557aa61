"""Which case is where: the order of an epoch and the share of a rank, from seeds alone.

Nothing is remembered, so a resumed run and another number of ranks go on with the same cases.
"""

from collections.abc import Sequence
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


def poisson(step: int, rate: float, cases: int, secret: int) -> list[int]:
    """Cases of one step of private training: each takes part by its own throw of a coin.

    This is the sampling that the accountant of `medsynth.training.privacy` assumes; a batch of
    fixed size or a permutation is another mechanism, with another epsilon. The privacy gained by
    sampling rests on nobody knowing who was drawn, hence the trainer's secret and not the run's
    seed.

    Args:
        step: From 0.
        rate: Probability of each case.
        cases: Cases in all.
        secret: `Trainer.secret`, after `checkpoint.load` when a run is resumed.

    Returns:
        Ascending indices below `cases`; `rate * cases` of them on average, perhaps none.
    """
    coins = Key(secret, ("poisson", step)).numpy().random(cases)
    return np.flatnonzero(coins < rate).tolist()


def deal(drawn: Sequence[int], rank: int, ranks: int, micro: int, micros: int) -> list[int]:
    """The part of a batch of any size that one rank computes in one micro-batch; may be empty."""
    return list(drawn[micro * ranks + rank :: ranks * micros])


def share(batch: int, rank: int, ranks: int, micro: int, micros: int) -> Share:
    """The part of the global batch that one rank computes in one micro-batch."""
    size = batch // (ranks * micros)
    return Share((micro * ranks + rank) * size, size, batch)


@lru_cache(maxsize=4)
def _permutation(cases: int, seed: int, epoch: int) -> np.ndarray:
    return Key(seed, ("order", epoch)).numpy().permutation(cases)
