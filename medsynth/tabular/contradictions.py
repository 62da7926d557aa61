"""What no real row contradicts: values that never meet, numbers that never exceed others.

A network gives a little probability to everything; a man with an ovary is a row that anybody sees
through. Knows tables and numbers of levels; no networks, no files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np

from medsynth.core.table import NUMBERS, Table

EXPECTED = 12.0
"""Rows that would have both values if the columns were independent; none has. By chance that
happens to one pair of values in 160,000."""

MOST_LEVELS = 64
FEWEST = 200
"""Rows with both numbers that an order needs."""

AGAINST = 0.05
"""Share of rows that would break the order if the columns were independent, at least."""


@dataclass(frozen=True)
class Contradictions:
    """Found in real rows, and kept out of made ones.

    Args:
        apart: Column, level, column, level (by number of level, missing marks after the levels)
            that never meet.
        ordered: Columns of numbers of which the first is never larger than the second.
    """

    apart: tuple[tuple[str, int, str, int], ...] = ()
    ordered: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, table: Table) -> "Contradictions":
        """Look at real rows.

        Args:
            table: Those that are learnt from.
        """
        named = [c.name for c in table.schema.modelled if c.named and c.levels]
        places = {name: table.places(name) for name in named}
        places = {name: p for name, p in places.items() if p.max(initial=0) < MOST_LEVELS}
        apart = []
        for a, b in combinations(places, 2):
            shape = int(places[a].max()) + 1, int(places[b].max()) + 1
            counts = np.bincount(places[a] * shape[1] + places[b], minlength=shape[0] * shape[1])
            counts = counts.reshape(shape)
            expected = np.outer(counts.sum(1), counts.sum(0)) / max(table.rows, 1)
            for i, j in np.argwhere((counts == 0) & (expected >= EXPECTED)).tolist():
                apart.append((a, i, b, j))
        numbers = [c.name for c in table.schema.modelled if c.kind in NUMBERS]
        rng = np.random.default_rng(0)
        ordered = []
        for a, b in permutations(numbers, 2):
            here = (table.absent(a) == 0) & (table.absent(b) == 0)
            one, two = table.values[a][here], table.values[b][here]
            if len(one) < FEWEST or (one > two).any() or len(np.unique(one)) < 3:
                continue
            if (one > rng.permutation(two)).mean() >= AGAINST:
                ordered.append((a, b))
        return cls(tuple(apart), tuple(ordered))

    def broken(self, table: Table) -> np.ndarray:
        """Which rows contradict, boolean `(rows,)`."""
        wrong = np.zeros(table.rows, bool)
        for _, rows in self._each(table):
            wrong |= rows
        return wrong

    def counted(self, table: Table) -> list[tuple[str, int]]:
        """What rows contradict, in words, and how many do, most frequent first."""
        found = [(told, int(rows.sum())) for told, rows in self._each(table)]
        return sorted(((t, n) for t, n in found if n), key=lambda pair: -pair[1])

    def _each(self, table: Table) -> Iterator[tuple[str, np.ndarray]]:
        """Each contradiction in words, and which rows have it."""
        places = {name: table.places(name) for a, _, b, _ in self.apart for name in (a, b)}
        texts = {name: table.schema.column(name).texts for name in places}
        for a, i, b, j in self.apart:
            told = f"{a}={texts[a][i]} with {b}={texts[b][j]}"
            yield told, (places[a] == i) & (places[b] == j)
        for a, b in self.ordered:
            here = (table.absent(a) == 0) & (table.absent(b) == 0)
            yield f"{a} above {b}", here & (table.values[a] > table.values[b])

    def to_json(self) -> dict[str, Any]:
        """Plain lists."""
        return {"apart": [list(p) for p in self.apart], "ordered": [list(p) for p in self.ordered]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Contradictions":
        """The inverse of `to_json`."""
        return cls(
            tuple((str(a), int(i), str(b), int(j)) for a, i, b, j in data["apart"]),
            tuple((str(a), str(b)) for a, b in data["ordered"]),
        )
