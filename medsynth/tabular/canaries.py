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
from medsynth.errors import ConfigError
from medsynth.tabular.codec import Cells

CHANCE_BITS = 1.44
"""Mean exposure of a record that is not remembered: its rank is uniform, log₂ e bits."""

DRAWS = 1000
TRIES = 50


@dataclass(frozen=True, eq=False)
class Planted:
    """Canaries, and candidates that were not put in.

    Args:
        canaries: Records, `Cells` or CSR, by number of copies.
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


def of_rows(tokens: np.ndarray, copies: Sequence[int], each: int, others: int, key: Key) -> Planted:
    """Rows whose columns are drawn independently, each as it was seen; no real row equals one.

    Every value occurs, the combination is nobody's: what is remembered of it is the row. (Uniform
    values would measure in the first place that a rare value was seen once more.)

    Args:
        tokens: Of the real rows, `(N, D)`.
        copies: How often canaries are put in.
        each: Canaries for each number of copies.
        others: Candidates.
        key: Draws them.

    Raises:
        ConfigError: The table has too few columns for combinations that nobody has.
    """
    total = len(copies) * each
    rng, real = key.numpy(), np.ascontiguousarray(tokens, np.int32)
    known = {row.tobytes() for row in real}
    found: list[np.ndarray] = []
    for _ in range(TRIES):
        drawn = [rng.permuted(column) for column in real.T]
        for row in np.ascontiguousarray(np.stack(drawn, 1)):
            if row.tobytes() not in known:
                known.add(row.tobytes())
                found.append(row)
        if len(found) >= total + others:
            break
    else:
        raise ConfigError(
            f"{total + others:,} combinations of values that no row has", f"{len(found):,}",
            "canaries", "Lower canaries.candidates; the table may have too few columns.",
        )  # fmt: skip
    chosen = np.stack(found[: total + others])
    middle = np.full(chosen.shape, 0.5, np.float32)
    return Planted(
        Cells(chosen[:total], middle[:total]),
        np.repeat(np.array(copies, int), each),
        Cells(chosen[total:], middle[total:]),
    )


def of_codes(matrix: Any, copies: Sequence[int], each: int, others: int, key: Key) -> Planted:
    """Subjects with as many codes as the median subject, codes drawn as often as they were seen.

    Args:
        matrix: CSR counts `(N, V)`.
        copies, each, others, key: As in `of_rows`.
    """
    total, rng = len(copies) * each, key.numpy()
    rates = np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(float)
    size = min(max(int(np.median(np.diff(matrix.indptr))), 1), int((rates > 0).sum()))
    codes = np.stack(
        [
            rng.choice(len(rates), size, replace=False, p=rates / rates.sum())
            for _ in range(total + others)
        ]
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


def words(found: Sequence[Exposure], candidates: int, proxy: bool) -> str:
    """Exposures in a line for a person.

    Args:
        found: By number of copies.
        candidates: How many records the canaries were ranked among.
        proxy: Whether the score is no likelihood.
    """
    told = ", ".join(
        f"{one.mean:.1f} [{one.low:.1f}, {one.high:.1f}] for {one.copies} "
        f"{'copy' if one.copies == 1 else 'copies'}"
        for one in found
    )
    what = "canaries by the critic, which is no likelihood" if proxy else "canaries"
    most = np.log2(candidates + 1)
    return f"exposure of {what}: {told} (bits; {CHANCE_BITS} by chance, at most {most:.1f})"
