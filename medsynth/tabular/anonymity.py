"""k-anonymity of synthetic rows: small cells are filled up from the model, or left out.

A cell is a combination of quasi-identifiers: what a stranger may know of someone, such as sex, age
and postcode. A table is k-anonymous when no cell that occurs has fewer than k rows.

What this is not: a proof of privacy. A small cell of synthetic rows is not a small group of people,
and a large one says nothing about whether the model has learnt someone by heart. It helps where a
rule or a reviewer asks for k; membership and nearest-record attacks are another measurement. Cells
count numbers by bands, so it holds for tables whose numbers are published as bands: an exact age
beside them may still be the only one.

Knows tables; no networks, no files.

Source:
    Samarati, IEEE TKDE 13(6), 2001; Sweeney, IJUFKS 10(5), 2002; filling cells up by generating
    more: Mendelevitch and Lesh, *Fidelity and privacy of synthetic medical data*,
    arXiv 2101.08658.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Draw, Table, concatenate
from medsynth.errors import ConfigError, DataError
from medsynth.tabular.quasi import Quasi, parse_quasi

__all__ = ["Quasi", "Report", "anonymous", "parse_quasi"]

ROUNDS = 20
"""Draws for cells of numbers, at most; what has not turned up by then is left out."""

OVERDRAW = 8
"""Rows drawn for each that is needed, where a band can only be waited for."""

LEAST_DRAWN = 64

Cell = tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What it took to have no small cell.

    Args:
        k: Rows that each cell has at least.
        quasi: Quasi-identifiers, with the edges of their bands (dates: days since 1970).
        rows_before, rows_after: Rows of the table.
        cells_before, cells_after: Combinations that occur.
        small_before: Cells with fewer than k rows.
        smallest_before, smallest_after: Rows of the smallest cell.
        filled, added: Small cells that were filled up, and with how many rows.
        left_out, dropped: Small cells that were left out, and how many rows they had.
        not_generated: Those among them that should have been filled, but the model did not make
            enough such rows.
        drift: Total variation distance of each quasi-identifier before and after, 0 to 1.
        joint_drift: The same of all of them together.
    """

    k: int
    quasi: Mapping[str, tuple[float, ...]]
    rows_before: int
    rows_after: int
    cells_before: int
    cells_after: int
    small_before: int
    smallest_before: int
    smallest_after: int
    filled: int
    added: int
    left_out: int
    dropped: int
    not_generated: int
    drift: Mapping[str, float]
    joint_drift: float

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"quasi": {name: list(edges) for name, edges in self.quasi.items()}}


def anonymous(
    draw: Draw, table: Table, quasi: Sequence[Quasi], k: int, key: Key
) -> tuple[Table, Report]:
    """A table without cells of 1 to k − 1 rows.

    A small cell of n rows is filled up with k − n rows, or left out, whichever changes fewer rows;
    filled up when that is equal. Where the model does not make such rows it is left out. A table
    that needs nothing is returned as it is; one with added rows comes in a new random order.

    Args:
        draw: The model. A DataError of it means that it cannot make such rows.
        table: Synthetic rows.
        quasi: See `parse_quasi`.
        k: Rows of each cell, at least 2.
        key: The same key gives the same rows.

    Raises:
        ConfigError: k below 2, or no quasi-identifier.
        DataError: Fewer than k rows, or no cell could be kept.
    """
    if k < 2 or not quasi:
        raise ConfigError("k of at least 2 and a column", f"k = {k}, {len(quasi)} columns")
    if k > table.rows:
        raise DataError(f"at least k = {k} rows", str(table.rows), None, "Generate more rows.")
    places = _places(quasi, table)
    cells, which, sizes = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    fill = {tuple(map(int, cells[i])): k - int(sizes[i]) for i in _worth_filling(sizes, k)}
    added = dict(_drawn(draw, quasi, fill, key))
    gone = np.array([size < k and tuple(map(int, cell)) not in added
                     for cell, size in zip(cells, sizes, strict=True)])  # fmt: skip
    after = _changed(table, ~gone[which], list(added.values()), key)
    if not after.rows:
        raise DataError(
            f"a cell of {k} rows", f"{len(cells)} cells of at most {sizes.max()} rows", None,
            "Take fewer quasi-identifiers, wider bands, a smaller k or more rows.",
        )  # fmt: skip
    left = np.unique(_places(quasi, after), axis=0, return_counts=True)[1]
    report = Report(
        k=k,
        quasi={q.column.name: q.edges for q in quasi},
        rows_before=table.rows,
        rows_after=after.rows,
        cells_before=len(cells),
        cells_after=len(left),
        small_before=int((sizes < k).sum()),
        smallest_before=int(sizes.min()),
        smallest_after=int(left.min()),
        filled=len(added),
        added=sum(part.rows for part in added.values()),
        left_out=int(gone.sum()),
        dropped=int(sizes[gone].sum()),
        not_generated=len(fill) - len(added),
        drift={q.column.name: _apart([q], table, after) for q in quasi},
        joint_drift=_apart(quasi, table, after),
    )
    return after, report


