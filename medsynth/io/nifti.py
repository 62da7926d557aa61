"""NIfTI in and out, through igzip.

`.nii.gz` is the bottleneck of bulk work, so the whole file is decompressed or compressed at once
by ISA-L (several times as fast as zlib, and outside of Python's lock). nibabel makes and reads
the header. In memory everything is RAS+; on disk it is as it was found. The header policy stands
in docs/decisions/0003-nifti-headers.md.
"""

import errno
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import numpy as np
from isal import igzip, isal_zlib
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import io_orientation
from nibabel.spatialimages import HeaderDataError

from medsynth import __version__
from medsynth.core.labels import LabelScheme
from medsynth.core.paths import replacing
from medsynth.core.volume import LabelMap, Source, Volume
from medsynth.errors import DataError, GeometryError

LEVEL = 1
"""igzip's compression: level 1 gives nibabel's size at a fraction of its time."""

INT16_LEVELS = 200
"""A scan whose maximum is below this would lose detail as plain int16 and is scaled."""

INTENT_LABEL = 1002
OFFSET = 352
"""Where voxels start: after the header and four bytes that say "no extensions"."""

TOLERANCE_MM = 1e-2
"""Largest distance of corresponding voxels of scans that count as co-registered."""


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


def read_header(path: Path) -> Header:
    """The header alone, without decompressing the voxels.

    Raises:
        DataError: Missing, truncated or not NIfTI.
    """
    return _parse(_bytes(path, 1024), path)


def read_labels(path: Path, scheme: LabelScheme) -> LabelMap:
    """Read a label map.

    Args:
        path: `.nii.gz` or `.nii`.
        scheme: What its integers mean.

    Raises:
        DataError: Missing, truncated, not NIfTI, or not 3-D.
        LabelError: Values that are not whole numbers or not of this scheme.
    """
    header, data = _read(path)
    if data.ndim != 3:
        raise GeometryError(
            "a 3-D label map", f"shape {header.shape}", path, "Split it into one file per map."
        )
    values = scheme.check(header.source.to_ras(data), path)
    return LabelMap(np.ascontiguousarray(values), _ras_affine(header), scheme, header.source)


def read_volume(files: Mapping[str, Path], channel: Mapping[str, int] | None = None) -> Volume:
    """Read the co-registered scans of one case.

    Args:
        files: Modality → file.
        channel: Modality → index into a 4-D file, for modalities stored that way.

    Returns:
        float32 `(C, I, J, K)`, channels in the order of `files`.

    Raises:
        DataError: A file that is missing, truncated, not NIfTI, or holds NaN or infinity.
        GeometryError: A 4-D file where 3-D is expected, or scans that are not on one grid.
    """
    which = channel or {}
    distinct = list(dict.fromkeys(files.values()))
    with ThreadPoolExecutor(min(4, len(distinct))) as pool:
        read = dict(zip(distinct, pool.map(_read, distinct), strict=True))
    first_path = next(iter(files.values()))
    first = read[first_path][0]
    scans = []
    for modality, path in files.items():
        header, data = read[path]
        if data.ndim == 4 and modality in which:
            data = data[..., which[modality]]
        if data.ndim != 3:
            raise GeometryError(
                "a 3-D scan",
                f"shape {header.shape}",
                path,
                "Split the 4-D file, or index it as a Decathlon data set.",
            )
        if data.shape != first.shape[:3]:
            raise GeometryError(
                f"shape {first.shape[:3]} as in {first_path.name}",
                f"{data.shape}",
                path,
                "Resample all scans onto one grid.",
            )
        apart = _apart_mm(header.source.affine, first.source.affine, data.shape)
        if apart > TOLERANCE_MM:
            raise GeometryError(
                f"the affine of {first_path.name}",
                f"one that puts voxels {apart:.2g} mm away",
                path,
                "Register and resample all scans onto one grid.",
            )
        if not np.isfinite(data).all():
            count = int((~np.isfinite(data)).sum())
            raise DataError(
                "finite intensities",
                f"NaN or infinity in {count:,} voxels",
                path,
                "Repair the scan, for example with `numpy.nan_to_num`.",
            )
        scans.append(first.source.to_ras(data))
    stack = np.empty((len(scans), *scans[0].shape), np.float32)
    for target, scan in zip(stack, scans, strict=True):
        target[...] = scan
    return Volume(stack, _ras_affine(first), tuple(files), first.source)


