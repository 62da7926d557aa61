"""The edits: pure functions from label map to label map.

What moves a tumour (`mirror`, `shift`, `rotate`, `implant`) heals the place that it leaves and
puts it, at its own volume, where it goes. What changes its size or shape (`scale`, `deform`)
carries the tissue around along, less and less with distance: mass effect. `grow`, `shrink`,
`remove` and `relabel` work voxel by voxel. All lesions of a map are edited together.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from medsynth.core.random import Key
from medsynth.core.volume import LabelMap, bounding_box
from medsynth.edit import checks, geometry
from medsynth.errors import EditError, LabelError

REACH = 0.8
"""Tissue is displaced up to this many tumour radii beyond the tumour's edge."""

SLACK_MM = 6.0
"""Room around a tumour into which its outline may grow to make up for what is cut off."""


def mirror(labels: LabelMap) -> LabelMap:
    """Put the tumour into the other hemisphere, mirrored; the brain stays as it is.

    Where it does not fit, it is slid towards the middle of the brain, as by `implant`.

    Raises:
        EditError: There is no tumour, or the other hemisphere has no room for it.

    Source:
        Shin et al. 2018 (arXiv 1807.10225), figure 3.
    """
    plane = geometry.midline_mm(labels)

    def where(mm: np.ndarray) -> np.ndarray:
        return mm * [-1, 1, 1] + [2 * plane, 0, 0]

    mask = geometry.tumour_mask(labels)
    centre = geometry.centre_mm(labels, mask)
    return _carried(labels, where, where(centre[None])[0], mask, slide=True)


def shift(labels: LabelMap, x_mm: float = 0.0, y_mm: float = 0.0, z_mm: float = 0.0) -> LabelMap:
    """Move the tumour.

    Args:
        labels: Any map with a tumour.
        x_mm, y_mm, z_mm: To the right, to the front, upwards.

    Raises:
        EditError: There is no tumour, or it would leave the brain.
    """
    step = np.array([x_mm, y_mm, z_mm])
    mask = geometry.tumour_mask(labels)
    return _carried(labels, lambda mm: mm - step, geometry.centre_mm(labels, mask) + step, mask)


def rotate(
    labels: LabelMap, x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0
) -> LabelMap:
    """Turn the tumour about its centre.

    Args:
        labels: Any map with a tumour.
        x_deg, y_deg, z_deg: Angles about the axes that point right, front and up, in this order.

    Raises:
        EditError: There is no tumour, or it would leave the brain.
    """
    mask = geometry.tumour_mask(labels)
    centre = geometry.centre_mm(labels, mask)
    turn = _rotation(x_deg, y_deg, z_deg)
    return _carried(labels, lambda mm: (mm - centre) @ turn + centre, centre, mask)


def scale(labels: LabelMap, volume: float | None = None, diameter: float | None = None) -> LabelMap:
    """Make the tumour larger or smaller about its centre; tissue around it gives way or fills in.

    Shin et al. 2018 say "16 % larger" without saying of what; here it is the volume unless the
    diameter is given (`diameter=1.16` is `volume=1.56`).

    Args:
        labels: Any map with a tumour.
        volume: Factor of the volume.
        diameter: Factor of the diameter. One of the two must be given.

    Raises:
        EditError: There is no tumour, the factor is not positive, or it would leave the brain.
    """
    if (volume is None) == (diameter is None):
        raise EditError("one of volume and diameter", "both" if volume else "none", "scale")
    factor = volume if volume is not None else float(diameter or 0) ** 3
    if factor <= 0:
        raise EditError("a factor above 0", f"{factor:g}", "scale")
    mask = geometry.tumour_mask(labels)
    centre = geometry.centre_mm(labels, mask)
    linear = factor ** (1 / 3)
    size = geometry.radius_mm(labels, mask, centre)

    def displacement(mm: np.ndarray) -> np.ndarray:
        return (mm - centre) * (1 / linear - 1)

    around = geometry.region_around(labels, centre, size * max(linear, 1) * (1 + REACH))
    host = _displaced(labels, mask, around, REACH * size, displacement)
    region = geometry.region_around(labels, centre, size * max(linear, 1) + SLACK_MM)
    return geometry.place(
        labels,
        host,
        lambda mm: (mm - centre) / linear + centre,
        region,
        mask.sum() * labels.voxel_mm3 * factor,
    )


def deform(
    labels: LabelMap, amplitude_mm: float, smoothness_mm: float = 12.0, seed: int = 0
) -> LabelMap:
    """Bend the tumour's outline by a smooth random displacement; its volume is kept.

    Args:
        labels: Any map with a tumour.
        amplitude_mm: Standard deviation of the displacement along each axis.
        smoothness_mm: Width of the Gaussian that makes it smooth.
        seed: Which displacement.

    Raises:
        EditError: There is no tumour, or it would leave the brain.
    """
    mask = geometry.tumour_mask(labels)
    centre = geometry.centre_mm(labels, mask)
    size = geometry.radius_mm(labels, mask, centre)
    around = geometry.region_around(labels, centre, size * (1 + REACH) + 3 * amplitude_mm)
    shape = tuple(s.stop - s.start for s in around)
    field = _smooth_field(shape, labels.spacing_mm, smoothness_mm, Key(seed, ("deform",)))
    field = amplitude_mm * field.reshape(3, -1).T
    host = _displaced(labels, mask, around, REACH * size, lambda mm: field)
    return geometry.place(
        labels, host, lambda mm: mm + field, around, mask.sum() * labels.voxel_mm3
    )


