"""Where a tumour is, how the brain looks without it, and how it is put somewhere else.

All coordinates are RAS+ mm or voxels of the label map's grid. Label maps in the *brain* scheme
have tissue around the tumour; in a tumour-only map everything else is background, so "inside the
brain" means nothing there and healing leaves background.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from medsynth.core.labels import TISSUE
from medsynth.core.volume import LabelMap, bounding_box
from medsynth.errors import EditError, NoTumourError

FEW_VOXELS = 8
"""So many voxels are rounding, not a part of the tumour."""


def tumour_mask(labels: LabelMap) -> np.ndarray:
    """Where the tumour is, boolean `(I, J, K)`.

    Raises:
        NoTumourError: There is none.
    """
    mask = labels.mask("lesion")
    if not mask.any():
        raise NoTumourError(
            "a tumour to edit",
            "none",
            None,
            "Implant one with `--onto`, or choose a case that has one.",
        )
    return mask


def has_tissue(labels: LabelMap) -> bool:
    """Whether a map says where the brain is."""
    return "GM" in labels.scheme.abbreviations and bool(
        np.isin(labels.data, [labels.scheme.value(t) for t in TISSUE]).any()
    )


def to_mm(labels: LabelMap, voxels: np.ndarray) -> np.ndarray:
    """Voxel indices `(N, 3)` to mm `(N, 3)`."""
    return voxels @ labels.affine[:3, :3].T + labels.affine[:3, 3]


def centre_mm(labels: LabelMap, mask: np.ndarray) -> np.ndarray:
    """Centre of gravity of a mask in mm, `(3,)`."""
    return to_mm(labels, np.argwhere(mask).mean(0)[None])[0]


def midline_mm(labels: LabelMap) -> float:
    """Left–right position of the plane between the hemispheres, mm.

    The middle of the brain, or of the grid when the map has no tissue.
    """
    if not has_tissue(labels):
        ends = to_mm(labels, np.array([[0, 0, 0], np.array(labels.shape) - 1]))
        return float(ends[:, 0].mean())
    hit = np.flatnonzero((labels.data > 0).any((1, 2)))
    middle = np.array([[(hit[0] + hit[-1]) / 2, *(np.array(labels.shape[1:]) / 2)]])
    return float(to_mm(labels, middle)[0, 0])


def healed(labels: LabelMap) -> LabelMap:
    """The brain without its tumour.

    Each tumour voxel takes the tissue of its mirror image across the midline where that is
    tissue, else the nearest tissue. Outlines are smoothed by a majority filter, so that the
    healed region has no seams.
    """
    mask = tumour_mask(labels)
    data = labels.data.copy()
    if not has_tissue(labels):
        data[mask] = 0
        return labels.with_data(data)
    tissue = [labels.scheme.value(t) for t in TISSUE]
    index = np.argwhere(mask)
    plane = midline_mm(labels)
    mirrored = to_mm(labels, index.astype(float))
    mirrored[:, 0] = 2 * plane - mirrored[:, 0]
    inverse = np.linalg.inv(labels.affine)
    other = np.rint(mirrored @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    inside = ((other >= 0) & (other < labels.shape)).all(1)
    found = np.zeros(len(index), np.uint8)
    found[inside] = labels.data[tuple(other[inside].T)]
    usable = np.isin(found, tissue)
    data[mask] = np.where(usable, found, 0)
    if not usable.all():
        box = bounding_box(mask, 12)
        part = data[box]
        unknown = ~np.isin(part, tissue)
        _, nearest = ndimage.distance_transform_edt(
            unknown, sampling=labels.spacing_mm, return_indices=True
        )
        filled = part[tuple(nearest)]
        holes = mask[box] & unknown
        part[holes] = filled[holes]
    return labels.with_data(_majority(data, mask, tissue))


def _majority(data: np.ndarray, where: np.ndarray, values: list[int]) -> np.ndarray:
    box = bounding_box(where, 3)
    part = data[box]
    votes = np.stack([ndimage.uniform_filter((part == v).astype(np.float32), 3) for v in values])
    best = np.asarray(values, np.uint8)[votes.argmax(0)]
    part[where[box]] = best[where[box]]
    return data


CUT = 0.05
"""Up to this share of a tumour may stick out of the brain where it is put; the outline grows a
little elsewhere to make up for it."""


def place(
    labels: LabelMap,
    host: LabelMap,
    where: Callable[[np.ndarray], np.ndarray],
    region: tuple[slice, slice, slice],
    volume_mm3: float,
) -> LabelMap:
    """Carry a tumour into a brain without one.

    Outlines are interpolated as signed distances, and the voxels that lie deepest are taken
    until the volume is as asked, so that a volume is met to the voxel.

    Args:
        labels: The map with the tumour.
        host: The brain, on its own grid.
        where: Host mm `(N, 3)` → mm in `labels`.
        region: Part of the host's grid in which the tumour will lie.
        volume_mm3: Volume that it shall have.

    Raises:
        EditError: More than 5 % of it would be outside of the brain.
    """
    names = [s for s in labels.scheme.members("lesion") if labels.has(s)]
    margin_mm = max(4 * max(labels.spacing_mm), 6.0)
    box = bounding_box(tumour_mask(labels), [int(margin_mm / s) + 1 for s in labels.spacing_mm])
    start = np.array([s.start for s in box])
    grid = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in region], indexing="ij"), -1)
    source_mm = where(to_mm(host, grid.reshape(-1, 3).astype(float)))
    inverse = np.linalg.inv(labels.affine)
    at = (source_mm @ inverse[:3, :3].T + inverse[:3, 3] - start).T
    part = labels.data[box]
    masks = [part == labels.scheme.value(name) for name in names]
    depths = np.stack(
        [
            ndimage.map_coordinates(
                _signed_distance(mask, labels.spacing_mm), at, np.float32, 1, "constant", -1e3
            )
            for mask in (np.any(masks, 0), *(masks if len(names) > 1 else ()))
        ]
    )
    inside = host.data[region].reshape(-1) > 0 if has_tissue(host) else np.ones(at.shape[1], bool)
    count = round(volume_mm3 / host.voxel_mm3)
    seen, within = (depths[0] > 0).sum(), ((depths[0] > 0) & inside).sum()
    whole = seen if seen > count / 2 - FEW_VOXELS else count  # the rest lies beyond the grid
    out = (whole - within) / max(whole, 1)
    if out > CUT or count > inside.sum():
        raise EditError(
            f"the tumour inside the brain (up to {100 * CUT:.0f} % is cut off)",
            f"{100 * out:.1f} % of it outside",
            None,
            "Do less, or move it towards the middle of the brain first.",
        )
    candidates = np.flatnonzero(inside)
    chosen = candidates[np.argpartition(-depths[0][candidates], count - 1)[:count]]
    sizes = np.array([mask.sum() for mask in masks])
    quotas = np.rint(count * sizes / sizes.sum()).astype(int)
    values = np.array([host.scheme.value(name) for name in names], np.uint8)
    own = depths[-len(names) :, chosen]
    data = host.data.copy()
    tumour = np.zeros((3, *data[region].shape), np.uint8)
    tumour.reshape(3, -1)[:, chosen] = _named(own, quotas, values, max(labels.spacing_mm))
    named = _without_crumbs(tumour[0], tumour[1], tumour[2] > 0)
    data[region] = np.where(named > 0, named, data[region])
    return host.with_data(data)


def _named(
    depths: np.ndarray, quotas: np.ndarray, values: np.ndarray, edge_mm: float
) -> np.ndarray:
    """What `_without_crumbs` asks of each voxel of a tumour, `(3, N)`: the structure that it is
    given to, the nearest one, and whether it lies within `edge_mm` of the former, or none nearer.
    """
    taken = _shared_out(depths, quotas)
    mine = np.take_along_axis(depths, taken[None], 0)[0]
    home = mine >= np.minimum(depths.max(0), -edge_mm)
    return np.stack([values[taken], values[depths.argmax(0)], home])


def _shared_out(depths: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Give each structure its number of voxels, the smallest structure first, and first those that
    lie deeper in it than in any structure that is still to come: what was added outside of oedema
    is oedema, however far from all else.

    Args:
        depths: Signed distances `(structures, N)`.
        quotas: Voxels per structure; the largest structure takes what is left.

    Returns:
        Which structure each voxel belongs to, `(N,)`.
    """
    order = np.argsort(quotas, kind="stable")
    taken = np.full(depths.shape[1], order[-1])
    free = np.ones(depths.shape[1], bool)
    for rank, index in enumerate(order[:-1]):
        candidates = np.flatnonzero(free)
        wanted = min(int(quotas[index]), len(candidates))
        if wanted:
            rest = depths[order[rank + 1 :]][:, candidates].max(0)
            most = np.argpartition(rest - depths[index][candidates], wanted - 1)[:wanted]
            taken[candidates[most]] = index
            free[candidates[most]] = False
    return taken


