"""Does every structure have the brightness that it has in the scan it stands for?

Compares the mean intensity of each structure in a generated scan with a reference scan of the
same label map. Knows arrays only.
"""

from dataclasses import dataclass

import numpy as np

from medsynth.core.volume import LabelMap, Volume
from medsynth.errors import GeometryError

MIN_VOXELS = 10
"""Structures with fewer voxels have no meaningful mean."""


@dataclass(frozen=True)
class Contrast:
    """Mean intensity of one structure in one modality.

    Args:
        modality: For example `t1c`.
        structure: Abbreviation, for example `ET`.
        reference: Mean in the reference scan, as a share of that scan's range (0 to its 99.5th
            percentile in the brain).
        generated: Mean in the generated scan, on the scale of the reference.
        voxels: Voxels of the structure.
    """

    modality: str
    structure: str
    reference: float
    generated: float
    voxels: int

    @property
    def gap(self) -> float:
        """Absolute difference, as a share of the range."""
        return abs(self.generated - self.reference)


def compare(generated: Volume, reference: Volume, labels: LabelMap) -> list[Contrast]:
    """Structure by structure, modality by modality.

    Both scans must be on one scale: the reference brought there by `imaging.intensity.normalise`,
    the generated one divided by `imaging.intensity.UNITS`.

    Args:
        generated: `(T, I, J, K)`.
        reference: The same channels on the same grid.
        labels: *Brain* scheme, same grid.

    Raises:
        GeometryError: Different grids or channels.
    """
    if (
        not (generated.same_grid(reference) and generated.same_grid(labels))
        or generated.channels != reference.channels
    ):
        raise GeometryError(
            f"scans and labels on one grid {reference.shape} with channels {reference.channels}",
            f"{generated.shape} {generated.channels}",
        )
    rows = []
    for label in labels.scheme.labels[1:]:
        where = labels.data == label.value
        count = int(where.sum())
        if count < MIN_VOXELS:
            continue
        for modality in generated.channels:
            means = [float(np.mean(v.channel(modality)[where])) for v in (reference, generated)]
            rows.append(Contrast(modality, label.abbreviation, means[0], means[1], count))
    return rows
