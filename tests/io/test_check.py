"""`check` finds what is planted, and nothing else."""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medsynth.core.cohort import Case, Cohort
from medsynth.io.check import check, faults
from medsynth.io.layouts import find


def _scan(of: str) -> np.ndarray:
    """Noise that differs from scan to scan."""
    return np.random.default_rng(zlib.crc32(of.encode())).integers(1, 999, (6, 6, 6), np.int16)


def _case(folder: Path, name: str, **changed: np.ndarray) -> Case:
    arrays = {
        "t1n": _scan(name + "t1n"),
        "t2f": _scan(name + "t2f"),
        "seg": np.pad(np.full((2, 2, 2), 3, np.uint8), 2),
    } | changed
    for key, array in arrays.items():
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}-{key}.nii.gz")
    return Case(
        name,
        name,
        {k: folder / f"{name}-{k}.nii.gz" for k in ("t1n", "t2f")},
        folder / f"{name}-seg.nii.gz",
    )


def _cohort(*cases: Case) -> Cohort:
    return Cohort("brats2023", cases)


def test_each_fault_is_found_once(tmp_path: Path) -> None:
    cases = [
        _case(tmp_path, "good"),
        _case(tmp_path, "shape", t2f=_scan("s")[..., :5]),
        _case(tmp_path, "nan", t2f=np.full((6, 6, 6), np.nan, np.float32)),
        _case(tmp_path, "zeros", t1n=np.zeros((6, 6, 6), np.int16)),
        _case(tmp_path, "label", seg=np.full((6, 6, 6), 4, np.uint8)),
        _case(tmp_path, "empty", seg=np.zeros((6, 6, 6), np.uint8)),
        _case(tmp_path, "grid", seg=np.full((6, 5, 6), 1, np.uint8)),
        _case(tmp_path, "again", t2f=_scan("goodt2f")),
    ]
    lacking = _case(tmp_path, "lacking")
    cases.append(Case("lacking", "lacking", {"t1n": lacking.images["t1n"]}, lacking.label))
    bare = _case(tmp_path, "bare")
    cases.append(Case("bare", "bare", bare.images))
    found = {case.name: [f.message for f in faults_] for case, faults_ in check(_cohort(*cases))}
    words = {
        "good": None,
        "shape": "shape",
        "nan": "NaN",
        "zeros": "only zeros",
        "label": "found 4",
        "empty": "background",
        "grid": "(6, 5, 6)",
        "again": "voxels of good",
        "lacking": "no t2f",
        "bare": "label map",
    }
    for name, word in words.items():
        assert len(found[name]) == (word is not None), found[name]
        assert word is None or word in found[name][0]


def test_all_faults_of_a_case_are_found_and_their_parts_kept(tmp_path: Path) -> None:
    case = _case(tmp_path, "bad", seg=np.full((6, 6, 6), 9, np.uint8))
    case.images["t1n"].write_bytes(b"")
    case.images["t2f"].unlink()
    first, second, third = faults(_cohort(case))
    assert [f.file for f in (first, second, third)] == [
        str(case.images["t1n"]),
        str(case.images["t2f"]),
        str(case.label),
    ]
    assert (second.case, second.expected, second.found) == ("bad", "a file", "none")
    assert third.found.startswith("9 (216 voxels)")
    assert all(f.todo and f.todo in f.message for f in (first, second, third))


def test_a_header_that_does_not_tell_left_from_right_is_a_fault(tmp_path: Path) -> None:
    case = _case(tmp_path, "sides")
    nib.save(nib.Nifti1Image(_scan("x"), None), case.images["t1n"])
    loaded = nib.load(case.images["t1n"])
    for key in ("t2f", "seg"):  # at the place that nibabel guesses
        path = tmp_path / f"sides-{key}.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), loaded.affine), path)
    with pytest.warns(UserWarning, match="left and right"):
        (fault,) = faults(_cohort(case))
    assert "sform" in fault.message
    assert fault.file == str(case.images["t1n"])


def test_a_healthy_brain_may_have_no_tumour(tmp_path: Path) -> None:
    case = _case(tmp_path, "healthy", seg=np.zeros((6, 6, 6), np.uint8))
    brain = tmp_path / "healthy-brain.nii.gz"
    nib.save(nib.Nifti1Image(np.full((6, 6, 6), 2, np.uint8), np.eye(4)), brain)
    assert not faults(_cohort(Case("healthy", "healthy", case.images, case.label, brain)))


def test_a_4d_file_serves_four_scans(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([_scan("a"), _scan("b")], -1), np.eye(4)), path)
    images = {"t1n": path, "t2f": path}
    good = Case("x", "x", images, None, None, {"t1n": 0, "t2f": 1})
    assert not faults(_cohort(good))
    (fault,) = faults(_cohort(Case("x", "x", images, None, None, {"t1n": 0, "t2f": 2})))
    assert "channel 2" in fault.message


@pytest.mark.real
def test_real_cases_are_fine_and_a_wrong_scheme_is_seen(real_data: Path) -> None:
    _, cohort = find(real_data / "brats2021", "brats2021")
    assert len(cohort) == 7
    assert not faults(cohort)
    enhancing = {c.name for c in cohort} - {"BraTS2021_01477", "BraTS2021_01483"}
    assert {f.case for f in faults(Cohort("brats2023", cohort.cases))} == enhancing
    _, ms = find(real_data / "open_ms", "brats2023", "{case}/{modality}.nii.gz")
    assert len(ms) == 3
    assert not faults(ms)
