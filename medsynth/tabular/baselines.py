"""What costs nothing: independent columns, and a Gaussian copula.

A model that is not better than these has learnt nothing. Knows tokens; no networks.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.tabular.codec import Codec

MOST = 0.99
"""Largest correlation of two columns."""


@dataclass(frozen=True, eq=False)
class Independent:
    """Every column by itself, as often as it was seen."""

    codec: Codec
    shares: tuple[np.ndarray, ...]

    @classmethod
    def fit(cls, table: Table) -> "Independent":
        """Count tokens."""
        codec = Codec.fit(table)
        return cls(codec, _shares(codec, codec.encode(table)))

    def sample(self, rows: int, key: Key) -> Table:
        """Draw each column for itself."""
        u = key.fold("columns").numpy().random((rows, len(self.shares)))
        return self.codec.decode(_tokens(self.shares, u), key.fold("values"))


@dataclass(frozen=True, eq=False)
class Copula:
    """Columns with their own distributions, tied by a multivariate normal one.

    Args:
        codec: Columns to tokens.
        shares: How often each token occurs, in the order of values.
        correlation: Of the normal scores, `(D, D)`.

    Source:
        Nelsen, *An introduction to copulas*, 2006; tokens as intervals of a normal score:
        Olsson, Drasgow and Dorans, Psychometrika 47, 1982.
    """

    codec: Codec
    shares: tuple[np.ndarray, ...]
    correlation: np.ndarray

    @classmethod
    def fit(cls, table: Table, codec: Codec | None = None) -> "Copula":
        """Measure distributions, and correlations of the normal scores behind the tokens.

        Tokens show a normal score only as an interval. The covariance of the scores' means over
        these intervals is smaller than that of the scores by the variances of the means, to first
        order; it is scaled up by that.

        Args:
            table: Rows.
            codec: Columns to tokens; None fits it to the rows.
        """
        codec = codec or Codec.fit(table)
        tokens = codec.encode(table)
        for index, column in enumerate(codec.columns):
            tokens[:, index] = column.ranks()[tokens[:, index]]
        shares = _shares(codec, tokens)
        scores = np.empty(tokens.shape)
        for index, share in enumerate(shares):
            edges = stats.norm.pdf(stats.norm.ppf(np.concatenate([[0], np.cumsum(share)])))
            means = (edges[:-1] - edges[1:]) / np.maximum(share, 1e-12)
            scores[:, index] = means[tokens[:, index]]
        covariance = np.atleast_2d(np.cov(scores, rowvar=False))
        variance = np.maximum(np.diag(covariance), 1e-9)
        correlation = np.clip(covariance / np.outer(variance, variance), -MOST, MOST)
        np.fill_diagonal(correlation, 1)
        return cls(codec, shares, np.nan_to_num(correlation))

    def sample(self, rows: int, key: Key) -> Table:
        """Draw normal scores, then tokens."""
        values, vectors = np.linalg.eigh(self.correlation)
        root = vectors * np.sqrt(np.maximum(values, 0))
        root /= np.linalg.norm(root, axis=1, keepdims=True)  # unit variances again
        normal = key.fold("columns").numpy().standard_normal((rows, len(values))) @ root.T
        tokens = _tokens(self.shares, stats.norm.cdf(normal))
        for index, column in enumerate(self.codec.columns):
            tokens[:, index] = column.ranks().argsort()[tokens[:, index]]
        return self.codec.decode(tokens, key.fold("values"))


def _shares(codec: Codec, tokens: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(
        np.bincount(tokens[:, index], minlength=size) / len(tokens)
        for index, size in enumerate(codec.sizes)
    )


def _tokens(shares: tuple[np.ndarray, ...], u: np.ndarray) -> np.ndarray:
    columns = []
    for index, share in enumerate(shares):
        steps = np.cumsum(share)
        columns.append(np.searchsorted(steps / steps[-1], u[:, index], "right"))
    return np.stack([np.minimum(c, len(s) - 1) for c, s in zip(columns, shares, strict=True)], 1)
