"""Subjects against subjects: rates, pairs of codes, coverage, sizes, detection; no words."""

import numpy as np
from scipy import stats

from medsynth.core.codes import Codes
from medsynth.core.random import Key
from medsynth.evaluation.detection import told_apart
from medsynth.evaluation.statistics import Estimate

MOST_ROWS = 10_000
"""Subjects a side for what is learnt."""

PAIRED = 100
"""Most frequent codes whose pairs are compared, and that detection sees one by one."""

COMPONENTS = 32
"""Directions of all codes together that detection sees."""


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Pearson's, 0 where one side does not vary: then nothing agrees."""
    if len(one) < 2 or not np.ptp(one) or not np.ptp(two):
        return 0.0
    return float(np.corrcoef(one, two)[0, 1])


def root_mean_square(one: np.ndarray, two: np.ndarray) -> float:
    """Of the differences."""
    return float(np.sqrt(np.mean((np.asarray(one) - np.asarray(two)) ** 2)))


def rates(real: Codes, made: Codes) -> dict[str, float]:
    """Dimension-wise probability: agreement of the shares of subjects with each code.

    Pearson's correlation and the root mean square are ruled by the few frequent codes; the rank
    correlation gives rare ones their say.

    Source:
        Choi et al., MedGAN (arXiv 1703.06490), section 5.1.
    """
    one, two = real.rates, made.rates
    ranks = stats.rankdata(one), stats.rankdata(two)
    return {
        "rates_correlation": correlation(one, two),
        "rates_rank_correlation": correlation(*ranks),
        "rates_rmse": root_mean_square(one, two),
    }


def frequent(codes: Codes, most: int) -> np.ndarray:
    """Where the most frequent codes stand, most frequent first."""
    order = np.argsort(-codes.rates, kind="stable")[:most]
    return order[codes.rates[order] > 0]


def together(codes: Codes, at: np.ndarray) -> np.ndarray:
    """Subjects with both of two codes, `(len(at), len(at))`."""
    part = codes.presence[:, at]
    return np.asarray((part.T @ part).toarray(), float)


def pairs(real: Codes, made: Codes) -> dict[str, float]:
    """Agreement of co-occurrence among the most frequent codes.

    Rates of pairs follow from rates of codes for a good part; lifts do not: how much more often
    two codes meet than independent ones would (logarithm, half a subject added to both counts).
    """
    at = frequent(real, PAIRED)
    upper = np.triu_indices(len(at), 1)
    shares, lifts = [], []
    for side in (real, made):
        n, count = max(len(side), 1), together(side, at)[upper]
        expected = np.outer(side.rates[at], side.rates[at])[upper] * n
        shares.append(count / n)
        lifts.append(np.log((count + 0.5) / (expected + 0.5)))
    return {
        "pairs_rates_correlation": correlation(*shares),
        "pairs_lift_correlation": correlation(*lifts),
    }


def fingerprints(codes: Codes, counts: bool = True) -> list[bytes]:
    """Each subject as bytes, equal when the codes (and counts) are."""
    matrix = codes.matrix
    ends = zip(matrix.indptr, matrix.indptr[1:], strict=False)
    return [
        matrix.indices[a:b].tobytes() + (matrix.data[a:b].tobytes() if counts else b"")
        for a, b in ends
    ]


def coverage(real: Codes, made: Codes) -> dict[str, float]:
    """Codes that occur among real subjects and are made, and different sets of codes.

    Args:
        real: Subjects.
        made: As many, or the figures mean something else.

    Returns:
        `coverage_codes`: share of the real codes; `coverage_sets`: different sets as a share of
        the real number.
    """
    wanted = real.rates > 0
    sets = [len(set(fingerprints(side, counts=False))) for side in (real, made)]
    return {
        "coverage_codes": float((made.rates[wanted] > 0).mean()) if wanted.any() else 0.0,
        "coverage_sets": sets[1] / max(sets[0], 1),
    }


def sizes(codes: Codes) -> np.ndarray:
    """How many different codes each subject has, `(N,)`."""
    return np.diff(codes.matrix.indptr)


def size_gap(real: Codes, made: Codes) -> float:
    """Kolmogorov–Smirnov distance of codes per subject, 0 when equal."""
    return float(stats.ks_2samp(sizes(real), sizes(made), method="asymp").statistic)


def repeated(codes: Codes) -> float:
    """Share of entries that count more than once."""
    return float((codes.matrix.data > 1).mean()) if codes.matrix.nnz else 0.0


def detection(real: Codes, made: Codes, key: Key) -> Estimate:
    """Area under the curve of gradient boosting that tells real subjects from synthetic ones.

    It sees counts of the most frequent codes, directions in which all codes vary together
    (truncated singular vectors of both sides), how many codes a subject has, how many of them are
    not among the frequent ones, and the sum of counts.
    """
    from scipy import sparse
    from sklearn.decomposition import TruncatedSVD

    rng, rows = key.fold("rows").numpy(), min(len(real), len(made), MOST_ROWS)
    sides = [side.take(rng.permutation(len(side))[:rows]) for side in (real, made)]
    both = sparse.vstack([side.presence for side in sides]).tocsr()
    size = min(COMPONENTS, both.shape[1] - 1)
    blocks = []
    if size > 0 and both.nnz:
        blocks.append(TruncatedSVD(size, random_state=0).fit_transform(both))
    at = frequent(real, PAIRED)
    counts = sparse.vstack([side.matrix for side in sides]).tocsr()
    often = counts[:, at].toarray().astype(np.float32)
    total = np.diff(both.indptr)
    blocks += [often, np.stack([total, total - (often > 0).sum(1)], 1)]
    blocks.append(np.asarray(counts.sum(1)).reshape(-1, 1))
    features = np.concatenate(blocks, 1).astype(np.float32)
    return told_apart(features[:rows], features[rows:], key.fold("bootstrap"))
