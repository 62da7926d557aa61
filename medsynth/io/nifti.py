"""NIfTI in and out; read through igzip.

`.nii.gz` is the bottleneck of bulk work, so ISA-L decompresses (several times as fast as zlib, and
outside of Python's lock), and voxels are turned slice by slice while they are in the processor's
cache. zlib compresses: slower than ISA-L, but the same voxels are the same bytes. nibabel makes
and reads the header. In memory everything is RAS+; on disk it
is as it was found. The header policy stands in docs/decisions/0003-nifti-headers.md.
"""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import io_orientation
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from medsynth import __version__
from medsynth.core.labels import LabelScheme
from medsynth.core.volume import LabelMap, Source, Volume
from medsynth.errors import DataError, GeometryError
from medsynth.io.files import DAMAGED, fill, reading, writing

LEVEL = 1
"""zlib's compression. ISA-L's takes a fifth of the time at the same size, but now and then gives
other, equally valid bytes when several threads compress (docs/log.md)."""

QUIET = logging.Logger("nibabel, quiet")
"""nibabel would print what our error says."""

QUIET.addHandler(logging.NullHandler())

INT16_LEVELS = 200
"""A scan whose maximum is below this would lose detail as plain int16 and is scaled."""

INTENT_LABEL = 1002
OFFSET = 352
"""Where voxels start: after the header and four bytes that say "no extensions"."""

HEAD = 540
"""Bytes of the longer header, NIfTI-2's."""

TOLERANCE_MM = 1e-2
"""Largest distance of corresponding voxels of scans that count as co-registered."""

UNKNOWN_SIDES = "neither, so that left and right are a guess (nibabel's: the first axis runs left)"
SET_SIDES = "Set the sform, for example from the scan that the file was made of."


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says about itself.

    Args:
        shape: Voxels along the file's axes, without trailing ones.
        source: Its grid.
        dtype: Type of the stored numbers.
        raw: nibabel's header.
    """

    shape: tuple[int, ...]
    source: Source
    dtype: np.dtype
    raw: Nifti1Header


class Grid(NamedTuple):
    """Where the voxels of a file are: shape and affine in RAS+."""

    shape: tuple[int, ...]
    affine: np.ndarray
    path: Path


def read_header(path: Path) -> Header:
    """The header alone, without decompressing the voxels.

    Raises:
        DataError: Missing, truncated or not NIfTI.
        GeometryError: Its affine maps the volume onto a plane, or is not finite.
    """
    with reading(path) as stream:
        return _parse(stream.read(HEAD), path)


def is_label_map(path: Path) -> bool:
    """Whether a file's header says that it holds labels, as those of medsynth do.

    Raises:
        DataError: Missing, truncated or not NIfTI.
    """
    return int(read_header(path).raw["intent_code"]) == INTENT_LABEL


def read_labels(path: Path | str, scheme: LabelScheme) -> LabelMap:
    """Read a label map.

    Args:
        path: `.nii.gz` or `.nii`.
        scheme: What its integers mean.

    Returns:
        The map, turned to RAS+.

    Raises:
        DataError: Missing, truncated, not NIfTI.
        GeometryError: Not 3-D.
        LabelError: Values that are not whole numbers or not of this scheme.
    """
    path = Path(path)
    header, data = _read(path)
    if data.ndim != 3:
        raise GeometryError(
            "a 3-D label map", f"shape {header.shape}", path, "Split it into one file per map."
        )
    _warn_of_unknown_sides(header, path)
    values = header.source.to_ras(scheme.check(data, path))
    return LabelMap(_turned(values, np.dtype(np.uint8)), _ras_affine(header), scheme, header.source)


def read_volume(
    files: Mapping[str, Path | str], channel: Mapping[str, int] | None = None
) -> Volume:
    """Read the co-registered scans of one case.

    Scans may be stored in different orientations as long as their voxels are at the same places.

    Args:
        files: Modality → file.
        channel: Modality → index into a 4-D file, for modalities stored that way.

    Returns:
        float32 `(C, I, J, K)`, channels in the order of `files`; its source is that of the first.

    Raises:
        DataError: No file; one that is missing, truncated, not NIfTI, or holds NaN or infinity.
        GeometryError: A 4-D file where 3-D is expected, or scans that are not on one grid.
    """
    if not files:
        raise DataError("at least one scan", "none", None, "Index the data again.")
    which = channel or {}
    paths = {modality: Path(file) for modality, file in files.items()}
    distinct = list(dict.fromkeys(paths.values()))
    with ThreadPoolExecutor(min(4, len(distinct))) as pool:
        read = dict(zip(distinct, pool.map(_read, distinct), strict=True))
        scans: list[np.ndarray] = []
        grids: list[Grid] = []
        for modality, path in paths.items():
            header, data = read[path]
            scan = _pick(data, modality, path, which.get(modality))
            scans.append(header.source.to_ras(scan))
            grids.append(Grid(scans[-1].shape, _ras_affine(header), path))
            refuse_misfit(grids[0], grids[-1])
        for path in distinct:
            _warn_of_unknown_sides(read[path][0], path)
        stack = np.empty((len(scans), *scans[0].shape), np.float32)
        list(pool.map(_finite_copy, stack, scans, paths.values()))
    return Volume(stack, grids[0].affine, tuple(paths), read[grids[0].path][0].source)


def refuse_misfit(one: Grid, other: Grid) -> None:
    """Refuse two files of a case whose voxels are not at the same places.

    Raises:
        GeometryError: Shapes differ, or corners are more than 0.01 mm apart.
    """
    if other.shape != one.shape:
        raise GeometryError(
            f"shape {one.shape} as in {one.path.name}",
            f"{other.shape}",
            other.path,
            "Resample all files of a case onto one grid (label maps with nearest neighbour).",
        )
    apart = _apart_mm(one.affine, other.affine, one.shape)
    if apart > TOLERANCE_MM:
        raise GeometryError(
            f"the affine of {one.path.name}",
            f"one that puts voxels {apart:.2g} mm away",
            other.path,
            "Register and resample all files of a case onto one grid.",
        )


def read_array(path: Path) -> np.ndarray:
    """The stored voxels in the file's own order, scaled if the header says so."""
    return _read(path)[1]