def grow(labels: LabelMap, name: str, margin_mm: float, within: str | None = None) -> LabelMap:
    """Grow one structure outward by a physical margin.

    The margin is a Euclidean distance in mm, so anisotropic voxels do not make the structure
    grow faster along one axis.

    Args:
        labels: Any map.
        name: Structure, for example `"ET"`.
        margin_mm: At least 0; 0 returns the same integers.
        within: Region that may be overwritten, for example `"WT"`; None means healthy brain
            (background in a tumour-only map).

    Raises:
        LabelError: `name` or `within` is not part of the scheme.
        EditError: The structure is absent, or the margin negative.

    Source:
        Exact distance transform, Maurer et al., IEEE TPAMI 25(2), 2003.
    """
    mask = _structure(labels, name, margin_mm)
    if within is not None:
        allowed = labels.mask(within)
    elif geometry.has_tissue(labels):
        allowed = labels.mask("tissue") | labels.mask("fine")
    else:
        allowed = labels.data == 0
    box = bounding_box(mask, [int(np.ceil(margin_mm / s)) + 1 for s in labels.spacing_mm])
    near = ndimage.distance_transform_edt(~mask[box], sampling=labels.spacing_mm) <= margin_mm
    data = labels.data.copy()
    data[box][near & (allowed[box] | mask[box])] = labels.scheme.value(name)
    return labels.with_data(data)


def shrink(labels: LabelMap, name: str, margin_mm: float) -> LabelMap:
    """Take a physical margin off one structure; the nearest neighbour structure fills in, but for
    vessels and the like, which do not grow into a gap.

    Args:
        labels: Any map.
        name: Structure, for example `"ED"`.
        margin_mm: At least 0.

    Raises:
        LabelError: `name` is not part of the scheme.
        EditError: The structure is absent, the margin negative, or nothing would be left.
    """
    mask = _structure(labels, name, margin_mm)
    box = bounding_box(mask, 2)
    part = labels.data[box]
    inside = mask[box]
    depth = ndimage.distance_transform_edt(inside, sampling=labels.spacing_mm)
    gone = inside & (depth <= margin_mm)
    if (gone == inside).all() and margin_mm > 0:
        raise EditError(
            f"{name} thicker than {2 * margin_mm:g} mm somewhere",
            f"at most {2 * depth.max():.1f} mm",
            None,
            "Shrink it less.",
        )
    usable = ~inside
    if geometry.has_tissue(labels):
        usable &= (part != 0) & ~labels.scheme.mask(part, "fine")
    _, nearest = ndimage.distance_transform_edt(
        ~usable, sampling=labels.spacing_mm, return_indices=True
    )
    data = labels.data.copy()
    data[box][gone] = part[tuple(nearest)][gone]
    return labels.with_data(data)


def remove(labels: LabelMap) -> LabelMap:
    """Take the tumour out; the brain heals to the tissue of the other side, or the nearest.

    Raises:
        EditError: There is no tumour.
    """
    return geometry.healed(labels)


def relabel(labels: LabelMap, source: str, target: str) -> LabelMap:
    """Call one structure another, for example necrosis enhancing.

    Raises:
        LabelError: A name is not part of the scheme.
        EditError: The structure is absent.
    """
    mask = _structure(labels, source, 0.0)
    data = labels.data.copy()
    data[mask] = labels.scheme.value(target)
    return labels.with_data(data)


def implant(labels: LabelMap, onto: LabelMap) -> LabelMap:
    """Put a tumour into another brain, healthy or not.

    The tumour keeps its size and goes to the same place relative to the brain (the centre, in
    shares of the brain's extent); where that lies partly outside, or the core would come out of
    its oedema, it is slid towards the middle of the brain. A tumour that the other brain has is
    removed first. Grid, affine and source are those of `onto`.

    Args:
        labels: The map with the tumour, any scheme with tissue or without.
        onto: The other brain, *brain* scheme.

    Raises:
        EditError: There is no tumour, `onto` has no tissue, or the tumour does not fit.

    Source:
        Shin et al. 2018 (arXiv 1807.10225), figure 3: "tumor on a normal brain".
    """
    if not geometry.has_tissue(onto):
        raise EditError(
            "a brain with tissue labels to implant into",
            "none",
            None,
            "Make them with `medsynth tissue`.",
        )
    mask = geometry.tumour_mask(labels)
    host = geometry.healed(onto) if onto.has("lesion") else onto
    centre = geometry.centre_mm(labels, mask)
    goal = _corresponding(labels, host, centre)
    size = geometry.radius_mm(labels, mask, centre)
    volume = float(mask.sum()) * labels.voxel_mm3
    return _slid(
        labels, host, lambda step: lambda mm: mm - (goal - centre) - step, goal, size, volume
    )


