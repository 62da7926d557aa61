"""Pictures: rows of the well-known figure, montages, previews.

Takes values, not files, and knows no networks. Slices are shown as radiologists see them: the
patient's right on the left of the picture, front and head up. In a notebook, what these functions
return shows itself.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.figure
import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from medsynth.core.paths import replacing
from medsynth.core.volume import LabelMap, Volume, bounding_box

matplotlib.use("Agg")

NAMES = {"t1n": "T1", "t1c": "T1c", "t2w": "T2", "t2f": "FLAIR"}
PLANES = ("sagittal", "coronal", "axial")
CONTOURED = ("ED", "ET", "NCR", "RC")
INCH = 2.1
DPI = 110


class Figure(matplotlib.figure.Figure):
    """A figure that a notebook shows when it is the last line of a cell."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        _write(self, file, DPI)
        return file.getvalue()


@dataclass(frozen=True)
class Row:
    """One row of a figure.

    Args:
        title: What it shows.
        scans: `(C, I, J, K)`.
        labels: *Brain* scheme, same grid.
        height: Where the axial slice lies in the brain, from 0 (foot) to 1 (head); None takes the
            slice with most tumour.
    """

    title: str
    scans: Volume
    labels: LabelMap
    height: float | None = None


def figure_rows(rows: Sequence[Row]) -> Figure:
    """The figure of Shin et al. 2018: label map and scans, one row per edit.

    Each row shows the axial slice with most tumour (the middle of the brain without one), tumour
    outlines on all pictures, and one intensity window per modality for all rows.
    """
    channels = rows[0].scans.channels
    figure = _canvas(len(rows), 1 + len(channels))
    windows = [
        1.1
        * max(float(np.percentile(row.scans.channel(c)[row.labels.data > 0], 99.5)) for row in rows)
        for c in channels
    ]
    for index, row in enumerate(rows):
        at = slice_of(row.labels) if row.height is None else _at_height(row.labels, row.height)
        boxes = bounding_box(row.labels.data > 0, 3)
        axes = figure.axes[index * (1 + len(channels)) :]
        _colours(axes[0], row.labels, 2, at, boxes)
        axes[0].set_ylabel(row.title, color="white", fontsize=10)
        for axis, channel, top in zip(axes[1:], channels, windows, strict=False):
            _grey(axis, row.scans.channel(channel), row.labels.spacing_mm, 2, at, boxes, top)
            _contours(axis, row.labels, 2, at, boxes)
        if index == 0:
            for axis, name in zip(axes, ("label map", *channels), strict=False):
                axis.set_title(NAMES.get(name, name), color="white", fontsize=11)
    _sides(figure.axes[0])
    _legend(figure, [row.labels for row in rows])
    return figure


def montage(files: Sequence[tuple[str, Volume | LabelMap]]) -> Figure:
    """Three planes of each scan or label map; scans with outlines of the label map on their grid
    that is of the same case, or else of the only one.

    Args:
        files: Name and value, names as of files (`CASE-t1c`, `CASE-brain`); a volume gives a row
            per channel.
    """
    maps = [(name, value) for name, value in files if isinstance(value, LabelMap)]
    rows: list[tuple[str, np.ndarray | LabelMap, Volume | LabelMap]] = []
    for name, value in files:
        if isinstance(value, LabelMap):
            rows.append((name, value, value))
        else:
            rows += [(name, scan, value) for scan in value.data]
    figure = _canvas(len(rows), 3)
    for index, (name, data, grid) in enumerate(rows):
        over = _of_case(name, [(n, m) for n, m in maps if m.same_grid(grid)])
        axes = figure.axes[3 * index : 3 * index + 3]
        for axis, plane in zip(axes, (2, 1, 0), strict=True):
            if isinstance(data, LabelMap):
                _colours(axis, data, plane, slice_of(data, plane), bounding_box(data.data > 0, 3))
            else:
                mask = data > 0
                at = slice_of(over, plane) if over else _middle(mask, plane)
                top = float(np.percentile(data[mask], 99.7)) if mask.any() else 1.0
                boxes = bounding_box(mask, 3)
                _grey(axis, data, grid.spacing_mm, plane, at, boxes, top)
                if over:
                    _contours(axis, over, plane, at, boxes)
            if index == 0:
                axis.set_title(PLANES[plane], color="white", fontsize=11)
        axes[0].set_ylabel(name, color="white", fontsize=8)
    _sides(figure.axes[0])
    if maps:
        _legend(figure, [labels for _, labels in maps])
    return figure


