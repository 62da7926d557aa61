"""`medsynth show`: a picture of scans and label maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsynth.commands import console


@dataclass(frozen=True)
class Show:
    """Three planes of every file, with outlines of the first label map on the same grid.

    Args:
        files: Scans and label maps; label maps are named `-brain` or `-seg`, or given by
            `labels`.
        out: The PNG.
        scheme: Scheme of label maps other than `-brain`.
    """

    files: Sequence[Path]
    out: Path
    scheme: str = "brats2023"

    def run(self) -> int:
        """Write the picture."""
        from medsynth import show
        from medsynth.core.labels import BRAIN, scheme
        from medsynth.core.volume import LabelMap, Volume
        from medsynth.io.layouts import NIFTI
        from medsynth.io.nifti import read_labels, read_volume

        values: list[tuple[str, Volume | LabelMap]] = []
        for path in self.files:
            stem = NIFTI.sub("", path.name)
            if stem.endswith("brain"):
                values.append((stem, read_labels(path, BRAIN)))
            elif stem.endswith("seg"):
                values.append((stem, read_labels(path, scheme(self.scheme))))
            else:
                values.append((stem, read_volume({stem: path})))
        show.save(show.montage(values), self.out)
        console.say(f"→ {self.out}")
        return 0


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "show",
        help="a picture of scans and label maps",
        description=console.summary(Show),
        epilog="Example: medsynth show case-t1c.nii.gz case-brain.nii.gz -o picture.png",
    )
    p.add_argument("files", type=Path, nargs="+", metavar="FILE")
    p.add_argument("-o", "--out", type=Path, required=True)
    p.add_argument("--scheme", default="brats2023", help="scheme of *seg.nii.gz files")
    p.set_defaults(make=lambda a: Show(tuple(a.files), a.out, a.scheme))