def read_array(path: Path) -> np.ndarray:
    """The stored voxels in the file's own order, scaled if the header says so."""
    return _read(path)[1]


def write_labels(path: Path, labels: LabelMap, *, overwrite: bool = False) -> None:
    """Write a label map as uint8 with intent *label*.

    Args:
        path: `.nii.gz` or `.nii`.
        labels: Written to the grid of its source, RAS+ without one.
        overwrite: Replace a file that is there.

    Raises:
        DataError: The file exists, or the disk is full.
    """
    source = labels.source or Source(labels.affine)
    data = source.to_source(labels.data)
    _write(path, data, labels.data.dtype, source, INTENT_LABEL, 1.0, overwrite)


def write_scan(
    path: Path, scan: np.ndarray, like: LabelMap | Volume, *, overwrite: bool = False
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
    """
    top = max(float(scan.max()), -float(scan.min())) if scan.size else 0.0
    if not np.isfinite(top):
        raise DataError("finite intensities", "NaN or infinity", path)
    slope = 1.0 if INT16_LEVELS <= top <= 32767 or top == 0 else top / 32767
    source = like.source or Source(like.affine)
    _write(path, source.to_source(scan), np.dtype(np.int16), source, 0, slope, overwrite)


def _bytes(path: Path, most: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not gzipped:
                if path.name.endswith(".gz"):
                    raise DataError(
                        "a gzip file",
                        "other bytes",
                        path,
                        "Rename it to .nii if it is not compressed.",
                    )
                return file.read(most)
            if most < 0:
                return _unzipped(file.read())
            with igzip.IGzipFile(fileobj=file) as opened:
                return opened.read(most)
    except FileNotFoundError as error:
        raise DataError("a NIfTI file", "none", path) from error
    except (EOFError, OSError, ValueError, isal_zlib.error) as error:  # type: ignore[misc]
        raise DataError(
            "a whole .nii.gz file",
            f"a truncated or damaged one ({error})",
            path,
            "Copy or download it again.",
        ) from error


def _unzipped(raw: bytes) -> bytes:
    """Decompress at once into a buffer of the size that the file's end announces."""
    size = int.from_bytes(raw[-4:], "little")
    whole = isal_zlib.decompress(raw, 31, max(size, 1))
    # a file of several gzip members, or of over 4 GiB, announces less than it holds
    return whole if len(whole) == size else igzip.decompress(raw)


def _parse(raw: bytes, path: Path) -> Header:
    kind = Nifti2Header if raw[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else Nifti1Header
    size = 540 if kind is Nifti2Header else 348
    try:
        header = kind(raw[:size])
        if bytes(header["magic"])[:3] not in (b"n+1", b"n+2"):
            raise HeaderDataError(f"magic {bytes(header['magic'])!r}")
        affine = np.asarray(header.get_best_affine(), np.float64)
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
    except (HeaderDataError, ValueError, struct.error, KeyError) as error:
        raise DataError(
            "a single-file NIfTI (.nii or .nii.gz)",
            f"something else ({error})",
            path,
            "Convert it, for example with `nib-convert` or dcm2niix.",
        ) from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if dtype.kind not in "iuf":
        raise DataError("integers or floats", f"{dtype}", path)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise GeometryError(
            "an affine with three axes",
            f"{affine[:3].tolist()}",
            path,
            "Repair the header's sform or qform.",
        )
    turns = io_orientation(affine)
    code = int(header["sform_code"]) or int(header["qform_code"]) or 2
    axes, flips = turns[:, 0].astype(int), turns[:, 1].astype(int)
    source = Source(
        affine,
        (int(axes[0]), int(axes[1]), int(axes[2])),
        (int(flips[0]), int(flips[1]), int(flips[2])),
        code,
    )
    return Header(shape, source, dtype, header)


def _read(path: Path) -> tuple[Header, np.ndarray]:
    raw = _bytes(path)
    header = _parse(raw, path)
    start = int(header.raw["vox_offset"]) or len(header.raw.binaryblock) + 4
    count = int(np.prod(header.shape, dtype=np.int64))
    if len(raw) < start + count * header.dtype.itemsize:
        raise DataError(
            f"{count:,} voxels",
            f"{(len(raw) - start) // header.dtype.itemsize:,}",
            path,
            "The file is truncated: copy or download it again.",
        )
    data = np.frombuffer(raw, header.dtype, count, start).reshape(header.shape, order="F")
    slope, inter = (float(header.raw[key]) for key in ("scl_slope", "scl_inter"))
    if np.isfinite(slope) and slope != 0 and (slope, inter) != (1.0, 0.0):
        data = data.astype(np.float32) * np.float32(slope)
        if np.isfinite(inter) and inter:
            data += np.float32(inter)
    return header, data


def _ras_affine(header: Header) -> np.ndarray:
    """Voxel to RAS+ mm for the turned array."""
    source, result = header.source, np.eye(4)
    for axis, (ras, flip) in enumerate(zip(source.axes, source.flips, strict=True)):
        column = source.affine[:3, axis]
        result[:3, ras] = column * flip
        if flip < 0:
            result[:3, 3] += column * (header.shape[axis] - 1)
    result[:3, 3] += source.affine[:3, 3]
    return result


def _apart_mm(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), -1)
    gap = corners.reshape(-1, 3) @ (one - other)[:3, :3].T + (one - other)[:3, 3]
    return float(np.abs(gap).max())


def _write(
    path: Path,
    data: np.ndarray,
    dtype: np.dtype,
    source: Source,
    intent: int,
    slope: float,
    overwrite: bool,
) -> None:
    if path.exists() and not overwrite:
        raise DataError(
            "no file there yet", "one that exists", path, "Give another name or remove it first."
        )
    header = Nifti1Header()
    header.set_data_shape(data.shape)
    header.set_data_dtype(dtype)
    header.set_xyzt_units("mm")
    code = 2 if source.code == 1 else source.code
    header.set_qform(source.affine, code, strip_shears=True)
    header.set_sform(source.affine, code)
    header.set_slope_inter(slope, 0)
    header["intent_code"] = intent
    header["descrip"] = f"medsynth {__version__} SYNTHETIC".encode()
    header["vox_offset"] = OFFSET
    body = _body(header.binaryblock, data, dtype, slope)
    try:
        with replacing(path) as beside, beside.open("wb") as file:
            zipped = path.name.endswith(".gz")
            file.write(igzip.compress(body, LEVEL, mtime=0) if zipped else body.data)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                "room on the disk",
                "none left",
                path,
                "Free some space and run the same command again: finished cases are kept.",
            ) from error
        raise


def _body(header: bytes, data: np.ndarray, dtype: np.dtype, slope: float) -> np.ndarray:
    """A whole file in memory: header, no extensions, voxels with the first axis fastest.

    Voxels are scaled, rounded and turned round slice by slice, while a slice is in the cache, by
    two threads.
    """
    body = np.empty(OFFSET + data.size * dtype.itemsize, np.uint8)
    body[:OFFSET] = np.frombuffer(header.ljust(OFFSET, b"\0"), np.uint8)
    voxels = body[OFFSET:].view(dtype).reshape(data.shape[::-1])

    def turn(half: range) -> None:
        for at in half:
            part = data[:, at].T
            if data.dtype.kind == "f":
                part = np.rint(part if slope == 1.0 else part / slope)
            voxels[:, at] = part

    middle = data.shape[1] // 2
    other = Thread(target=turn, args=(range(middle),))
    other.start()
    turn(range(middle, data.shape[1]))
    other.join()
    return body
