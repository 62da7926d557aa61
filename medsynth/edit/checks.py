"""Is an edit plausible? Measured after every step, kept in the record.

Knows label maps before and after.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medsynth.core.volume import LabelMap, bounding_box
from medsynth.errors import EditError

VOLUME_TOLERANCE = 0.05
"""A volume may miss what was asked by this share, or by `VOXELS` where the tumour is small."""

VOXELS = 8
EXPOSED_TOLERANCE = 0.2
"""The core may touch healthy tissue with this much more of its surface than before."""


def volumes_mm3(labels: LabelMap) -> dict[str, float]:
    """Volume of each tumour structure that is present, and of the whole, mm³."""
    found = {s: labels.volume_mm3(s) for s in labels.scheme.members("lesion")}
    return {k: round(v, 3) for k, v in ({"WT": labels.volume_mm3("WT")} | found).items() if v}


def exposed(labels: LabelMap) -> float:
    """Share of the core's surface that touches neither oedema nor cavity; 0 without a core.

    It is how "nested as before" is measured: an edit must not turn the tumour inside out.
    """
    core = labels.mask("TC")
    if not core.any():
        return 0.0
    box = bounding_box(core, 1)
    inside = core[box]
    tumour = labels.scheme.mask(labels.data[box], "lesion")
    faces = bare = 0
    for axis in range(3):
        for step in (1, -1):
            neighbour = np.roll(inside, step, axis), np.roll(tumour, step, axis)
            surface = inside & ~neighbour[0]
            faces += int(surface.sum())
            bare += int((surface & ~neighbour[1]).sum())
    return bare / max(faces, 1)


def turned_out(before: float, after: float, step: str) -> EditError:
    """What to say of a core that came out of its oedema, with the shares of `exposed`."""
    return EditError(
        f"a core as enclosed by oedema as before {step} ({before:.0%} of its surface bare)",
        f"{after:.0%} bare",
        None,
        "Do less, or give it more oedema first: `--op grow:ED=3` (mm).",
    )


def check(
    before: LabelMap,
    after: LabelMap,
    step: str,
    *,
    factor: float | None,
    lost_ok: tuple[str, ...] = (),
    nested: bool = True,
) -> Mapping[str, Any]:
    """Compare a map before and after one step.

    Args:
        before, after: The maps; the grids may differ (implanting).
        step: Name of the operation, for messages.
        factor: By how much the tumour's volume should have changed; None when it is not
            determined by the operation.
        lost_ok: Structures that may disappear.
        nested: Whether the core must stay as enclosed as it was.

    Returns:
        Volumes before and after in mm³, the measured factor, and how exposed the core is.

    Raises:
        EditError: A structure was lost, the volume is not as asked, or the core came out.
    """
    old, new = volumes_mm3(before), volumes_mm3(after)
    lost = [
        s
        for s in old
        if s not in new and s not in lost_ok and s != "WT" and old[s] > 4 * before.voxel_mm3
    ]
    if lost:
        raise EditError(
            f"{', '.join(lost)} still there after {step}",
            "none",
            None,
            "The structure is too thin for this edit: do less of it.",
        )
    size = [sum(v for k, v in found.items() if k != "WT") for found in (old, new)]
    if factor is not None and size[0]:
        slack = max(VOLUME_TOLERANCE * factor * size[0], VOXELS * after.voxel_mm3)
        if abs(size[1] - factor * size[0]) > slack:
            raise EditError(
                f"{factor:.3g} times the volume after {step}",
                f"{size[1] / size[0]:.3g} times",
                None,
                "The new name must be of a tumour structure: `remove` takes the tumour away."
                if step == "relabel"
                else "Part of the tumour fell outside the brain: do less, or move it first.",
            )
    surface = exposed(before), exposed(after)
    if nested and surface[1] > surface[0] + EXPOSED_TOLERANCE:
        raise turned_out(*surface, step)
    return {
        "volumes_before_mm3": old,
        "volumes_after_mm3": new,
        "factor": round(size[1] / size[0], 4) if size[0] else None,
        "core_exposed": [round(v, 4) for v in surface],
    }
