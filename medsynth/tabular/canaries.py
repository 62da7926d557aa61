"""Canaries: made-up records among the real ones, to see whether a model remembers them.

A record that nobody could guess is put in a few times. If the model finds it more likely than
others of the same making, which it has not seen, it remembers it. Knows cells and codes by number.

Source:
    Carlini et al., *The secret sharer* (arXiv 1802.08232): exposure, section 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from medsynth.core.random import Key
from medsynth.tabular.codec import Cells

CHANCE_BITS = 1.44
"""Mean exposure of a record that is not remembered: its rank is uniform, log₂ e bits."""

DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Planted:
    """Canaries, and candidates that were not put in.

    Args:
        canaries: Records, `Cells` or CSR; the first half dozen of each number of copies.
        copies: How often each canary was put in, `(C,)`.
        candidates: Records of the same making.
    """

    canaries: Any
    copies: np.ndarray
    candidates: Any

    @property
    def again(self) -> np.ndarray:
        """Positions of the canaries, each as often as it is put in."""
        return np.repeat(np.arange(len(self.copies)), self.copies)


def of_rows(
    sizes: Sequence[int], copies: Sequence[int], each: int, others: int, key: Key
) -> Planted:
    """Rows whose tokens are uniform, column by column.

    Args:
        sizes: Tokens of each column.
        copies: How often canaries are put in.
        each: Canaries for each number of copies.
        others: Candidates.
        key: Draws them.
    """
    total = len(copies) * each
    rng = key.numpy()
    tokens = (rng.random((total + others, len(sizes))) * np.array(sizes)).astype(np.int32)
    middle = np.full(tokens.shape, 0.5, np.float32)
    return Planted(
        Cells(tokens[:total], middle[:total]),
        np.repeat(np.array(copies, int), each),
        Cells(tokens[total:], middle[total:]),
    )


def of_codes(matrix: Any, copies: Sequence[int], each: int, others: int, key: Key) -> Planted:
    """Subjects with as many codes as the median subject, any codes.

    Args:
        matrix: CSR counts `(N, V)`.
        copies, each, others, key: As in `of_rows`.
    """
    total, rng = len(copies) * each, key.numpy()
    size = max(int(np.median(np.diff(matrix.indptr))), 1)
    codes = np.stack(
        [rng.choice(matrix.shape[1], size, replace=False) for _ in range(total + others)]
    )
    whole = sparse.csr_matrix(
        (np.ones(codes.size, np.int32), np.sort(codes, 1).ravel(),
         np.arange(0, codes.size + 1, size)),
        (len(codes), matrix.shape[1]),
    )  # fmt: skip
    return Planted(whole[:total], np.repeat(np.array(copies, int), each), whole[total:])


@dataclass(frozen=True)
class Exposure:
    """Mean exposure of the canaries with a number of copies, bits, and its 95 % interval.

    Args:
        copies: How often they were put in.
        mean, low, high: Bits; 1.44 by chance, at most log₂ of the number of candidates.
        canaries: How many.
    """

    copies: int
    mean: float
    low: float
    high: float
    canaries: int


def exposures(
    planted: Planted, canary_scores: np.ndarray, candidate_scores: np.ndarray, key: Key
) -> list[Exposure]:
    """Exposure by number of copies.

    Args:
        planted: What was put in.
        canary_scores, candidate_scores: How likely the model finds each, `(C,)` and `(R,)`.
        key: Bootstrap over canaries.
    """
    ranked = np.sort(candidate_scores)
    above = len(ranked) - np.searchsorted(ranked, canary_scores, "left")
    bits = np.log2(len(ranked) + 1) - np.log2(above + 1)
    found = []
    for copies in np.unique(planted.copies):
        own = bits[planted.copies == copies]
        drawn = key.fold(int(copies)).numpy().choice(own, (DRAWS, len(own))).mean(1)
        low, high = np.percentile(drawn, (2.5, 97.5))
        found.append(Exposure(int(copies), float(own.mean()), float(low), float(high), len(own)))
    return found


def metrics(found: Sequence[Exposure], proxy: bool) -> Mapping[str, float]:
    """Exposures for the log: `exposure_1` …, or `exposure_proxy_1` … where the score is no
    likelihood."""
    name = "exposure_proxy" if proxy else "exposure"
    return {
        f"{name}_{one.copies}{end}": value
        for one in found
        for end, value in (("", one.mean), ("_low", one.low), ("_high", one.high))
    }