def view(scans: Volume, labels: LabelMap, channel: str = "t1c") -> Any:
    """One scan with its label map, in a notebook: slices to scroll through where `ipyniivue` is
    installed, else three planes of them.

    Args:
        scans: Any that have the channel.
        labels: On the same grid.
        channel: Which scan.

    Returns:
        A widget or a figure; either shows itself as the last line of a cell.

    Raises:
        GeometryError: No such channel.
    """
    scan = scans.channel(channel)
    try:
        from ipyniivue import NiiVue
    except ImportError:
        one = replace(scans, data=scan[None], channels=(channel,))
        return montage([(NAMES.get(channel, channel), one), ("label map", labels)])
    of = labels.scheme.labels
    red, green, blue = zip(*[_bytes_of(label.colour) for label in of], strict=True)
    widget = NiiVue()
    widget.load_volumes(
        [
            {"name": f"{channel}.nii", "data": _nifti(scan, scans.affine)},
            {"name": "labels.nii", "data": _nifti(labels.data, labels.affine), "opacity": 0.4},
        ]
    )
    widget.volumes[1].set_colormap_label(
        {"R": red, "G": green, "B": blue, "A": [255 * (label.value > 0) for label in of],
         "I": labels.scheme.values, "labels": labels.scheme.abbreviations}
    )  # fmt: skip
    return widget


def _nifti(data: np.ndarray, affine: np.ndarray) -> bytes:
    return nib.Nifti1Image(data, affine).to_bytes()


def _bytes_of(colour: str) -> list[int]:
    return [round(255 * share) for share in matplotlib.colors.to_rgb(colour)]


def _of_case(name: str, maps: Sequence[tuple[str, LabelMap]]) -> LabelMap | None:
    """The label map whose case has that scan, by its name; else the first of one case alone."""
    cases = [re.sub(r"[-_](brain|seg)$", "", of) for of, _ in maps]
    mine = [m for case, (_, m) in zip(cases, maps, strict=True) if re.match(case + r"\b|_", name)]
    return mine[0] if mine else maps[0][1] if len(set(cases)) == 1 else None


def previews(source: LabelMap, real: Volume, generated: Volume) -> Figure:
    """Training: the label map, then the scans to be learnt above generated ones."""
    return figure_rows([Row("target", real, source), Row("generated", generated, source)])


def intervals(
    rows: Sequence[tuple[str, tuple[float | None, float | None, float | None]]], title: str
) -> Figure:
    """Figures with their intervals, a line each: name, (value, low, high)."""
    figure = Figure(figsize=(8, 0.32 * len(rows) + 1.0), layout="constrained")
    axis = figure.subplots()
    for at, (_, (value, low, high)) in enumerate(rows):
        if value is None:
            continue
        if low is not None and high is not None:
            axis.plot([low, high], [at, at], color="#7a8499", linewidth=2)
        axis.plot([value], [at], "o", color="#1d2330", markersize=5)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.grid(axis="x", color="#d9dde5")
    axis.set_axisbelow(True)
    axis.set_title(title, fontsize=10, loc="left")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    return figure


def curves(
    lines: Mapping[str, Sequence[tuple[float, tuple[float | None, float | None, float | None]]]],
    along: str,
    title: str,
) -> Figure:
    """Learning curves with their intervals.

    Args:
        lines: Name → points: place on the axis, (value, low, high).
        along: What the axis is.
        title: What the values are.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for name, points in lines.items():
        at = [x for x, _ in points]
        values = np.array([v for _, v in points], float)  # None becomes NaN: nothing is drawn
        (line,) = axis.plot(at, values[:, 0], "o-", label=name)
        axis.fill_between(at, values[:, 1], values[:, 2], color=line.get_color(), alpha=0.15)
    axis.set(xlabel=along, ylim=(0, 1))
    axis.grid(color="#d9dde5")
    axis.set_title(title, fontsize=10, loc="left")
    axis.legend(fontsize=8, frameon=False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure


def shares(columns: Mapping[str, tuple[np.ndarray, np.ndarray]], most: int = 24) -> Figure:
    """How often tokens occur, real and made, a small picture a column.

    Args:
        columns: Name → shares of the real and of the made records, `(size,)` each.
        most: Columns that are shown.
    """
    shown = list(columns.items())[:most]
    across = min(len(shown), 4)
    down = -(-len(shown) // across)
    figure = Figure(figsize=(3.2 * across if len(shown) > 1 else 9, 1.7 * down + 0.5),
                    layout="constrained")  # fmt: skip
    axes = np.ravel(figure.subplots(down, across, squeeze=False))
    for axis, (name, (real, made)) in zip(axes, shown, strict=False):
        at = np.arange(len(real))
        axis.bar(at, real, width=0.9, color="#c3cad6", label="real")
        axis.plot(at, made, "o", markersize=3, color="#b3372f", label="made")
        axis.set_title(name, fontsize=9, loc="left")
        axis.tick_params(labelsize=7)
        axis.set_xticks([])
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def scatter(
    across: np.ndarray, up: np.ndarray, names: tuple[str, str], title: str, least: float = 1e-5
) -> Figure:
    """Two shares of the same things against each other, logarithmic, with the line of equality.

    Args:
        across, up: Shares `(N,)`; those below `least` are drawn at it.
        names: Of the two axes.
        title: What a dot is.
        least: Where the axes begin.
    """
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    axis = figure.subplots()
    axis.plot([least, 1], [least, 1], color="#7a8499", linewidth=1)
    sides = [np.maximum(side, least) for side in (across, up)]
    axis.plot(*sides, "o", color="#1d2330", markersize=3, alpha=0.5, markeredgewidth=0)
    axis.set(xscale="log", yscale="log", xlabel=names[0], ylabel=names[1], aspect="equal")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        scale.set_minor_formatter(lambda *_: "")
    axis.grid(color="#d9dde5")
    axis.set_axisbelow(True)
    axis.set_title(title, fontsize=10, loc="left")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure


def save(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Write a PNG, whole or not at all; the same picture gives the same bytes."""
    with replacing(path) as beside:
        _write(figure, beside, dpi)