def _without_crumbs(named: np.ndarray, nearest: np.ndarray, home: np.ndarray) -> np.ndarray:
    """Give pieces of a structure that lie nowhere near it to the nearest one: they are what was
    left over. That takes a few voxels from its share.

    Args:
        named: Integers of the structures, 0 outside, `(I, J, K)`.
        nearest: Integer of the structure in which each of these voxels lies deepest.
        home: Whether a voxel lies within a voxel of the structure that it is named by, or no
            other is nearer.
    """
    out = named.copy()
    for value in np.unique(named[named > 0]):
        pieces, count = ndimage.label(named == value, np.ones((3, 3, 3)))
        rooted = np.bincount(pieces[home], minlength=count + 1) > 0
        crumbs = ~rooted[pieces] & (named == value)
        out[crumbs] = nearest[crumbs]
    return out


def _signed_distance(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Distance to the outline in mm, positive inside."""
    deep = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    return (deep - ndimage.distance_transform_edt(~mask, sampling=spacing_mm)).astype(np.float32)


def region_around(
    labels: LabelMap, centre: np.ndarray, radius_mm: float
) -> tuple[slice, slice, slice]:
    """The part of a grid within a distance of a point in mm."""
    inverse = np.linalg.inv(labels.affine)
    middle = inverse[:3, :3] @ centre + inverse[:3, 3]
    reach = radius_mm / np.array(labels.spacing_mm) + 2
    low = np.clip(np.floor(middle - reach), 0, np.array(labels.shape) - 1).astype(int)
    high = np.clip(np.ceil(middle + reach) + 1, low + 1, labels.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def radius_mm(labels: LabelMap, mask: np.ndarray, centre: np.ndarray) -> float:
    """Largest distance of a mask's voxels from a point, mm."""
    edge = mask & ~ndimage.binary_erosion(mask)
    return float(
        np.linalg.norm(to_mm(labels, np.argwhere(edge).astype(float)) - centre, axis=1).max()
    )
