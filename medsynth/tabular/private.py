"""What differential privacy asks of records before the first step: nothing that is looked at free.

Levels and ranges are declared public; where values lie within a range is counted with noise, and
the ledger says so. Knows schemas and cells; the accountant stands in `training.privacy`.
"""

import math
from dataclasses import replace

import numpy as np
import torch

from medsynth.config.tabular import Tabular
from medsynth.core.codes import Codes
from medsynth.core.random import Key
from medsynth.core.table import Column, Schema, Table
from medsynth.errors import ConfigError
from medsynth.tabular.codec import (
    MOST_BINS,
    MOST_POINTS,
    SPIKE,
    Codec,
    Tokens,
    grid,
    knots_of,
)
from medsynth.tabular.material import Material
from medsynth.tabular.vectors import Layout
from medsynth.tabular.wasserstein import WassersteinGame
from medsynth.training.privacy import Ledger, Private, noise_for
from medsynth.training.privacy import refuse_mixing as refuse

GRID = 256
"""Equal parts of a column's range in which values are counted with noise."""


def refuse_undeclared(records: Table | Codes, declared: Schema | None, config: Tabular) -> None:
    """Levels, ranges and names of codes must be public, by declaration.

    Raises:
        ConfigError: They were read off the records, or a range was left open.
    """
    if config.privacy.public:
        return
    if isinstance(records, Codes):
        raise ConfigError(
            "privacy.public: true, when the names of the codes are public", "nothing said", None,
            "A code that only one person has is a fact about that person: take a public list.",
        )  # fmt: skip
    columns = [] if declared is None else declared.columns
    told = {column.name: column for column in columns}
    found = records.schema.modelled
    if absent := [c.name for c in found if c.name not in told]:
        raise ConfigError(
            "a declared schema (data.schema) with levels and ranges of all columns",
            f"inferred ones ({_few(absent)})", None,
            "Levels and ranges that are read off the records are not private. Declare them, or say "
            "privacy.public: true if they are public anyway.",
        )  # fmt: skip
    ends = {name: (column.low, column.high) for name, column in told.items() if not column.named}
    if absent := [c.name for c in found if None in ends.get(c.name, ())]:
        raise ConfigError(
            "a declared range (low and high) of each column of numbers",
            f"none of {_few(absent)}", None,
            "A range that is read off the records is not private. Declare what is possible, or say "
            "privacy.public: true if the range is public anyway.",
        )  # fmt: skip
    if inferred := [c.name for c in found if c.inferred or told[c.name].inferred]:
        raise ConfigError(
            "a schema that somebody declared",
            f"levels and ranges that medsynth read off records ({_few(inferred)})", None,
            "Read them, correct levels and ranges to what is public, and delete `inferred`; or say "
            "privacy.public: true if they are public as they are.",
        )  # fmt: skip


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")


def codec(table: Table, sigma: float, key: Key) -> tuple[Codec, Ledger]:
    """Cells from declared columns and noisy histograms.

    Adding or removing a record changes one count in each histogram by one, so that all together
    have an L2 sensitivity of the root of their number; noise of `sigma` times that makes them one
    Gaussian mechanism.

    Args:
        table: Rows.
        sigma: Noise multiplier.
        key: The secret.

    Returns:
        Codec, and the ledger with what was spent (nothing without wide numeric columns).
    """
    columns = table.schema.modelled
    wide = [column for column in columns if not column.named and _points(column) is None]
    deviation = sigma * math.sqrt(len(wide))
    found = []
    for column in columns:
        if column.named:
            known = np.arange(len(column.levels), dtype=float)
            tokens = Tokens(column, known, np.empty(0), np.empty((0, 2)), np.empty((0, 2)))
        elif (points := _points(column)) is not None:
            tokens = Tokens(column, points, np.empty(0), np.empty((0, 2)), np.empty((0, 2)))
        else:
            values = table.values[column.name][table.absent(column.name) == 0]
            tokens = _counted(column, values, deviation, key.fold("histogram", column.name))
        found.append(tokens)
    return Codec(table.schema, tuple(found)), Ledger().gaussian(sigma) if wide else Ledger()


