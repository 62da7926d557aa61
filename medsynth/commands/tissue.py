"""`medsynth tissue`: CSF, grey and white matter for real scans."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console, given
from medsynth.commands.oddities import warn
from medsynth.core.words import plural

if TYPE_CHECKING:
    from medsynth.core.cohort import Case, Cohort
    from medsynth.core.volume import LabelMap
    from medsynth.generation.familiar import Odd
    from medsynth.imaging.synthesizer import Synthesizer

VOXELS = (
    "{n} have voxels that the network was not trained on ({found} in {case}, not {known}): cortex "
    "and fluid will be off; bring the scans to its size with `medsynth resample`, or leave "
    "--model out, which fits an atlas to each scan"
)
"""What is said of voxels, a little or far off."""

ODDITIES = {
    "unlike": VOXELS,
    "far": VOXELS,
    "small": "{n} are of brains smaller than those of grown people ({found} in {case}, {usual} ml "
    "are usual), which the network has not seen; or the voxel size in the header is wrong",
    "large": "{n} are of brains larger than people have ({found} in {case}, {usual} ml are usual): "
    "the voxel size in the header is wrong, or the skull is still in it",
}
"""What will go wrong with what a network labels, by kind of `generation.familiar.Odd`."""


@dataclass(frozen=True)
class Tissue:
    """Add tissue to the tumour labels of real scans.

    Args:
        cohort: A cohort.json or its folder.
        out: `OUT/<case>/<case>-brain.nii.gz`, a sidecar that says whose brain it is, and
            `OUT/cohort.json`.
        model: A run trained from scans to brain labels, or a name in the box; None uses
            intensities and an atlas.
        json: Print the answer as JSON.
    """

    cohort: Path
    out: Path
    model: Path | None = None
    json: bool = False

    def run(self) -> int:
        """Label what is missing; failures go to `OUT/failures.json`."""
        from medsynth.core.cohort import Cohort
        from medsynth.core.labels import BRAIN
        from medsynth.errors import DataError, ModelError
        from medsynth.generation import cases, failures
        from medsynth.generation.familiar import oddities
        from medsynth.imaging.synthesizer import load
        from medsynth.io import cohort as cohorts
        from medsynth.io.nifti import write_labels
        from medsynth.io.sidecar import write_json

        cohort = cohorts.read(self.cohort)
        network = load(given.model(self.model)) if self.model else None
        if network is not None and (of := network.require_segmentor()) != BRAIN:
            todo = "Give `tissue`, the one in the box, or a run of configs/image/tissue.yaml."
            found = f"one that labels {', '.join(of.abbreviations[1:])}"
            raise ModelError("a model that labels tissue", found, self.model, todo)
        by = network.fingerprint if network else "atlas"
        self._refuse_another(cohort, by)
        done: list[Case] = []
        odd: list[tuple[str, Odd]] = []
        looked = 0
        for case in console.progress(cohort, len(cohort), "tissue"):
            path = self.out / case.name / f"{case.name}-brain.nii.gz"
            try:
                story = cases.person(case, [case.label] if case.label else [])
                if not path.exists():
                    labels = _labelled(case, cohort.scheme, network)
                    if network:
                        looked += 1
                        odd += [(case.name, each) for each in oddities(labels, network.known_mm)]
                    write_labels(path, labels)
                    write_json(_sidecar(path), {**story, "tissue_by": by})
                elif not _sidecar(path).exists():  # somebody's own, or we were killed in between
                    write_json(_sidecar(path), story)
                failures.forget(self.out, case.name)
                done.append(replace(case, brain=path))
            except DataError as error:
                failures.note(self.out, case.name, error)
                console.say(f"{case.name}: {error}")
        if network:
            warn(odd, looked, ODDITIES, network.known_mm)
        failed = failures.write_listing(self.out)
        splits = {case.name: cohort.split_of(case) for case in done}
        listing = cohorts.write_found(self.out, Cohort(cohort.scheme, tuple(done), splits))
        console.say(
            f"tissue for {len(done)} of {plural(len(cohort), 'case')}"
            + (f": {listing}" if listing else "")
        )
        if self.json:
            console.answer({"cohort": listing, "done": len(done), "failed": failed})
        return 1 if failed else 0

    def _refuse_another(self, cohort: "Cohort", by: str) -> None:
        """A folder holds the maps of one method, as far as sidecars say which."""
        from medsynth.errors import DataError
        from medsynth.io.sidecar import read_json

        for case in cohort:
            beside = _sidecar(self.out / case.name / f"{case.name}-brain.nii.gz")
            there = read_json(beside).get("tissue_by", by) if beside.exists() else by
            if there != by:
                raise DataError(
                    f"a folder for label maps by {_named(by)}, or an empty one",
                    f"one by {_named(there)}",
                    beside,
                    "Give another -o.",
                )


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.parent.name}.json")


def _named(by: str) -> str:
    return "the atlas" if by == "atlas" else f"the network {by}"


def _labelled(case: "Case", scheme_name: str, network: "Synthesizer | None") -> "LabelMap":
    from medsynth.core.labels import TISSUE, scheme
    from medsynth.imaging import tissue
    from medsynth.io.nifti import read_labels, read_volume

    scans = read_volume(case.images, case.channel)
    tumour = read_labels(case.label, scheme(scheme_name)) if case.label else None
    if network is None:
        return tissue.segment(scans, tumour)
    return tissue.merged(network.segment(scans, TISSUE if tumour else None), tumour)


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "tissue",
        help="add CSF, grey and white matter to the label maps of real scans",
        description="Label tissue on skull-stripped scans and merge it with the tumour labels. "
        "By default by intensities and a registered atlas: fitted to each scan, whatever its "
        "contrast, with t1n or t1c alone if need be, and tried on real scans; it takes a tumour "
        "without labels for tissue. A network needs the scans it was trained on and names tumour, "
        "too, where a case has no labels; the one in the box (t1n and t2w) has seen phantoms only: "
        "look at what it makes of real scans.",
        epilog="Examples: medsynth tissue cohort.json -o tissue;  medsynth tissue cohort.json "
        "-o tissue --model tissue",
    )
    p.add_argument("cohort", type=Path, metavar="COHORT", help="a cohort.json or its folder")
    p.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        help="label maps are written there, and cohort.json",
    )
    p.add_argument(
        "--model",
        type=Path,
        metavar="RUN",
        help="a network instead of the atlas: `tissue`, the one in the box, or a run of "
        "configs/image/tissue.yaml",
    )
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    p.set_defaults(make=lambda a: Tissue(a.cohort, a.out, a.model, a.json))
