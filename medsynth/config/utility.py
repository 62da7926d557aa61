"""The configuration of the utility table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medsynth.config.image import LOWEST
from medsynth.config.tree import read
from medsynth.errors import ConfigError

COLUMNS = ("real", "real+synthetic", "synthetic", "synthetic+10%real", "real+phantoms", "phantoms")
"""What segmentors of the utility table can be trained on."""


def least_patch(segmentors: Sequence[str]) -> int:
    """The shortest edge of a patch in voxels, a multiple of 16 that leaves `LOWEST` voxels at the
    lowest level of each segmentor: a `gan` has one of 16 (folded once, halved three times), a
    `dynunet` one of 8."""
    return 16 * (LOWEST if "gan" in segmentors else math.ceil(LOWEST / 2))


@dataclass(frozen=True)
class Fold:
    """`folds`: one partition of the real people.

    Args:
        test: Subjects of the test set; all others are trained on.
        synthetic: Generated cohort for this fold, by a generator that has not seen `test`.
        model: Run of that generator, or its name in the box, to check what it was trained on; null
            for unknown.
    """

    test: tuple[str, ...]
    synthetic: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Utility:
    """The utility table: `medsynth evaluate utility CONFIG`.

    Args:
        real: Real cohort with tumour labels.
        synthetic: Generated cohort; folds may name their own.
        model: Run of the generator, or its name in the box, to check what it was trained on; null
            for unknown.
        phantoms: Phantom cohort, for the columns that use it.
        folds: Rotated test sets; empty takes the test split of the real cohort.
        training: Columns.
        segmentors: `gan`, `dynunet`.
        augmentation: Rows: without, with.
        seeds: Training runs per cell.
        shares: Learning curve over the share of real cases.
        ratios: Learning curve over synthetic cases per real one.
        steps, batch, patch: Of every cell.
        precision, workers, cache: As in training.
    """

    real: str
    synthetic: str | None = None
    model: str | None = None
    phantoms: str | None = None
    folds: tuple[Fold, ...] = ()
    kind: str = "utility"
    seed: int = 0
    training: tuple[str, ...] = ("real", "real+synthetic", "synthetic", "synthetic+10%real")
    segmentors: tuple[str, ...] = ("gan", "dynunet")
    augmentation: tuple[bool, ...] = (False, True)
    seeds: int = 3
    shares: tuple[float, ...] = (1.0,)
    ratios: tuple[float, ...] = (1.0,)
    steps: int = 150
    batch: int = 2
    patch: tuple[int, int, int] = (48, 48, 48)
    precision: str = "auto"
    workers: int = 1
    cache: str | None = None


def parse_utility(text: str, where: str, settings: Sequence[str] = ()) -> Utility:
    """Validate the YAML text of a utility table; arguments and errors as for `parse`."""
    table: Utility = read(Utility, text, where, settings, "utility")
    for key, values, choices in (
        ("kind", (table.kind,), ("utility",)),
        ("training", table.training, COLUMNS),
        ("segmentors", table.segmentors, ("gan", "dynunet")),
    ):
        strange = [value for value in values if value not in choices]
        if strange or not values:
            raise ConfigError(f"{key} among {', '.join(choices)}", repr(strange or None), where)
    if min(table.seeds, table.steps, table.batch, table.workers) < 1:
        raise ConfigError("seeds, steps, batch and workers of at least 1", "less", where)
    least = least_patch(table.segmentors)
    if any(n % 16 or n < least for n in table.patch):
        words = f"patch in multiples of 16, from {least} on"
        raise ConfigError(words, str(list(table.patch)), where)
    if any(not 0 < share <= 1 for share in table.shares) or min(table.ratios) <= 0:
        raise ConfigError("shares in (0, 1] and ratios above 0", "others", where)
    given = table.synthetic or (table.folds and all(fold.synthetic for fold in table.folds))
    if any("synthetic" in column for column in table.training) and not given:
        raise ConfigError("synthetic: a generated cohort", "none", where)
    if any("phantoms" in column for column in table.training) and not table.phantoms:
        raise ConfigError("phantoms: a phantom cohort", "none", where)
    return table
