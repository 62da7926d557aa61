"""NIfTI: every orientation, three libraries, header policy, broken files."""

import errno
import gzip
import itertools
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medsynth.core.labels import BRAIN, BRATS2023, scheme
from medsynth.core.volume import LabelMap, Volume
from medsynth.errors import DataError, GeometryError, LabelError, MedsynthError
from medsynth.io import nifti

SHAPE = (5, 6, 7)
ORIENTATIONS = [
    "".join(flip)
    for axes in itertools.permutations(["RL", "AP", "SI"])
    for flip in itertools.product(*axes)
]


def _affine(axes: str) -> np.ndarray:
    """An oblique affine whose axes run mainly along the given directions."""
    directions = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    matrix = np.eye(4)
    tilt = np.array([[0.995, -0.08, 0.05], [0.08, 0.99, -0.1], [-0.04, 0.1, 0.99]])
    for column, (letter, size) in enumerate(zip(axes, (1.0, 1.5, 2.5), strict=True)):
        ras, sign = directions[letter]
        matrix[:3, column] = tilt[:, ras] * sign * size
    matrix[:3, 3] = (-12.5, 33.25, 7.125)
    return matrix


def _world(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in mm and values of the voxels that are not zero, in a fixed order."""
    index = np.argwhere(data != 0)
    mm = index @ affine[:3, :3].T + affine[:3, 3]
    order = np.argsort(data[tuple(index.T)])
    return mm[order], data[tuple(index.T)][order]


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_every_orientation_goes_to_ras_and_back(axes: str, tmp_path: Path) -> None:
    stored = np.arange(1, 211, dtype=np.int16).reshape(SHAPE)
    affine = _affine(axes)
    source = nib.Nifti1Image(stored, affine)
    source.set_sform(affine, 2)
    nib.save(source, tmp_path / "in.nii.gz")
    exact = nib.load(tmp_path / "in.nii.gz").affine
    volume = nifti.read_volume({"t1n": tmp_path / "in.nii.gz"})
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    for mine, theirs in zip(
        _world(volume.data[0], volume.affine), _world(stored, exact), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    nifti.write_scan(tmp_path / "out.nii.gz", volume.data[0], volume)
    back = nib.load(tmp_path / "out.nii.gz")
    assert (np.asarray(back.dataobj) == stored).all()
    assert (back.affine == exact).all()
    np.testing.assert_allclose(back.get_qform(), exact, atol=0.2)  # a qform holds no shear


@pytest.mark.parametrize("writer", ["nibabel", "SimpleITK", "medsynth"])
def test_three_libraries_see_one_place(writer: str, tmp_path: Path) -> None:
    data = np.zeros(SHAPE, np.int16)
    data[1, 2, 3], data[4, 0, 6] = 300, 500
    affine = np.diag([-1.0, -1.5, 2.0, 1])
    affine[:3, 3] = (10, 20, -30)
    path = tmp_path / "x.nii.gz"
    if writer == "nibabel":
        nib.save(nib.Nifti1Image(data, affine), path)
    elif writer == "SimpleITK":
        image = sitk.GetImageFromArray(data.transpose(2, 1, 0))
        image.SetSpacing((1.0, 1.5, 2.0))
        image.SetOrigin((-10.0, -20.0, -30.0))  # LPS
        sitk.WriteImage(image, str(path))
    else:
        ras = data[::-1, ::-1].astype(np.float32)
        turned = np.diag([1.0, 1.5, 2.0, 1])
        turned[:3, 3] = (10 - 4, 20 - 7.5, -30)
        nifti.write_scan(path, ras, Volume(ras[None], turned, ("t1n",)))
    expected = np.array([[9, 17, -24], [6, 20, -18]])
    loaded = nib.load(path)
    np.testing.assert_allclose(_world(np.asarray(loaded.dataobj), loaded.affine)[0], expected)
    ours = nifti.read_volume({"t1n": path})
    np.testing.assert_allclose(_world(ours.data[0], ours.affine)[0], expected)
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    seen = sorted(
        (int(array[tuple(at)]), image.TransformIndexToPhysicalPoint(at[::-1].tolist()))
        for at in np.argwhere(array)
    )
    np.testing.assert_allclose([(-x, -y, z) for _, (x, y, z) in seen], expected, atol=1e-5)


def test_header_policy(tmp_path: Path) -> None:
    data = np.zeros(SHAPE, np.int16)
    data[1:3, 1:3, 1:3] = 2
    image = nib.Nifti1Image(data, _affine("LPS"))
    image.header["descrip"] = b"DOE^JANE 1970-01-01"
    image.set_sform(image.affine, 1)
    nib.save(image, tmp_path / "in.nii.gz")
    labels = nifti.read_labels(tmp_path / "in.nii.gz", BRATS2023)
    nifti.write_labels(tmp_path / "out.nii.gz", labels)
    header = nib.load(tmp_path / "out.nii.gz").header
    assert header.get_data_dtype() == np.uint8
    assert int(header["intent_code"]) == 1002
    assert header.get_xyzt_units()[0] == "mm"
    assert (int(header["sform_code"]), int(header["qform_code"])) == (2, 2)  # 1 is for scanners
    assert b"SYNTHETIC" in bytes(header["descrip"])
    assert b"DOE" not in (tmp_path / "out.nii.gz").read_bytes()
    mni = nib.Nifti1Image(data, np.eye(4))
    mni.set_sform(np.eye(4), 4)
    nib.save(mni, tmp_path / "mni.nii.gz")
    again = nifti.read_labels(tmp_path / "mni.nii.gz", BRATS2023)
    nifti.write_labels(tmp_path / "mni2.nii.gz", again)
    assert int(nib.load(tmp_path / "mni2.nii.gz").header["sform_code"]) == 4


def test_qform_is_used_when_there_is_no_sform(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones(SHAPE, np.int16), None)
    affine = np.diag([-2.0, 2, 2, 1])
    affine[:3, 3] = 5
    image.header.set_qform(affine, 1)
    image.header.set_sform(None, 0)
    nib.save(image, tmp_path / "q.nii.gz")
    assert (nifti.read_header(tmp_path / "q.nii.gz").source.affine == affine).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.int32, np.float32, np.float64])
def test_stored_types_and_scaling(dtype: object, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype)
    image = nib.Nifti1Image(data, np.eye(4), dtype=np.dtype(dtype).newbyteorder("="))
    image.header.set_slope_inter(2.0, 3.0)
    nib.save(image, tmp_path / "x.nii.gz")
    expected = nib.load(tmp_path / "x.nii.gz").get_fdata()
    np.testing.assert_allclose(nifti.read_array(tmp_path / "x.nii.gz"), expected, rtol=1e-6)


@pytest.mark.parametrize("top", [0.7, 30.0, 900.0, 1e6])
def test_scans_keep_their_detail_as_int16(top: float, tmp_path: Path) -> None:
    scan = (np.random.default_rng(0).random(SHAPE) * top).astype(np.float32)
    nifti.write_scan(tmp_path / "x.nii.gz", scan, Volume(scan[None], np.eye(4), ("t1n",)))
    again = nib.load(tmp_path / "x.nii.gz")
    assert again.get_data_dtype() == np.int16
    assert np.abs(again.get_fdata() - scan).max() <= max(top / 32767, 0.5 if top > 200 else 0)


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    labels = LabelMap(np.ones(SHAPE, np.uint8), np.eye(4), BRAIN)
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write_labels(tmp_path / name, labels)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_two_threads_write_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scans = [np.cumsum(rng.normal(size=(64, 64, 64)), 2).astype(np.float32) for _ in range(3)]
    for scan in scans:
        scan[:, :20] = 0  # long runs of the same, as around a brain

    def write(number: int) -> tuple[int, bytes]:
        path, scan = tmp_path / f"{number}.nii.gz", scans[number % 3]
        nifti.write_scan(path, scan, Volume(scan[None], np.eye(4), ("t1n",)))
        return number % 3, path.read_bytes()

    with ThreadPoolExecutor(2) as pool:
        made = set(pool.map(write, range(30)))
    assert len(made) == 3
    for _, data in made:  # of zlib: ISA-L's differ too seldom for a test to see it
        assert data == zlib.compress(gzip.decompress(data), nifti.LEVEL, wbits=31)


def test_names_may_be_plain_text(tmp_path: Path) -> None:
    labels = LabelMap(np.ones(SHAPE, np.uint8), np.eye(4), BRAIN)
    named, scan = f"{tmp_path}/a-brain.nii.gz", f"{tmp_path}/a-t1n.nii.gz"
    nifti.write_labels(named, labels)
    nifti.write_scan(scan, np.full(SHAPE, 500, np.float32), labels)
    assert np.array_equal(nifti.read_labels(named, BRAIN).data, labels.data)
    assert np.array_equal(
        nifti.read_volume({"t1n": scan}).data, nifti.read_volume({"t1n": Path(scan)}).data
    )


def _good(
    path: Path, shape: tuple[int, ...] = SHAPE, affine: np.ndarray | None = None, value: float = 1.0
) -> Path:
    nib.save(
        nib.Nifti1Image(np.full(shape, value, np.float32), np.eye(4) if affine is None else affine),
        path,
    )
    return path


def test_broken_files_say_what_is_wrong(tmp_path: Path) -> None:
    good = _good(tmp_path / "good.nii.gz")
    whole = good.read_bytes()
    shifted = np.eye(4)
    shifted[0, 3] = 2
    cases = {
        "none": (tmp_path / "missing.nii.gz", DataError),
        "other bytes": (tmp_path / "text.nii.gz", DataError),
        "truncated": (tmp_path / "cut.nii.gz", DataError),
        "something else": (tmp_path / "junk.nii", DataError),
        "4, 2": (_good(tmp_path / "4d.nii.gz", (*SHAPE[:2], 4, 2)), GeometryError),
        "NaN": (_good(tmp_path / "nan.nii.gz", value=np.nan), DataError),
        "mm away": (_good(tmp_path / "moved.nii.gz", affine=shifted), GeometryError),
        "shape": (_good(tmp_path / "small.nii.gz", (5, 6, 6)), GeometryError),
    }
    (tmp_path / "text.nii.gz").write_text("<html>not found</html>")
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "junk.nii").write_bytes(b"x" * 1000)
    for words, (path, kind) in cases.items():
        with pytest.raises(kind, match=words) as caught:
            nifti.read_volume({"t1n": good, "t2w": path})
        assert path.name in str(caught.value)


def test_broken_labels(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="nearest"):
        nifti.read_labels(_good(tmp_path / "half.nii.gz", value=0.5), BRATS2023)
    with pytest.raises(LabelError, match="resection cavity"):
        nifti.read_labels(_good(tmp_path / "four.nii.gz", value=4), BRATS2023)
    assert nifti.read_labels(tmp_path / "four.nii.gz", scheme("brats2021")).has("ET")


def test_what_exists_stays_and_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = LabelMap(np.ones(SHAPE, np.uint8), np.eye(4), BRAIN)
    (tmp_path / "x.nii.gz").write_text("mine")
    with pytest.raises(DataError, match="exists"):
        nifti.write_labels(tmp_path / "x.nii.gz", labels)
    assert (tmp_path / "x.nii.gz").read_text() == "mine"

    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nifti.zlib, "compress", lambda *a, **k: full())
    with pytest.raises(DataError, match="room on the disk"):
        nifti.write_labels(tmp_path / "y.nii.gz", labels)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.nii.gz"]


@pytest.mark.real
def test_real_scans_come_back_byte_for_byte(real_data: Path, tmp_path: Path) -> None:
    for folder in sorted((real_data / "brats2021").iterdir())[:2]:
        path = folder / f"{folder.name}_t1ce.nii.gz"
        volume = nifti.read_volume({"t1c": path})
        nifti.write_scan(tmp_path / "x.nii.gz", volume.data[0], volume, overwrite=True)
        mine, theirs = nib.load(tmp_path / "x.nii.gz"), nib.load(path)
        assert (np.asarray(mine.dataobj) == np.asarray(theirs.dataobj)).all()
        assert (mine.affine == theirs.affine).all()
        np.testing.assert_allclose(mine.get_qform(), theirs.affine, atol=1e-4)


@pytest.mark.real
def test_a_2021_map_read_as_2023_is_refused(real_data: Path) -> None:
    path = real_data / "brats2021" / "BraTS2021_00006" / "BraTS2021_00006_seg.nii.gz"
    with pytest.raises(MedsynthError, match=r"found 4 .*BraTS2021_00006_seg"):
        nifti.read_labels(path, BRATS2023)


def test_whole_gzip_around_too_little_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "x-brain.nii.gz"
    path.write_bytes(gzip.compress(b"hello"))
    with pytest.raises(DataError, match=r"single-file NIfTI.*x-brain"):
        nifti.read_labels(path, BRAIN)