def _worth_filling(sizes: np.ndarray, k: int) -> np.ndarray:
    """Small cells to which at most as many rows are added as would be dropped."""
    return np.flatnonzero((sizes < k) & (k - sizes <= sizes))


def _places(quasi: Sequence[Quasi], table: Table) -> np.ndarray:
    """The cell of each row, int64 `(rows, quasi-identifiers)`."""
    return np.stack([q.places(table) for q in quasi], 1)


def _drawn(
    draw: Draw, quasi: Sequence[Quasi], need: Mapping[Cell, int], key: Key
) -> Iterator[tuple[Cell, Table]]:
    """Rows for each cell; cells for which there were not enough are missing.

    Cells that differ only in their bands share their draws: names and missing marks are given to
    the model, bands are waited for.
    """
    groups: dict[tuple[str | None, ...], list[Cell]] = {}
    for cell in need:
        told = tuple(q.text(place) for q, place in zip(quasi, cell, strict=True))
        groups.setdefault(told, []).append(cell)
    for told, cells in groups.items():
        where = {q.column.name: t for q, t in zip(quasi, told, strict=True) if t is not None}
        waits = None in told
        lacking = {cell: need[cell] for cell in cells}
        parts: dict[Cell, list[Table]] = {cell: [] for cell in cells}
        for turn in range(ROUNDS):
            rows = sum(lacking.values())
            if not rows:
                break
            rows = max(OVERDRAW * rows, LEAST_DRAWN) if waits else rows
            try:
                made = draw(rows, key.fold("cell", *cells[0], turn), where)
            except DataError:
                break
            places = _places(quasi, made)
            for cell in cells:
                fit = np.flatnonzero((places == cell).all(1))[: lacking[cell]]
                parts[cell].append(made.take(fit))
                lacking[cell] -= len(fit)
        yield from ((cell, concatenate(parts[cell])) for cell in cells if not lacking[cell])


def _changed(table: Table, kept: np.ndarray, added: list[Table], key: Key) -> Table:
    """Rows that are kept and rows that are added, identifiers numbered anew."""
    if kept.all() and not added:
        return table
    whole = concatenate([table.take(np.flatnonzero(kept)), *added])
    if not added:
        return whole
    return concatenate([whole.take(key.fold("order").numpy().permutation(whole.rows))])


def _apart(quasi: Sequence[Quasi], one: Table, two: Table) -> float:
    """Total variation distance of two tables' cells."""
    sides = np.concatenate([_places(quasi, one), _places(quasi, two)])
    which = np.unique(sides, axis=0, return_inverse=True)[1].reshape(-1)
    counts = [np.bincount(part, minlength=which.max() + 1) for part in np.split(which, [one.rows])]
    return 0.5 * float(np.abs(counts[0] / one.rows - counts[1] / two.rows).sum())