def write_labels(path: Path | str, labels: LabelMap, *, overwrite: bool = False) -> None:
    """Write a label map as uint8 with intent *label*.

    Args:
        path: `.nii.gz` or `.nii`.
        labels: Written to the grid of its source, RAS+ without one.
        overwrite: Replace a file that is there.

    Raises:
        DataError: The file exists, or the disk is full.
    """
    source = _target(labels)
    data = source.to_source(labels.data)
    _write(Path(path), data, data.dtype, source, INTENT_LABEL, overwrite)


def write_scan(
    path: Path | str, scan: np.ndarray, like: LabelMap | Volume, *, overwrite: bool = False
) -> None:
    """Write one scan as int16.

    Intensities are rounded to whole numbers; a scan that does not fit, or whose largest value is
    below 200, gets a scale factor in its header instead.

    Args:
        path: `.nii.gz` or `.nii`.
        scan: float32 `(I, J, K)`, RAS+.
        like: Whose grid and source it is written to.
        overwrite: Replace a file that is there.

    Raises:
        DataError: The file exists, the disk is full, or the scan holds NaN or infinity.
        GeometryError: `scan` has another shape than `like`.
    """
    path = Path(path)
    if scan.shape != like.shape:
        raise GeometryError(f"a scan of shape {like.shape}", f"shape {scan.shape}", path)
    top = max(float(scan.max()), -float(scan.min())) if scan.size else 0.0
    if not np.isfinite(top):
        raise DataError("finite intensities", "NaN or infinity", path)
    slope = 1.0 if INT16_LEVELS <= top <= 32767 or top == 0 else top / 32767
    source = _target(like)
    dtype = np.dtype(np.int16)
    _write(path, source.to_source(scan), dtype, source, 0, overwrite, slope)


