"""`medsynth generate`: label maps to scans, many at a time; or a model of records to rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console, given, records
from medsynth.commands.oddities import warn
from medsynth.core.words import plural
from medsynth.errors import UsageError

if TYPE_CHECKING:
    from medsynth.core.cohort import Cohort
    from medsynth.generation.plan import Job
    from medsynth.imaging.synthesizer import Synthesizer


OF_SCANS = ("per_case", "same_style", "shard", "writers", "window", "precision")
"""Options that only scans have."""

MANY = 50
"""From so many label maps on, looking at them is worth a line of its own."""

ODDITIES = {
    "unlike": "{n} have other voxels than the model was trained on ({found} in {case}, not "
    "{known}): sharpness and texture will be off; bring them to its size with `medsynth resample` "
    "first",
    "far": "{n} have voxels far from those that the model was trained on ({found} in {case}, not "
    "{known}): it paints cortex, rims and texture of its own voxels, and what comes out is no "
    "brain of this size; bring them to its size with `medsynth resample`, or train a model for "
    "these",
    "small": "{n} are of brains smaller than those of grown people ({found} in {case}, {usual} "
    "ml are usual): contrast will be an adult's, which is wrong for infants and for animals; "
    "if it is an adult's brain, the voxel size in the header is wrong, or a part is missing",
    "large": "{n} are of brains larger than people have ({found} in {case}, {usual} ml are "
    "usual): the voxel size in the header is wrong, or the skull is still in it",
    "cut": "{n} show a brain that the edge of the grid cuts off ({names}; {case} for one): so will "
    "the scans; who learns from them takes the cut for the brain's surface",
    "lacking": "{n} lack tissue ({names}; {case} for one): its place is painted as what stands "
    "there instead, and ventricles, sulci or cortex will be missing; `medsynth tissue` adds all "
    "three",
    "fluid": "{n} have more cerebrospinal fluid than white matter ({found} in {case}): if that is "
    "not what they show, their integers have another order than 1 CSF, 2 grey, 3 white matter",
    "unseen": "{n} have structures that the model has never seen ({names}; {case} for one): they "
    "come out mid-grey in all scans; train with cases that have them, or draw them as another "
    "structure (`medsynth edit --op relabel:RC=CSF`)",
}
"""What will go wrong with each kind of `generation.familiar.Odd`."""


@dataclass(frozen=True)
class Generate:
    """Make scans for label maps.

    Args:
        model: A run, its model.safetensors, or a name in the box.
        source: A label map, a folder of them, or a cohort.json.
        out: `OUT/<case>/<case>-t1n.nii.gz …`, `OUT/cohort.json`, `OUT/failures.json`.
        per_case: Scans per label map, each with its own style, noise and shading.
        same_style: Give all label maps the same styles and noise.
        seed: Root of styles and noise.
        shard: `0/8` … `7/8`: this process's share.
        writers: Threads that compress and write.
        window: Largest edge of the grid computed at once; None lets free memory decide.
        precision: `auto`, `bf16`, `fp16` or `fp32`.
        json: Print the answer as JSON.
    """

    model: Path
    source: Path
    out: Path
    per_case: int = 1
    same_style: bool = False
    seed: int = 0
    shard: str = "0/1"
    writers: int = 2
    window: int | None = None
    precision: str = "auto"
    json: bool = False

    def run(self) -> int:
        """Generate what is missing."""
        from medsynth.generation.plan import Shard, plan, share

        if self.per_case < 1 or self.writers < 1:
            raise UsageError(
                "--per-case and --writers of at least 1", f"{self.per_case} and {self.writers}"
            )
        shard = Shard.parse(self.shard)
        model = given.model(self.model)
        cohort = _cohort(self.source)

        from medsynth.generation import cases, failures
        from medsynth.generation.pool import generate
        from medsynth.imaging.synthesizer import load

        synthesizer = load(model, precision=self.precision, window=self.window)
        synthesizer.require_generator()
        _refuse_others(self.out, {"model": synthesizer.fingerprint, "seed": self.seed})
        guessed = _guessed(self.source, cohort)
        jobs = plan(cohort, self.per_case, self.seed, guessed, same_style=self.same_style)
        jobs = share(jobs, shard)
        _warn_of_oddities(synthesizer, jobs, self.out)
        there = len(cases.list_cases(self.out))
        work = generate(synthesizer, jobs, self.out, writers=self.writers)
        for job, error in console.progress(work, len(jobs), "generate", "scan"):
            if error is not None:
                console.say(f"{job.name}: {error}")
        failed = failures.write_listing(self.out)
        made = cases.write_listing(self.out)
        console.say(
            plural(len(made), "scan")
            + (f" in {self.out / 'cohort.json'}" if made else "")
            + (f", {there} of them from before" if there else "")
            + (f"; {failed} failed: {self.out / 'failures.json'}" if failed else "")
        )
        if self.json:
            console.answer(
                {
                    "cohort": self.out / "cohort.json" if made else None,
                    "made": len(made),
                    "failed": failed,
                }
            )
        return 1 if failed else 0


def _refuse_others(out: Path, made_with: dict[str, Any]) -> None:
    """A folder holds scans of one model and seed, whatever their names: who evaluates it would mix
    them up."""
    from medsynth.errors import DataError
    from medsynth.io.sidecar import read_json

    for sidecar in sorted(out.glob("*/*.json")):
        if sidecar.stem != sidecar.parent.name:
            continue
        there = read_json(sidecar)
        other = [key for key, value in made_with.items() if there.get(key) != value]
        if there.get("made_by") == "generate" and other:
            raise DataError(
                f"a folder of scans made with the same {' and '.join(other)}, or none",
                ", ".join(f"{key} {there.get(key)} (now {made_with[key]})" for key in other),
                sidecar,
                "Choose another output folder.",
            )


def _warn_of_oddities(synthesizer: "Synthesizer", jobs: "Sequence[Job]", out: Path) -> None:
    """Say what about label maps that are still to be done the model does not know, and whose person
    nobody does: once for each kind, with the number of label maps. What is refused is told when it
    is its turn."""
    from medsynth.core.labels import BRAIN
    from medsynth.core.volume import require_brain
    from medsynth.errors import DataError
    from medsynth.generation.cases import is_complete
    from medsynth.generation.familiar import Odd, oddities
    from medsynth.io.nifti import read_labels

    missing = [job for job in jobs if not is_complete(out, job.name)]
    todo = {job.labels: job.parent for job in missing if job.labels is not None}
    guessed = sorted({job.parent for job in missing if job.guessed})
    if guessed:
        console.say(
            f"warning: {len(guessed)} of {len(todo)} label maps have no sidecar that says whose "
            f"brain it is ({guessed[0]} is taken for the person's name), so evaluation cannot keep "
            "them from test people: give `medsynth edit` a map that `medsynth tissue`, `phantom` "
            "or a cohort's `resample` wrote, save over a file that it made, or give a cohort.json"
        )
    looked = console.progress(todo.items(), len(todo), "look", "label map")
    found: list[tuple[str, Odd]] = []
    for path, name in looked if len(todo) > MANY else todo.items():
        try:
            labels = read_labels(path, BRAIN)
            require_brain(labels)
        except DataError:
            continue
        strange = oddities(labels, synthesizer.known_mm, synthesizer.unseen)
        found += [(name, each) for each in strange]
    warn(found, len(todo), ODDITIES, synthesizer.known_mm)


def _cohort(source: Path) -> "Cohort":
    """A cohort from a label map, a folder of label maps, or a cohort file."""
    from medsynth.core.cohort import Case, Cohort
    from medsynth.generation.cases import sidecar_of, stem
    from medsynth.io import cohort as cohorts

    if not source.exists():
        raise UsageError("a label map, a folder of them or a cohort.json", "nothing", source)
    if _is_listed(source):
        return cohorts.read(source)
    files = [source]
    if source.is_dir():
        every = [f for f in sorted(source.rglob("*.nii*")) if not f.name.startswith(".")]
        files = [f for f in every if _is_brain(f)]
        if not files:
            raise UsageError(
                "label maps (*-brain.nii.gz, or NIfTI files with intent 'label')", "none", source
            )
        if len(every) > len(files):
            console.say(f"{len(every) - len(files)} files that are no brain label maps left out")
    made = [(stem(f), sidecar_of(f).get("subject", stem(f)), f) for f in files]
    return Cohort("brats2023", tuple(Case(name, who, {}, None, f) for name, who, f in made))


def _is_listed(source: Path) -> bool:
    """Whether a cohort.json says what there is."""
    return source.suffix == ".json" or (source / "cohort.json").exists()


def _guessed(source: Path, cohort: "Cohort") -> set[str]:
    """Cases whose person is only what a file name says."""
    from medsynth.generation.cases import guess, sidecar_of

    if _is_listed(source):
        return set()  # the cohort says whose label maps they are
    return {case.name for case in cohort if case.brain and guess(sidecar_of(case.brain))}


def _is_brain(path: Path) -> bool:
    """Whether a file is named as a brain label map, or says that it is a label map of some kind
    while its name does not say that it is of the tumour alone."""
    from medsynth.errors import DataError
    from medsynth.io.layouts import NIFTI
    from medsynth.io.nifti import is_label_map

    name = NIFTI.sub("", path.name)
    if name.endswith(("brain", "seg")):
        return name.endswith("brain")
    try:
        return is_label_map(path)
    except DataError:
        return False


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "generate",
        help="make scans for label maps, or rows of records",
        description="Make scans for label maps; a second run does only what is missing. With "
        "--rows, make records instead.",
        epilog="Examples: medsynth generate run edited.nii.gz -o synthetic --per-case 4;  medsynth "
        "generate phantom edited.nii.gz -o synthetic;  medsynth generate records --rows 10000 "
        "--target sex=F:0.5,M:0.5 -o rows.parquet",
    )
    p.add_argument(
        "model", type=Path, metavar="RUN",
        help="what `medsynth train --out` wrote, or `phantom`: the model in the box, trained on "
        "phantoms of 1 and 2 mm, for a start without data",
    )  # fmt: skip
    p.add_argument(
        "source", type=Path, nargs="?", metavar="LABELS_OR_COHORT",
        help="a label map, a folder of them or a cohort.json",
    )  # fmt: skip
    p.add_argument(
        "-o", "--out", type=Path, required=True, help="folder of the scans, or file of the rows"
    )
    p.add_argument("--per-case", type=int, help="scans per label map (default 1)")
    p.add_argument(
        "--same-style", action="store_true", default=None,
        help="the same contrast, texture and noise for every label map, so that scans before and "
        "after an edit differ by the edit, as long as the brain keeps its outline (elsewhere by "
        "2 %% and less, on average: structures meet their means and spreads anew); without it each "
        "name draws its own",
    )  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="of styles and noise (default 0)")
    p.add_argument("--shard", metavar="I/N", help="share of one of N processes")
    p.add_argument("--writers", type=int, help="threads that write (default 2)")
    p.add_argument("--window", type=int, help="largest edge computed at once, voxels")
    p.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp16", "fp32"),
        help="of the network (default auto)",
    )
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    records.add(p)
    p.set_defaults(make=_make)


def _make(a: Any) -> "Generate | records.GenerateRecords":
    scans = {name: getattr(a, name) for name in OF_SCANS if getattr(a, name) is not None}
    rows = [name for name in records.OPTIONS if getattr(a, name) is not None]
    if a.rows is not None:
        if a.source is not None:
            raise UsageError("--rows, or label maps", "both")
        if scans:
            raise UsageError(
                "options of records beside --rows", _options(scans), None, "It is for scans."
            )
        return records.make(a)
    if rows:
        raise UsageError(
            "--rows beside options of records", _options(rows), None, "Say how many with --rows."
        )
    if a.source is None:
        raise UsageError("label maps, or --rows for a model of records", "neither")
    return Generate(a.model, a.source, a.out, seed=a.seed, json=a.json, **scans)


def _options(names: Iterable[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)