def _carried(
    labels: LabelMap,
    where: Callable[[np.ndarray], np.ndarray],
    goal: np.ndarray,
    mask: np.ndarray,
    slide: bool = False,
) -> LabelMap:
    """Heal, then put the tumour where it goes; slide it inwards where it does not fit."""
    size = geometry.radius_mm(labels, mask, geometry.centre_mm(labels, mask))
    volume = float(mask.sum()) * labels.voxel_mm3
    host = geometry.healed(labels)
    if slide and geometry.has_tissue(host):
        return _slid(labels, host, lambda step: lambda mm: where(mm - step), goal, size, volume)
    region = geometry.region_around(labels, goal, size + SLACK_MM)
    return geometry.place(labels, host, where, region, volume)


def _slid(
    labels: LabelMap,
    host: LabelMap,
    where: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]],
    goal: np.ndarray,
    size: float,
    volume: float,
) -> LabelMap:
    """Place a tumour at a goal, or as near to it on the way to the brain's middle as it fits.

    It fits where the brain holds it and its core stays as enclosed as it was.
    """
    way = geometry.centre_mm(host, host.data > 0) - goal
    before = checks.exposed(labels)
    for share in np.linspace(0, 0.9, 19):
        step = share * way
        region = geometry.region_around(host, goal + step, size + SLACK_MM)
        try:
            placed = geometry.place(labels, host, where(step), region, volume)
        except EditError as error:
            failure = error
            continue
        found = checks.exposed(placed)
        if found <= before + checks.EXPOSED_TOLERANCE:
            return placed
        failure = checks.turned_out(before, found, "the move")
    raise failure


def _displaced(
    labels: LabelMap,
    mask: np.ndarray,
    region: tuple[slice, slice, slice],
    reach_mm: float,
    displacement: Callable[[np.ndarray], np.ndarray],
) -> LabelMap:
    """The healed brain, its tissue displaced near the tumour, less and less up to `reach_mm`."""
    host = geometry.healed(labels)
    if not geometry.has_tissue(labels):
        return host
    away = ndimage.distance_transform_edt(~mask[region], sampling=labels.spacing_mm) / reach_mm
    keep = np.clip(1 - away, 0, 1).reshape(-1, 1)
    keep = keep * keep * (3 - 2 * keep)
    grid = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in region], indexing="ij"), -1)
    mm = geometry.to_mm(labels, grid.reshape(-1, 3).astype(np.float32))
    mm = mm + displacement(mm) * keep
    inverse = np.linalg.inv(labels.affine)
    at = np.rint(mm @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int32)
    at = np.clip(at, 0, np.array(labels.shape) - 1)
    moved = host.data[tuple(at.T)].reshape(grid.shape[:3])
    data = host.data.copy()
    part = data[region]
    inside = (part > 0) & (moved > 0)
    part[inside] = moved[inside]
    return host.with_data(data)


def _structure(labels: LabelMap, name: str, margin_mm: float) -> np.ndarray:
    if name not in labels.scheme.abbreviations:
        raise LabelError(
            f"a structure of scheme {labels.scheme.name!r} "
            f"({', '.join(labels.scheme.abbreviations[1:])})",
            repr(name),
        )
    if margin_mm < 0:
        raise EditError("a margin of at least 0 mm", f"{margin_mm:g}", name)
    mask = labels.data == labels.scheme.value(name)
    if not mask.any():
        raise EditError(
            f"some {name} in the label map", "none", None, "Choose a structure that the case has."
        )
    return mask


def _corresponding(labels: LabelMap, host: LabelMap, centre: np.ndarray) -> np.ndarray:
    """The place in the host that lies in its brain as `centre` lies in the brain of `labels`."""
    if not geometry.has_tissue(labels):
        return centre
    spans = []
    for which in (labels, host):
        box = bounding_box(which.data > 0)
        corners = np.array([[s.start for s in box], [s.stop - 1 for s in box]], float)
        spans.append(np.sort(geometry.to_mm(which, corners), axis=0))
    mine, theirs = spans
    return theirs[0] + (centre - mine[0]) / (mine[1] - mine[0]) * (theirs[1] - theirs[0])


def _rotation(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", [x_deg, y_deg, z_deg], degrees=True).as_matrix()


def _smooth_field(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...], smoothness_mm: float, key: Key
) -> np.ndarray:
    """Three smooth fields of unit variance `(3, *shape)`, drawn coarse and interpolated."""
    step = [max(smoothness_mm / 2 / s, 1.0) for s in spacing_mm]
    coarse = [int(np.ceil(n / f)) + 4 for n, f in zip(shape, step, strict=True)]
    noise = key.numpy().standard_normal((3, *coarse))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 2), mode="wrap")
    smooth /= smooth.std()
    axes = [np.arange(n) / f + 1 for n, f in zip(shape, step, strict=True)]
    at = np.stack(np.meshgrid(*axes, indexing="ij"))
    return np.stack([ndimage.map_coordinates(field, at, order=1) for field in smooth])
