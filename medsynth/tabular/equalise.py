"""Equalisation: rows in which sexes, sites or scanners have the shares that were asked for.

The observed joint distribution of the named columns is raked to the targets, which keeps the ties
between them; each combination is then drawn from the model by itself. The model is a callback. No
model knows more about a group than the records it has seen, so the report says on how many rows a
combination rests, and what plain weights would have done with them. When they are the model's own
rather than real ones, they count nobody; then combinations are named that the model seldom makes by
itself and that many rows are made of.

Knows tables; no networks, no files.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Draw, Table, concatenate
from medsynth.errors import DataError, UsageError
from medsynth.tabular.raking import effective, margin, raked, rounded
from medsynth.tabular.targets import MOST_NAMED, TOLERANCE, Target, parse_targets, unmet

__all__ = [
    "OWN", "REAL", "LevelShare", "Report", "Target", "afterwards", "equalised", "joint_counts",
    "parse_targets",
]  # fmt: skip

REAL = "real rows"
OWN = "rows of the model's own"
"""What the joint was counted in."""

FEW = 10
"""Real rows behind a combination; with fewer, as many synthetic rows are warned of."""

SELDOM, OFTEN = 0.01, 3.0
"""Share of the model's own rows below which a combination is rare to it, and times as often, from
which on that is warned of."""

MOST_CELLS = 1_000_000
MOST_WARNINGS = 10


@dataclass(frozen=True)
class LevelShare:
    """Shares of one level: in the joint, as asked for, and in the synthetic rows."""

    column: str
    level: str
    observed: float
    wanted: float
    reached: float


@dataclass(frozen=True)
class Report:
    """What became of the targets.

    Args:
        rows: Synthetic rows.
        shares: Levels that occur or were asked for.
        behind: What the joint was counted in, `REAL` or `OWN`.
        rows_behind: How many.
        effective_rows: What they are worth when weighted to the same shares (Kish).
        fewest: How many of them have the rarest combination that was drawn.
        warnings: Combinations with many synthetic rows and few real ones, in words; none for `OWN`.
    """

    rows: int
    shares: tuple[LevelShare, ...]
    behind: str
    rows_behind: int
    effective_rows: float
    fewest: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {
            "shares": [asdict(share) for share in self.shares],
            "warnings": list(self.warnings),
        }


def joint_counts(table: Table, targets: Sequence[Target]) -> np.ndarray:
    """Rows of each combination of the targets' columns, one axis per target, in its order.

    Raises:
        ConfigError: No such column.
        DataError: More than a million combinations.
    """
    shape = tuple(len(target.shares) for target in targets)
    if np.prod(shape, dtype=float) > MOST_CELLS:
        found = " × ".join(map(str, shape))
        raise DataError(f"at most {MOST_CELLS:,} combinations", found, None, "Take fewer targets.")
    places = tuple(table.places(target.column) for target in targets)
    flat = np.ravel_multi_index(places, shape)
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)


def equalised(
    draw: Draw,
    joint: np.ndarray | Table,
    targets: Sequence[Target],
    rows: int,
    key: Key,
    behind: str = REAL,
) -> tuple[Table, Report]:
    """Rows with the wanted shares, in random order.

    Args:
        draw: The model.
        joint: Rows whose ties between the targets' columns are kept, or their `joint_counts`.
        targets: At least one.
        rows: How many.
        key: The same key gives the same rows.
        behind: What the joint was counted in, `REAL` or `OWN`.

    Raises:
        UsageError: Less than one row, or no target.
        DataError: Targets that no selection of those rows meets, by name, or counts of another
            shape.
    """
    if rows < 1 or not targets:
        raise UsageError("at least 1 row and 1 target", f"{rows} and {len(targets)}")
    seen = joint_counts(joint, targets) if isinstance(joint, Table) else joint
    if seen.shape != (shape := tuple(len(target.shares) for target in targets)):
        raise DataError(f"counts of {shape} levels", str(seen.shape), "the joint of the targets")
    wanted = [target.wanted(margin(seen, axis), behind) for axis, target in enumerate(targets)]
    _refuse_conflicts(seen, targets, wanted, behind)
    cells = raked(seen, wanted)
    if cells is None:
        told = " with ".join(t.asked(w) for t, w in zip(targets, wanted, strict=True))
        raise unmet(
            f"{told}, which no selection of the combinations that occur has: "
            f"{_combinations(seen, targets)}"
        )
    counts = rounded(cells, wanted, rows)
    parts, support, thin = [], [], []
    for cell in map(tuple, np.argwhere(counts > 0)):
        where = {t.column: list(t.shares)[i] for t, i in zip(targets, cell, strict=True)}
        parts.append(draw(int(counts[cell]), key.fold("cell", *where.values()), where))
        support.append(int(seen[cell]))
        few = support[-1] < FEW
        if behind == OWN:
            own = support[-1] / seen.sum()
            few = own < SELDOM and counts[cell] > OFTEN * own * rows
        if few and counts[cell] >= FEW:
            thin.append((int(counts[cell]), support[-1], where))
    order = key.fold("order").numpy().permutation(rows)
    table = concatenate([concatenate(parts).take(order)])
    reached = joint_counts(table, targets)
    shares = tuple(
        LevelShare(target.column, text, *map(float, row))
        for axis, target in enumerate(targets)
        for text, *row in zip(
            target.shares, margin(seen, axis) / seen.sum(), wanted[axis],
            margin(reached, axis) / rows, strict=True,
        )
        if any(row)
    )  # fmt: skip
    warnings = tuple(_words(thin, behind, int(seen.sum())))
    worth = effective(seen, cells)
    fewest = min(support)
    return table, Report(rows, shares, behind, int(seen.sum()), worth, fewest, warnings)


def afterwards(report: Report, table: Table, targets: Sequence[Target]) -> Report:
    """The report of rows that were changed since, for example by `anonymous`.

    Args:
        report: Of `equalised`.
        table: Its rows, some added and some left out.
        targets: The same.
    """
    counts = joint_counts(table, targets)
    before = {(share.column, share.level): share for share in report.shares}
    none = LevelShare("", "", 0.0, 0.0, 0.0)
    shares = (
        replace(
            before.get((target.column, text), none), column=target.column, level=text,
            reached=float(rows) / table.rows,
        )
        for axis, target in enumerate(targets)
        for text, rows in zip(target.shares, margin(counts, axis), strict=True)
        if rows or (target.column, text) in before
    )  # fmt: skip
    return replace(report, rows=table.rows, shares=tuple(shares))


def _combinations(seen: np.ndarray, targets: Sequence[Target]) -> str:
    """The combinations that occur in words, the most frequent first."""
    order = [np.unravel_index(i, seen.shape) for i in np.argsort(-seen, axis=None, kind="stable")]
    there = [cell for cell in order if seen[cell] > 0]
    words = [
        " ".join(f"{t.column}={list(t.shares)[i]}" for t, i in zip(targets, cell, strict=True))
        for cell in there[:MOST_NAMED]
    ]
    return "; ".join(words) + ("; …" if len(there) > MOST_NAMED else "")


def _refuse_conflicts(
    seen: np.ndarray, targets: Sequence[Target], wanted: Sequence[np.ndarray], behind: str
) -> None:
    """Name a level that is asked for more often than the levels of another column beside it."""
    for one, target in enumerate(targets):
        for two, other in enumerate(targets):
            if one == two:
                continue
            rest = tuple(i for i in range(seen.ndim) if i not in (one, two))
            pairs = seen.sum(rest) if one < two else seen.sum(rest).T
            most = (pairs > 0) @ wanted[two]
            for place in np.flatnonzero(wanted[one] > most + TOLERANCE):
                level = f"{target.column}={list(target.shares)[place]}"
                apart = (pairs[place] == 0) & (wanted[two] > 0)
                beside = target.levels(pairs[:, apart].any(1))
                raise unmet(
                    f"{level}:{wanted[one][place]:g} with {other.asked(wanted[two] * apart)}: none "
                    f"of {seen.sum():,} {behind} has both, so {level} can be {most[place]:g} at "
                    f"most; beside {other.levels(apart)} there are {beside}"
                )


def _words(thin: list[tuple[int, int, dict[str, str]]], behind: str, rows: int) -> list[str]:
    """The thinnest combinations in words, the worst first."""
    worst = sorted(thin, key=lambda cell: cell[1] / cell[0])
    words = []
    for made, there, where in worst[:MOST_WARNINGS]:
        level = ", ".join(f"{column}={text}" for column, text in where.items())
        told = f"{level}: {made:,} synthetic rows rest on {there} real"
        if behind == OWN:
            told = (
                f"{level}: {made:,} rows of a combination that the model itself makes {there} "
                f"times in {rows:,}; --real tells how many people stand behind it"
            )
        words.append(told)
    if len(worst) > MOST_WARNINGS:
        words.append(f"{len(worst) - MOST_WARNINGS} more combinations like these")
    return words