def layout(table: Table, sigma: float, key: Key) -> tuple[tuple[Codec, Layout], Ledger]:
    """Cells and how often each occurs, all of it counted with noise.

    Args:
        table, sigma, key: As for `codec`; the noise serves each of two mechanisms.
    """
    found, spent = codec(table, sigma, key)
    counted, more = shares(found, table, sigma, key)
    whole = replace(Layout.of(found, None), shares=counted)
    return (found, whole), replace(spent, gaussians=(*spent.gaussians, *more.gaussians))


def shares(
    found: Codec, table: Table, sigma: float, key: Key
) -> tuple[tuple[np.ndarray, ...], Ledger]:
    """How often each token of each column occurs, counted with noise.

    Args:
        found: Private cells.
        table: Rows.
        sigma: Noise multiplier; as for `codec`, over all columns together.
        key: The secret.

    Returns:
        Shares of each column `(size,)`, and what was spent.
    """
    tokens, rng = found.encode(table), key.fold("shares").numpy()
    deviation = sigma * math.sqrt(len(found.sizes))
    counted = []
    for index, size in enumerate(found.sizes):
        counts = np.bincount(tokens[:, index], minlength=size) + rng.normal(0, deviation, size)
        counts = np.maximum(counts, 0) + 1e-3
        counted.append(counts / counts.sum())
    return tuple(counted), Ledger().gaussian(sigma)


def _points(column: Column) -> np.ndarray | None:
    """All values of a column that has few by declaration; None for others."""
    if column.decimals is None or column.kind == "date":
        return None
    step = 10.0**-column.decimals
    low, high = column.ends
    count = round((high - low) / step) + 1
    if count > MOST_POINTS:
        return None
    return np.round(low + step * np.arange(count), column.decimals)


def _counted(column: Column, values: np.ndarray, deviation: float, key: Key) -> Tokens:
    low, high = column.ends
    edges: np.ndarray = np.linspace(low, high, GRID + 1)
    step = grid(column)
    if step is not None:  # each part holds as many values of the grid
        first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
        width = math.ceil((last - first + 1) / GRID)
        edges = step * (np.arange(first, last + width + 1, width) - 0.5)
    zero = low <= 0 <= high
    others = values[values != 0] if zero else values
    rng = key.numpy()
    inside = np.clip(others, low, high)
    counts = np.maximum(noisy_counts(inside, edges, deviation, rng), 0)
    nothing = float((values == 0).sum()) + rng.normal(0, deviation)
    nothing = max(nothing, 0.0) if zero else 0.0
    total = counts.sum() + nothing
    points = np.zeros(1) if nothing > SPIKE * max(total, 1) else np.empty(0)
    if not counts.any():
        counts[:] = 1
    steps = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    bins = int(np.clip(np.sqrt(max(total, 1)), 4, MOST_BINS))
    knots = knots_of(edges, steps, bins, step)
    return Tokens(column, points, knots, np.empty((0, 2)), np.empty((0, 2)))


def noisy_counts(
    values: np.ndarray, edges: np.ndarray, deviation: float, rng: np.random.Generator
) -> np.ndarray:
    """How many values lie between edges, with normal noise, `(edges - 1,)`."""
    return np.histogram(values, edges)[0] + rng.normal(0, deviation, len(edges) - 1)


def spec(config: Tabular, records: int, delta: float, spent: Ledger) -> Private:
    """How the critic is trained so that the promise is kept.

    The number of records counts as public.

    Raises:
        ConfigError: No noise keeps it.
    """
    train, asked = config.train, config.privacy
    assert train.batch is not None
    assert train.steps is not None
    assert asked.epsilon is not None
    rate = train.batch / records
    sigma = noise_for(asked.epsilon, delta, rate, train.steps, spent)
    return Private(asked.clip_norm, sigma, rate, delta)


def refuse_mixing(material: Material) -> None:
    """The critic's verdict on a record must not depend on another record.

    Raises:
        ConfigError: It does.
    """
    game = material.game
    assert isinstance(game, WassersteinGame)
    width = game.generator.width
    records = torch.from_numpy(np.random.default_rng(0).random((4, width), np.float32))
    refuse(lambda some: -game.verdict(some), records)
