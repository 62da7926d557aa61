"""`medsynth resample`: a cohort, or one label map, on voxels of another size."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console
from medsynth.core.words import plural
from medsynth.errors import UsageError

if TYPE_CHECKING:
    from medsynth.core.cohort import Case


@dataclass(frozen=True)
class Resample:
    """Write a cohort, or one label map, on voxels of one size, for example 2 mm for two CPU cores.

    Args:
        cohort: A cohort.json or its folder; or a label map in the *brain* scheme.
        out: `OUT/<case>/…` in BraTS-2023 names and `OUT/cohort.json`; for a label map the file.
        spacing_mm: Edge of a voxel.
        json: Print the answer as JSON.
    """

    cohort: Path
    out: Path
    spacing_mm: float = 2.0
    json: bool = False

    def run(self) -> int:
        """Do what is missing; failures go to `OUT/failures.json`."""
        from medsynth.io.layouts import NIFTI

        return self._map() if NIFTI.search(self.cohort.name) else self._cohort()

    def _map(self) -> int:
        """One label map, and a sidecar that remembers where it comes from."""
        from medsynth.core.labels import BRAIN
        from medsynth.generation import cases
        from medsynth.imaging.resample import resample_labels
        from medsynth.io.layouts import NIFTI
        from medsynth.io.nifti import read_labels

        if not NIFTI.search(self.out.name):
            raise UsageError("a label map *.nii.gz as --out, as what is read", repr(self.out.name))
        labels = resample_labels(read_labels(self.cohort, BRAIN), self.spacing_mm)
        asked = {"spacing_mm": self.spacing_mm}
        told = cases.write_edited(self.out, labels, [], [self.cohort], asked=asked, overwrite=False)
        console.say(f"→ {self.out}")
        if self.json:
            console.answer(told)
        return 0

    def _cohort(self) -> int:
        from medsynth.core.cohort import Cohort
        from medsynth.errors import DataError
        from medsynth.generation import failures
        from medsynth.io import cohort as cohorts

        cohort = cohorts.read(self.cohort)
        done: list[Case] = []
        for case in console.progress(cohort, len(cohort), "resample"):
            try:
                done.append(self._one(case, cohort.scheme))
                failures.forget(self.out, case.name)
            except DataError as error:
                failures.note(self.out, case.name, error)
                console.say(f"{case.name}: {error}")
        failed = failures.write_listing(self.out)
        splits = {case.name: cohort.split_of(case) for case in done}
        listing = cohorts.write_found(self.out, Cohort(cohort.scheme, tuple(done), splits))
        console.say(
            f"{len(done)} of {plural(len(cohort), 'case')}" + (f": {listing}" if listing else "")
        )
        if self.json:
            console.answer({"cohort": listing, "done": len(done), "failed": failed})
        return 1 if failed else 0

    def _one(self, case: "Case", scheme_name: str) -> "Case":
        """One case: scans, label maps, and a sidecar that remembers where they come from."""
        from medsynth.core.labels import BRAIN, scheme
        from medsynth.generation import cases
        from medsynth.imaging.resample import REVISION, resample, resample_labels
        from medsynth.io.nifti import read_labels, read_volume, write_labels, write_scan
        from medsynth.io.sidecar import of_case, write_json

        place = self.out / case.name

        def file(kind: str) -> Path:
            return place / f"{case.name}-{kind}.nii.gz"

        moved = replace(
            case,
            images={m: file(m) for m in case.images},
            label=file("seg") if case.label else None,
            brain=file("brain") if case.brain else None,
            channel={},
        )
        files = [path for path in (case.brain, case.label) if path]
        before = of_case(case) or (cases.sidecar_of(files[0]) if files else {})
        kept = {key: value for key, value in before.items() if key != "written"}
        if "channels" in kept:
            kept["channels"] = list(case.images)
        if case.label is None:
            kept.pop("seg_scheme", None)
        story = {
            **kept,
            **(cases.by_hand(case.brain) if case.brain else {}),
            **cases.person(case, files),
            "spacing_mm": self.spacing_mm,
            "resample_revision": REVISION,
        }
        wanted = [path for path in (*moved.images.values(), moved.label, moved.brain) if path]
        if cases.is_done(self.out, case.name, story) and all(path.exists() for path in wanted):
            return moved
        if case.images:
            scans = resample(read_volume(case.images, case.channel), self.spacing_mm)
            for channel in scans.channels:
                write_scan(file(channel), scans.channel(channel), scans, overwrite=True)
        for path, kind, of in (
            (case.label, "seg", scheme(scheme_name)),
            (case.brain, "brain", BRAIN),
        ):
            if path:
                labels = resample_labels(read_labels(path, of), self.spacing_mm)
                write_labels(file(kind), labels, overwrite=True)
                if kind == "brain":
                    story["written"] = cases.written(file(kind), labels)
        write_json(place / f"{case.name}.json", story)
        return moved


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "resample",
        help="write a cohort, or a label map, on voxels of another size",
        description=console.summary(Resample),
        epilog="Examples: medsynth resample tissue/cohort.json --spacing-mm 2 -o tissue-2mm;  "
        "medsynth resample case-brain.nii.gz --spacing-mm 2 -o case-2mm-brain.nii.gz",
    )
    p.add_argument(
        "cohort", type=Path, metavar="COHORT", help="a cohort.json or its folder; or a label map"
    )
    p.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        help="scans and label maps are written there, and cohort.json",
    )
    p.add_argument("--spacing-mm", type=float, default=2.0, help="edge of a voxel (default 2)")
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    p.set_defaults(make=lambda a: Resample(a.cohort, a.out, a.spacing_mm, a.json))
