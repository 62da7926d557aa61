"""All figures of synthetic subjects with codes, as a section of the report."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from medsynth.core.codes import Codes, same_codes
from medsynth.core.random import Key
from medsynth.errors import DataError
from medsynth.evaluation import disclosure
from medsynth.evaluation.codes import figures, words
from medsynth.evaluation.codes.baseline import independent
from medsynth.evaluation.codes.prediction import prediction
from medsynth.evaluation.codes.privacy import privacy
from medsynth.evaluation.disclosure import MIN_ROWS, NAME
from medsynth.evaluation.records import Record, Section, refused
from medsynth.evaluation.samples import averaged, between_halves
from medsynth.evaluation.statistics import mean_interval

LEARNT = ("pairs_rates_correlation", "pairs_lift_correlation", "detection_auc")


def measure(real: Codes, made: Codes, key: Key, held_out: Codes | None = None) -> Section:
    """All figures of synthetic subjects with codes.

    Args:
        real: Subjects that the model was fitted on.
        made: Synthetic subjects; codes by the same names.
        key: Draws, splits, bootstrap.
        held_out: Real subjects that the model has not seen; None, or fewer than 100, refuses what
            needs them.

    Raises:
        DataError: No subjects, or synthetic codes that no real subject's list knows.
    """
    real, made, held_out = aligned(real, made, held_out)
    again = held_out if held_out is not None and len(held_out) >= MIN_ROWS else None
    rng = key.fold("bootstrap").numpy()
    best = again or real.take(rng.integers(0, len(real), len(real)))
    floor = independent(real, min(len(real), len(made)), key.fold("independent"))
    enough = min(len(real), len(made)) >= MIN_ROWS
    records = list(_likeness(real, made, floor, best, key))
    if enough:
        records += _learnt(real, made, floor, best, again, key)
    else:
        reason = f"needs {MIN_ROWS} subjects a side, there are {len(real)} and {len(made)}"
        records += [refused(NAME, metric, reason) for metric in LEARNT]
    if enough and again:
        records += prediction(real, made, floor, again, key.fold("prediction"))
        records += privacy(real, made, again, floor, key.fold("privacy"))
    else:
        records += privacy(real, made, None, floor, key.fold("privacy"))
        there = 0 if held_out is None else len(held_out)
        reason = f"needs {MIN_ROWS} held-out subjects, there are {there}"
        records.append(refused(NAME, "prediction_auc", reason))
        records += disclosure.unknown(there)
    return Section(
        NAME,
        "Codes: are the subjects like real ones, and nobody's?",
        words.method(real, made, again),
        tuple(records),
        tuple(words.listings(records)),
        tuple(words.verdicts(records)),
        words.LIMITS,
    )


def aligned(
    real: Codes, made: Codes, held_out: Codes | None = None
) -> tuple[Codes, Codes, Codes | None]:
    """The same codes in the same order on all sides.

    A code that only held-out people have is added, empty, to the others.

    Raises:
        DataError: No subjects, or a synthetic code that is not among the real ones.
    """
    for side, name in ((real, "real"), (made, "synthetic")):
        if not len(side):
            raise DataError(f"{name} subjects", "none")
    names = real.names
    made = same_codes(made, names)
    if held_out is not None:
        known = set(names)
        strange = held_out.rates > 0
        names += tuple(
            n for n, s in zip(held_out.names, strange, strict=True) if s and n not in known
        )
        held_out = same_codes(held_out, names)
    return same_codes(real, names), same_codes(made, names), held_out


def _likeness(real: Codes, made: Codes, floor: Codes, best: Codes, key: Key) -> Iterator[Record]:
    """Rates, coverage and sizes: figures that a few subjects have, too."""
    sides = made, floor, best
    rows = min(len(real), *map(len, sides))

    def alike(side: Codes) -> dict[str, float]:
        found = {**figures.rates(real, side), "codes_per_subject_ks": figures.size_gap(real, side)}
        if not (real.binary and made.binary):
            found["counts_above_one"] = figures.repeated(side)
        return found

    yield from _ended([averaged(alike, side, rows, key.fold("alike")) for side in sides], rows)
    some = real.take(key.fold("coverage").numpy().permutation(len(real))[:rows])
    covered = partial(figures.coverage, some)
    yield from _ended([averaged(covered, side, rows, key.fold("covered")) for side in sides], rows)
    mean = mean_interval(figures.sizes(made), key.fold("sizes"))
    yield Record(
        NAME, "codes_per_subject", {}, *mean, floor=float(figures.sizes(floor).mean()),
        ceiling=float(figures.sizes(real).mean()), n=len(made),
    )  # fmt: skip


def _learnt(
    real: Codes, made: Codes, floor: Codes, best: Codes, held_out: Codes | None, key: Key
) -> Iterator[Record]:
    """Pairs and detection; without held-out subjects halves of the real ones are told apart."""
    sides = made, floor, best
    rows = min(len(real), *map(len, sides))
    paired = partial(figures.pairs, real)
    yield from _ended([averaged(paired, side, rows, key.fold("pairs")) for side in sides], rows)
    found = partial(figures.detection, key=key.fold("detection"))
    ideal = (
        found(real, held_out).value
        if held_out is not None
        else between_halves(lambda a, b: found(a, b).value, real, key)
    )
    n = 2 * min(len(real), len(made), figures.MOST_ROWS)
    yield Record(
        NAME, "detection_auc", {}, *found(real, made), floor=found(real, floor).value,
        ceiling=ideal, n=n,
    )  # fmt: skip


def _ended(sides: Iterable[Mapping[str, float]], n: int) -> Iterator[Record]:
    """Figures without an interval of synthetic subjects, their floor and their ceiling.

    Args:
        sides: Figures of synthetic, of independent, and of the best subjects.
        n: Subjects of each.
    """
    made, floor, best = sides
    for name, value in made.items():
        yield Record(NAME, name, {}, value, floor=floor[name], ceiling=best[name], n=n)
