"""`medsynth generate`: label maps to scans, many at a time; or a model of records to rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console, given, records
from medsynth.errors import UsageError

if TYPE_CHECKING:
    from medsynth.core.cohort import Cohort
    from medsynth.imaging.synthesizer import Synthesizer


OF_SCANS = ("per_case", "shard", "writers", "window", "precision")
"""Options that only scans have."""


@dataclass(frozen=True)
class Generate:
    """Make scans for label maps.

    Args:
        model: A run, its model.safetensors, or a name in the box.
        source: A label map, a folder of them, or a cohort.json.
        out: `OUT/<case>/<case>-t1n.nii.gz …`, `OUT/cohort.json`, `OUT/failures.json`.
        per_case: Scans per label map, each with its own style and noise.
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
        _warn_of_other_voxels(synthesizer, cohort)
        jobs = share(plan(cohort, self.per_case, self.seed), shard)
        there = len(cases.list_cases(self.out))
        work = generate(synthesizer, jobs, self.out, writers=self.writers)
        for job, error in console.progress(work, len(jobs), "generate", "scan"):
            if error is not None:
                console.say(f"{job.name}: {error}")
        failed = failures.write_listing(self.out)
        made = cases.write_listing(self.out)
        console.say(
            f"{len(made)} scans in {self.out / 'cohort.json'}"
            + (f", {there} of them from before" if there else "")
            + (f"; {failed} failed: {self.out / 'failures.json'}" if failed else "")
        )
        if self.json:
            console.answer(
                {"cohort": self.out / "cohort.json", "made": len(made), "failed": failed}
            )
        return 1 if failed else 0


def _warn_of_other_voxels(synthesizer: "Synthesizer", cohort: "Cohort") -> None:
    """Say which label maps have voxels that the model has never seen; it works, but not well."""
    import numpy as np

    from medsynth.errors import DataError
    from medsynth.io.nifti import read_header

    strange: list[tuple[str, tuple[float, ...]]] = []
    for case in cohort:
        try:
            affine = read_header(case.brain).source.affine if case.brain else None
        except DataError:
            continue  # told when it is its turn
        if affine is None:
            continue
        spacing = tuple(float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
        if synthesizer.unlike(spacing):
            strange.append((case.name, spacing))
    if strange:
        found, known = strange[0][1], synthesizer.range_mm or (synthesizer.spacing_mm or (),)
        voxels = " to ".join(dict.fromkeys(map(_mm, known)))
        console.say(
            f"warning: {len(strange)} of {len(cohort)} label maps have other voxels than the model "
            f"was trained on ({_mm(found)} in {strange[0][0]}, not {voxels}): "
            "bring them to its size with `medsynth resample` first"
        )


def _mm(spacing: Sequence[float]) -> str:
    return " × ".join(f"{mm:.3g}" for mm in spacing) + " mm"


def _cohort(source: Path) -> "Cohort":
    """A cohort from a label map, a folder of label maps, or a cohort file."""
    from medsynth.core.cohort import Case, Cohort
    from medsynth.generation.cases import sidecar_of, stem
    from medsynth.io import cohort as cohorts

    if not source.exists():
        raise UsageError("a label map, a folder of them or a cohort.json", "nothing", source)
    if source.suffix == ".json" or (source / "cohort.json").exists():
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
