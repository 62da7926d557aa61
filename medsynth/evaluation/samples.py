"""Equal numbers of records on every side: more of them agree better by themselves."""

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import numpy as np

from medsynth.core.random import Key

MOST_DRAWS = 10
"""Samples of a larger side whose figures are averaged."""

SPLITS = 3
"""Ways to halve one side."""


class People(Protocol):
    """Records of people: a table, or codes of subjects."""

    def __len__(self) -> int:
        """How many."""

    def take(self, rows: np.ndarray, /) -> Self:
        """Some of them, in that order."""


P = TypeVar("P", bound=People)


def averaged(
    figures: Callable[[P], dict[str, float]], people: P, rows: int, key: Key
) -> dict[str, float]:
    """Figures of so many records, mean over samples where there are more.

    Args:
        figures: Of records.
        people: The records.
        rows: How many at a time, no more than there are.
        key: Which records.
    """
    draws = min(-(-len(people) // rows), MOST_DRAWS)
    found = [
        figures(people.take(key.fold(draw).numpy().permutation(len(people))[:rows]))
        for draw in range(draws)
    ]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def between_halves(figure: Callable[[P, P], float], people: P, key: Key) -> float:
    """A figure of one half of records against the other, where nobody was held out.

    Args:
        figure: Of two sides.
        people: The records.
        key: Which records; the mean over three ways to halve them is taken.
    """
    found = []
    for split in range(SPLITS):
        order = key.fold("halves", split).numpy().permutation(len(people))
        found.append(figure(*(people.take(half) for half in np.array_split(order, 2))))
    return float(np.mean(found))