def _write(figure: Figure, to: Path | io.BytesIO, dpi: int) -> None:
    figure.savefig(
        to,
        format="png",
        dpi=dpi,
        facecolor=figure.get_facecolor(),
        metadata={"Software": None},
    )


def _canvas(rows: int, columns: int) -> Figure:
    figure = Figure(
        figsize=(INCH * columns + 0.3, INCH * 1.12 * rows + 0.7),
        facecolor="black",
        layout="constrained",
    )
    for axis in np.ravel(figure.subplots(rows, columns, squeeze=False)):
        axis.set_facecolor("black")
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


def _cut(data: np.ndarray, plane: int, at: int, boxes: tuple[slice, ...]) -> np.ndarray:
    """A slice with rows from top to bottom and the patient's right on the left."""
    part = data[tuple(at if axis == plane else boxes[axis] for axis in range(3))].T
    return part[::-1, ::-1]  # up; right (or front, in a sagittal slice) on the left


def _aspect(spacing_mm: tuple[float, float, float], plane: int) -> float:
    across, up = (a for a in range(3) if a != plane)
    return spacing_mm[up] / spacing_mm[across]


def _grey(
    axis: Axes,
    scan: np.ndarray,
    spacing_mm: tuple[float, float, float],
    plane: int,
    at: int,
    boxes: tuple[slice, ...],
    top: float,
) -> None:
    axis.imshow(
        _cut(scan, plane, at, boxes),
        cmap="gray",
        vmin=0,
        vmax=max(top, 1e-6),
        aspect=_aspect(spacing_mm, plane),
        interpolation="nearest",
    )


def _colours(axis: Axes, labels: LabelMap, plane: int, at: int, boxes: tuple[slice, ...]) -> None:
    table = np.zeros((256, 3))
    for label in labels.scheme.labels:
        table[label.value] = matplotlib.colors.to_rgb(label.colour)
    axis.imshow(
        table[_cut(labels.data, plane, at, boxes)],
        interpolation="nearest",
        aspect=_aspect(labels.spacing_mm, plane),
    )


def _contours(axis: Axes, labels: LabelMap, plane: int, at: int, boxes: tuple[slice, ...]) -> None:
    part = _cut(labels.data, plane, at, boxes)
    for name in CONTOURED:
        if name not in labels.scheme.abbreviations:
            continue
        label = labels.scheme.label(name)
        mask = part == label.value
        if mask.any() and min(mask.shape) > 1:
            axis.contour(mask, [0.5], colors=[label.colour], linewidths=0.7)


def slice_of(labels: LabelMap, plane: int = 2) -> int:
    """The slice across axis `plane` with most tumour, or the middle of what there is."""
    others = tuple(axis for axis in range(3) if axis != plane)
    area = labels.mask("WT").sum(others)
    return int(area.argmax()) if area.any() else _middle(labels.data > 0, plane)


def height(labels: LabelMap) -> float:
    """Where the axial slice with most tumour lies in the brain, from 0 (foot) to 1 (head)."""
    box = bounding_box(labels.data > 0)[2]
    return (slice_of(labels) - box.start) / max(box.stop - 1 - box.start, 1)


def _at_height(labels: LabelMap, share: float) -> int:
    box = bounding_box(labels.data > 0)[2]
    return box.start + round(share * (box.stop - 1 - box.start))


def _middle(mask: np.ndarray, plane: int) -> int:
    box = bounding_box(mask)[plane]
    return (box.start + box.stop) // 2


def _sides(axis: Axes) -> None:
    """Letters for the patient's right and left on an axial or coronal slice."""
    axis.text(0.02, 0.5, "R", color="white", transform=axis.transAxes, va="center")
    axis.text(0.98, 0.5, "L", color="white", transform=axis.transAxes, va="center", ha="right")


def _legend(figure: Figure, maps: Sequence[LabelMap]) -> None:
    """Colours of the structures that any of the label maps has, tissue and tumour."""
    labels = {label.abbreviation: label for m in maps for label in m.scheme.labels[1:]}
    lines = [
        Patch(color=label.colour, label=f"{name} {label.name}")
        for name, label in labels.items()
        if any(name in m.scheme.abbreviations and m.has(name) for m in maps)
    ]
    if not lines:
        return
    figure.legend(
        handles=lines,
        loc="outside lower center",
        ncols=4 if figure.get_figwidth() > 8 else 2,
        frameon=False,
        labelcolor="white",
        fontsize=8,
    )
