"""`medsynth show`: a picture of scans and label maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsynth.commands import console
from medsynth.errors import DataError, UsageError


@dataclass(frozen=True)
class Show:
    """Three planes of every file; scans with the outlines of their case's label map.

    Args:
        files: Scans and label maps, or the folder of a case; label maps are known by the ending
            `-brain` or `-seg` of their names, or by what their headers say.
        out: The PNG.
        scheme: Scheme of label maps other than `-brain`; None takes that of BraTS 2023 for
            `-seg` and *brain* for others.
    """

    files: Sequence[Path]
    out: Path
    scheme: str | None = None

    def run(self) -> int:
        """Write the picture."""
        from medsynth import show
        from medsynth.core.labels import BRAIN, scheme
        from medsynth.core.volume import LabelMap, Volume
        from medsynth.io.layouts import NIFTI
        from medsynth.io.nifti import is_label_map, read_labels, read_volume

        if self.out.suffix.lower() != ".png":
            raise UsageError("a picture *.png as --out", repr(self.out.name))
        values: list[tuple[str, Volume | LabelMap]] = []
        for path in (file for given in self.files for file in _files(given)):
            stem = NIFTI.sub("", path.name)
            if stem.endswith("brain"):
                values.append((stem, read_labels(path, BRAIN)))
            elif stem.endswith("seg"):
                values.append((stem, read_labels(path, scheme(self.scheme or "brats2023"))))
            elif is_label_map(path):
                values.append((stem, read_labels(path, scheme(self.scheme or "brain"))))
            else:
                values.append((stem, read_volume({stem: path})))
        show.save(show.montage(values), self.out)
        console.say(f"→ {self.out}")
        return 0


def _files(path: Path) -> list[Path]:
    """A file, or those of a case's folder: its scans, then the label map that says most.

    Raises:
        DataError: A folder without scans, or a file that is neither scan nor label map.
    """
    from medsynth.core.cohort import MODALITIES
    from medsynth.io.layouts import NIFTI

    if not path.is_dir():
        if path.is_file() and not NIFTI.search(path.name):
            todo = "Leave it out, or name the folder of one case."
            raise DataError("scans or label maps, *.nii.gz or *.nii", "something else", path, todo)
        return [path]
    found = {NIFTI.sub("", f.name): f for f in sorted(path.iterdir()) if NIFTI.search(f.name)}
    if not found:
        todo = "Name the folder of one case, or its files."
        raise DataError("scans or label maps", "none", path, todo)

    def ending(end: str) -> list[Path]:
        return [file for stem, file in found.items() if stem.endswith(end)]

    maps = ending("brain") or ending("seg")
    scans = [file for modality in MODALITIES for file in ending(modality)]
    others = [file for stem, file in found.items() if not stem.endswith(("brain", "seg"))]
    return [*dict.fromkeys([*scans, *others]), *maps]


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "show",
        help="a picture of scans and label maps",
        description=console.summary(Show),
        epilog="Examples: medsynth show case-t1c.nii.gz case-brain.nii.gz -o picture.png;  "
        "medsynth show cohort/case -o picture.png",
    )
    p.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="scans and label maps, or a case's folder",
    )
    p.add_argument("-o", "--out", type=Path, required=True, help="the picture, *.png")
    p.add_argument("--scheme", help="of label maps (default: brats2023 for *-seg, else brain)")
    p.set_defaults(make=lambda a: Show(tuple(a.files), a.out, a.scheme))
