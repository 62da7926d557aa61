"""`medsynth evaluate utility`: segmentors trained on real, synthetic and mixed data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth import box
from medsynth.commands import console, given
from medsynth.errors import ConfigError, DataError, UsageError

if TYPE_CHECKING:
    from medsynth.config import Fold, Utility
    from medsynth.core.cohort import Case, Cohort
    from medsynth.evaluation.records import Section
    from medsynth.evaluation.report import Picture
    from medsynth.evaluation.utility import Cell
    from medsynth.imaging.examples import Example


PARTS = ("real training", "test", "synthetic", "phantom")


@dataclass(frozen=True)
class EvaluateUtility:
    """Train segmentors on real, synthetic and mixed data, and test them on real people.

    Args:
        config: YAML file, see configs/evaluate/utility.yaml.
        out: The report; finished cells stand in `OUT/cells/`, a second run goes on.
        settings: `key=value` overrides.
        json: Print the records as JSON.
    """

    config: Path
    out: Path
    settings: tuple[str, ...] = ()
    json: bool = False

    def run(self) -> int:
        """Train and test the cells that are missing, then write the report."""
        from medsynth import config as configs
        from medsynth.io.files import read_text

        text = read_text(self.config, "a configuration")
        table = configs.parse_utility(text, str(self.config), self.settings)
        publish(self.out, *measure(table, self.out), as_json=self.json)
        return 0


def measure(table: "Utility", out: Path) -> tuple["Section", list["Picture"]]:
    """The utility table of a configuration, and its pictures; the demo makes a small one."""
    cases = _cases(table)

    from medsynth.core.random import Key
    from medsynth.evaluation import utility as measured
    from medsynth.evaluation import utility_words
    from medsynth.evaluation.segmentors import Recipe

    folds, sizes = _folds(cases, table, out)
    axes = measured.Axes(
        table.training,
        table.segmentors,
        table.augmentation,
        table.seeds,
        table.shares,
        table.ratios,
    )
    recipe = Recipe(
        table.segmentors[0],
        False,
        table.steps,
        table.batch,
        table.patch,
        table.seed,
        table.precision,
        table.workers,
    )
    todo = measured.cells(axes, len(folds))
    there = sum(measured.is_done(cell, folds[cell.fold], recipe, out) for cell in todo)
    if there:
        console.say(f"{there} of {len(todo)} cells already there, in {out / 'cells'}")
    work = (
        measured.run(cell, folds[cell.fold], recipe, out, partial(_steps, cell)) for cell in todo
    )
    results = list(console.progress(work, len(todo), "utility", "cell"))
    records = list(measured.figures(results, axes, recipe, Key(table.seed, ("utility",))))
    section = utility_words.section(records, axes, recipe, sizes)
    return section, _pictures(section, out)


def _steps(cell: "Cell", steps: Iterator[Any], total: int) -> Iterator[Any]:
    """Steps of one cell, shown."""
    how = "augmented" if cell.augmented else "plain"
    title = f"{cell.training}, {cell.segmentor}, {how}, fold {cell.fold}, seed {cell.seed}"
    return console.progress(steps, total, title, "step", leave=False)


@dataclass(frozen=True)
class Cases:
    """The cases of one fold, checked, not yet prepared.

    Args:
        real, test: Cohorts of real people.
        synthetic, phantoms: What passed the guard; may be empty.
        dropped: Synthetic cases that descend from a test subject, and why.
        unknown: Synthetic cases of which nobody knows what they were made from.
        checked: Whether it is known whom the generator was trained on.
    """

    real: "Cohort"
    test: "Cohort"
    synthetic: "Cohort"
    phantoms: "Cohort"
    dropped: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]
    checked: bool


def _cases(table: "Utility") -> list[Cases]:
    """Cases of every fold, guarded against leaks; all that can be refused is refused here, before
    anything heavy is imported."""
    from medsynth.config import Fold
    from medsynth.core.cohort import Cohort
    from medsynth.evaluation import origin

    for fold in table.folds or (table,):
        model = fold.model or table.model
        if model and (fold.synthetic or table.synthetic):
            _require_run(model)
    real = given.real(Path(table.real), "`real`")
    every = table.folds or (
        Fold(tuple(sorted({c.subject for c in real.part("test")})), table.synthetic, table.model),
    )
    nobody = Cohort(real.scheme, ())
    folds = []
    for fold in every:
        test = Cohort(real.scheme, tuple(c for c in real if c.subject in fold.test))
        rest = Cohort(real.scheme, tuple(c for c in real if c.subject not in fold.test))
        _enough(fold, test.cases, rest.cases, table)
        model, source = fold.model or table.model, fold.synthetic or table.synthetic
        _refuse_seen(model, fold.test)
        made = nobody
        dropped: tuple[tuple[str, str], ...] = ()
        unknown: tuple[str, ...] = ()
        if source:
            synthetic = given.synthetic(Path(source), "`synthetic`")
            guard = origin.guard(test.cases, synthetic)
            made, dropped = Cohort(synthetic.scheme, guard.kept), guard.dropped
            unknown = guard.unknown
        invented = nobody
        if table.phantoms:
            phantoms = given.synthetic(Path(table.phantoms), "`phantoms`")
            kept = origin.guard(test.cases, phantoms, by_name=False).kept
            invented = Cohort(phantoms.scheme, kept)
        folds.append(Cases(rest, test, made, invented, dropped, unknown, model is not None))
    if any(len(fold.synthetic) and not fold.checked for fold in folds):
        console.say("warning: no `model` given: who the generator was trained on is not checked")
    return folds


def _require_run(model: str) -> None:
    if box.named(model):
        box.path(model)
    elif not (Path(model) / "config.yaml").exists():
        raise UsageError(
            "the run of the generator under `model`, or its name in the box", "none", model
        )


def _folds(cases: Sequence[Cases], table: "Utility", out: Path) -> tuple[list[Any], Any]:
    """Prepared cases of every fold, and how many there are."""
    from medsynth.evaluation import utility as measured
    from medsynth.evaluation.utility_words import Sizes

    folds: list[measured.Fold] = []
    for fold in cases:
        for name, why in fold.dropped:
            console.say(f"left out {name}: {why}")
        asked = (fold.real, fold.test, fold.synthetic, fold.phantoms)
        parts = [_prepared(cohort, table, out) for cohort in asked]
        _same_spacing([example for part in parts for example in part])
        for name, wanted, part in zip(PARTS, asked, parts, strict=True):
            if len(wanted) and not part:
                todo = "See above why each was left out."
                raise DataError(f"{name} cases that can be used", "none", table.real, todo)
        folds.append(measured.Fold(*(tuple(part) for part in parts)))
    used = {e.name for fold in folds for e in fold.synthetic}
    tuned = measured.FINE_TUNED in table.training
    sizes = Sizes(
        real=len({e.name for fold in folds for e in fold.real}),
        test=len({e.name for fold in folds for e in fold.test}),
        synthetic=len(used),
        phantoms=len({e.name for fold in folds for e in fold.phantoms}),
        dropped=len({name for fold in cases for name, _ in fold.dropped} - used),
        unknown=len({name for fold in cases for name in fold.unknown} & used),
        folds=len(folds),
        tuned=tuple(measured.seen_in_tuning(len(f.real)) for f in folds if tuned),
        checked=not used or all(fold.checked for fold in cases),
    )
    return folds, sizes


def _enough(fold: "Fold", test: Sequence["Case"], rest: Sequence["Case"], table: "Utility") -> None:
    where = table.real
    if not test or (not rest and any("real" in column for column in table.training)):
        raise DataError(
            "real cases to train on and real cases to test on",
            f"{len(rest)} and {len(test)}",
            where,
            "Split the cohort (`medsynth index … --split training=0.8,test=0.2`) or name test "
            "subjects under `folds`.",
        )
    missing = sorted(set(fold.test) - {case.subject for case in test})
    if missing:
        raise ConfigError("subjects of the cohort under folds.test", ", ".join(missing), where)


def _refuse_seen(model: str | None, test: Sequence[str]) -> None:
    """A generator that was trained on test subjects makes every column with its scans worthless."""
    from medsynth.build import people

    if model is None:
        return
    seen = sorted(people.training_subjects(Path(model)) & set(test))
    if seen:
        raise DataError(
            "a generator that has not seen the test subjects",
            f"one trained on {', '.join(seen)}",
            model,
            "Train it on the training split only.",
        )


def _prepared(cohort: "Cohort", table: "Utility", out: Path) -> list["Example"]:
    from medsynth.core.cohort import MODALITIES
    from medsynth.imaging.examples import Example, prepare

    if not len(cohort):
        return []
    cache = Path(table.cache) if table.cache else out / "cache"
    work = prepare(cohort, MODALITIES, "tumour", cache, 2)
    ready = []
    for result in console.progress(work, len(cohort), "prepare"):
        if isinstance(result, Example):
            ready.append(result)
        else:
            console.say(f"left out {result[0]}: {result[1]}")
    return ready


def _same_spacing(examples: Sequence["Example"]) -> None:
    """Refuse to mix resolutions."""
    from medsynth.errors import GeometryError
    from medsynth.evaluation.heads import alike

    for example in examples:
        if not alike(example.spacing_mm, examples[0].spacing_mm):
            raise GeometryError(
                f"voxels of one size ({examples[0].spacing_mm.round(2)} mm in {examples[0].name})",
                f"{example.spacing_mm.round(2)} mm",
                example.name,
                "Bring all cohorts to one spacing with `medsynth resample`.",
            )


def _pictures(section: "Section", out: Path) -> list["Picture"]:
    """Dice of every column with its interval, a picture a region."""
    from medsynth import show
    from medsynth.evaluation import report

    own = [
        r
        for r in section.records
        if r.metric == "dice_present" and (r.where["share"], r.where["ratio"]) == ("1", "1")
    ]
    pictures = []
    for region in ("WT", "TC", "ET"):
        here = [r for r in own if r.where["region"] == region and r.value is not None]
        if not here:
            continue
        rows = [
            (
                f"{r.where['segmentor']}, {r.where['augmentation']} augmentation: "
                f"{r.where['training']}",
                (r.value, r.low, r.high),
            )
            for r in here
        ]
        title = f"Dice, {region}, n = {here[0].n} test people with it"
        file = f"utility-{region}.png"
        show.save(show.intervals(rows, title), out / "pictures" / file)
        caption = f"{title}: mean, and 95 % interval over people where there are enough"
        pictures.append(report.Picture(file, caption))
    for axis, words in (("share", "share of the real cases"), ("ratio", "synthetic per real case")):
        lines = _lines(section, axis)
        if lines:
            file = f"utility-{axis}.png"
            show.save(show.curves(lines, words, "Dice, WT"), out / "pictures" / file)
            caption = f"Learning curve over the {words}: mean, and 95 % interval over people"
            pictures.append(report.Picture(file, caption))
    return pictures


def _lines(section: "Section", axis: str) -> dict[str, list[tuple[float, Any]]]:
    """Learning curves of whole-tumour Dice by name; none when the axis was not varied."""
    other = "ratio" if axis == "share" else "share"
    lines: dict[str, list[tuple[float, Any]]] = {}
    for r in section.records:
        if (r.metric, r.where.get("region"), r.where.get(other)) == ("dice", "WT", "1"):
            row = ("training", "segmentor", "augmentation")
            name = "{}, {}, {} augmentation".format(*(r.where[key] for key in row))
            lines.setdefault(name, []).append((float(r.where[axis]), (r.value, r.low, r.high)))
    return {name: sorted(points) for name, points in lines.items() if len(points) > 1}


def publish(
    out: Path,
    section: "Section",
    pictures: Sequence["Picture"],
    *,
    small: str | None = None,
    as_json: bool = False,
) -> None:
    """Put a section into the report and say what it found.

    Args:
        out: The report.
        section: What was measured.
        pictures: Below `OUT/pictures/`.
        small: Why the figures are small, for a demonstration; None for a real measurement.
        as_json: Print the records as JSON, too.
    """
    from medsynth.evaluation import records, report

    section = records.judged(section)
    if small:
        section = replace(
            section, title=f"{section.title} (small)", method=(small, *section.method)
        )
    console.section(section, report.update(out, section, pictures), as_json)


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "utility",
        help="does a segmentor get better?",
        description=console.summary(EvaluateUtility),
        epilog="Example: medsynth evaluate utility configs/evaluate/utility.yaml "
        "--set real=real/cohort.json -o report",
    )
    p.add_argument(
        "config", type=Path, metavar="CONFIG",
        help="YAML of kind: utility; configs/evaluate/utility.yaml explains every key",
    )  # fmt: skip
    p.add_argument(
        "-o", "--out", type=Path, required=True, metavar="REPORT",
        help="folder of the report; finished cells in it are kept, and so are other measurements",
    )  # fmt: skip
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a key of CONFIG, e.g. --set seeds=1 --set real=real/cohort.json",
    )  # fmt: skip
    p.add_argument("--json", action="store_true", help="print the records as JSON")
    p.set_defaults(make=lambda a: EvaluateUtility(a.config, a.out, tuple(a.set), a.json))