def _parse(raw: bytes, path: Path) -> Header:
    kind = Nifti2Header if raw[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else Nifti1Header
    size = 540 if kind is Nifti2Header else 348
    try:
        header = kind(raw[:size], check=False)
        header.check_fix(logger=QUIET)
        magic = bytes(header["magic"])[:3]
        if magic not in (b"n+1", b"n+2"):
            pair = magic in (b"ni1", b"ni2")
            raise HeaderDataError("a pair of .hdr and .img" if pair else f"magic {magic!r}")
        affine = np.asarray(header.get_best_affine(), np.float64)
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
        int(header["vox_offset"])
    except (
        HeaderDataError, WrapStructError, ValueError, OverflowError, struct.error, KeyError,
    ) as error:  # fmt: skip
        raise DataError(
            "a single-file NIfTI (.nii or .nii.gz)",
            f"something else ({error})",
            path,
            "Convert it, for example with `nib-convert` or dcm2niix.",
        ) from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not shape or min(shape) < 1:
        raise DataError("voxels along every axis", f"shape {shape}", path, DAMAGED)
    if dtype.kind not in "iuf":
        found = "colours (RGB)" if dtype.kind == "V" else f"{dtype}"
        todo = "Convert it to one real number per voxel, for example the magnitude."
        raise DataError("integers or floats", found, path, todo)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise GeometryError(
            "an affine with three axes",
            f"{affine[:3].tolist()}",
            path,
            "Repair the header's sform or qform.",
        )
    turns = io_orientation(affine).astype(int)
    code = int(header["sform_code"]) or int(header["qform_code"])
    axes, flips = (tuple(int(n) for n in column) for column in turns.T)
    return Header(shape, Source(affine, _three(axes), _three(flips), code), dtype, header)


def _three(numbers: tuple[int, ...]) -> tuple[int, int, int]:
    a, b, c = numbers
    return a, b, c


def _read(path: Path) -> tuple[Header, np.ndarray]:
    """Header and voxels, first axis fastest, scaled if the header says so."""
    with reading(path) as stream:
        head = stream.read(HEAD)
        header = _parse(head, path)
        start = int(header.raw["vox_offset"]) or len(header.raw.binaryblock) + 4
        count = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
        kept = head[start : start + count]
        stream.read(max(start - len(head), 0))
        buffer = fill(stream, count - len(kept), path, kept)
        stream.read(1)  # the end of a gzip file holds a check sum, which is compared now
    data = buffer.view(header.dtype).reshape(header.shape, order="F")
    slope, inter = (float(header.raw[key]) for key in ("scl_slope", "scl_inter"))
    if np.isfinite(slope) and slope != 0 and (slope, inter) != (1.0, 0.0):
        data = data.astype(np.float32) * np.float32(slope)
        if np.isfinite(inter) and inter:
            data += np.float32(inter)
    return header, data


def _pick(data: np.ndarray, modality: str, path: Path, index: int | None) -> np.ndarray:
    """The 3-D scan `index` of a 4-D file, or the one scan of a 3-D file."""
    if data.ndim == 4 and index is not None:
        if index < data.shape[3]:
            return data[..., index]
        found = f"{data.shape[3]} for channel {index} ({modality})"
        raise GeometryError("enough scans in a 4-D file", found, path, "Check dataset.json.")
    if data.ndim != 3:
        todo = "Split it into one file per scan, or index it as a Decathlon data set."
        raise GeometryError("a 3-D scan", f"shape {data.shape}", path, todo)
    if index:
        todo = "Check the channels in dataset.json."
        raise GeometryError(f"a 4-D file ({modality} is channel {index})", "3-D", path, todo)
    return data


def _finite_copy(target: np.ndarray, scan: np.ndarray, path: Path) -> None:
    _copy(target, scan)
    if scan.dtype.kind == "f" and not np.isfinite(target).all():
        count = int((~np.isfinite(target)).sum())
        raise DataError(
            "finite intensities",
            f"NaN or infinity in {count:,} voxels",
            path,
            "Repair the scan, for example with `numpy.nan_to_num`.",
        )


def _turned(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A copy with the last axis fastest."""
    result = np.empty(data.shape, dtype)
    _copy(result, data)
    return result


def _copy(target: np.ndarray, data: np.ndarray) -> None:
    for to, part in _slices(target, data):
        to[...] = part


def _slices(target: np.ndarray, data: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of 2-D slices that hold the fastest axes of both, so that each stays in the cache."""
    quick = {int(np.argmin(np.abs(array.strides))) for array in (target, data)}
    axis = min({0, 1, 2} - quick)
    return zip(np.moveaxis(target, axis, 0), np.moveaxis(data, axis, 0), strict=True)


def _warn_of_unknown_sides(header: Header, path: Path) -> None:
    if header.source.code == 0:
        text = (
            f"expected a header with sform or qform, found {UNKNOWN_SIDES} in {path}. {SET_SIDES}"
        )
        warnings.warn(text, UserWarning, stacklevel=3)


def _ras_affine(header: Header) -> np.ndarray:
    return _turned_affine(header.source, header.shape)


def _turned_affine(source: Source, shape: tuple[int, ...]) -> np.ndarray:
    """Voxel to RAS+ mm for the turned array; `shape` along the file's axes."""
    result = np.eye(4)
    for axis, (ras, flip) in enumerate(zip(source.axes, source.flips, strict=True)):
        column = source.affine[:3, axis]
        result[:3, ras] = column * flip
        if flip < 0:
            result[:3, 3] += column * (shape[axis] - 1)
    result[:3, 3] += source.affine[:3, 3]
    return result


def _target(like: LabelMap | Volume) -> Source:
    """The grid to write to: the source's, unless the value was moved, cropped or resampled."""
    source = like.source
    if source is not None:
        shape = tuple(like.shape[axis] for axis in source.axes)
        if _apart_mm(_turned_affine(source, shape), like.affine, like.shape) <= TOLERANCE_MM:
            return source
    return Source(like.affine)


def _apart_mm(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), -1)
    gap = corners.reshape(-1, 3) @ (one - other)[:3, :3].T + (one - other)[:3, 3]
    return float(np.linalg.norm(gap, axis=1).max())


def _write(
    path: Path,
    data: np.ndarray,
    dtype: np.dtype,
    source: Source,
    intent: int,
    overwrite: bool,
    slope: float = 1.0,
) -> None:
    header = Nifti1Header()
    header.set_data_shape(data.shape)
    header.set_data_dtype(dtype)
    header.set_xyzt_units("mm")
    code = 2 if source.code in (0, 1) else source.code
    header.set_qform(source.affine, code, strip_shears=True)
    header.set_sform(source.affine, code)
    header.set_slope_inter(slope, 0)
    header["intent_code"] = intent
    header["descrip"] = f"medsynth {__version__} SYNTHETIC".encode()
    header["vox_offset"] = OFFSET
    with writing(path, overwrite=overwrite) as beside:
        body = _body(header.binaryblock, data, dtype, slope)
        zipped = path.name.endswith(".gz")
        beside.write_bytes(zlib.compress(body.data, LEVEL, wbits=31) if zipped else body.data)


def _body(header: bytes, data: np.ndarray, dtype: np.dtype, slope: float) -> np.ndarray:
    """A whole file in memory: header, no extensions, voxels with the first axis fastest.

    Voxels are scaled, rounded and turned slice by slice, by two threads.
    """
    body = np.empty(OFFSET + data.size * dtype.itemsize, np.uint8)
    body[:OFFSET] = np.frombuffer(header.ljust(OFFSET, b"\0"), np.uint8)
    voxels = body[OFFSET:].view(dtype).reshape(data.shape, order="F")
    pairs = list(_slices(voxels, data))

    def turn(some: list[tuple[np.ndarray, np.ndarray]]) -> None:
        for to, part in some:
            if data.dtype.kind == "f":
                part = np.rint(part if slope == 1.0 else part / np.float32(slope))
            to[...] = part

    half = len(pairs) // 2
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(turn, (pairs[:half], pairs[half:])))
    return body
