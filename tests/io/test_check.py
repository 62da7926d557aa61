"""`check` finds what is planted, and nothing else."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medsynth.core.cohort import Case, Cohort
from medsynth.io.check import check
from medsynth.io.layouts import find


def _case(folder: Path, name: str, **changed: np.ndarray) -> Case:
    arrays = {
        "t1n": np.ones((6, 6, 6), np.int16),
        "t2f": np.ones((6, 6, 6), np.int16),
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


def test_each_fault_is_found_once(tmp_path: Path) -> None:
    small = np.ones((6, 6, 5), np.int16)
    cases = [
        _case(tmp_path, "good"),
        _case(tmp_path, "shape", t2f=small),
        _case(tmp_path, "nan", t2f=np.full((6, 6, 6), np.nan, np.float32)),
        _case(tmp_path, "zeros", t1n=np.zeros((6, 6, 6), np.int16)),
        _case(tmp_path, "label", seg=np.full((6, 6, 6), 4, np.uint8)),
        _case(tmp_path, "empty", seg=np.zeros((6, 6, 6), np.uint8)),
        _case(tmp_path, "grid", seg=np.full((6, 5, 6), 1, np.uint8)),
    ]
    lacking = _case(tmp_path, "lacking")
    cases.append(Case("lacking", "lacking", {"t1n": lacking.images["t1n"]}, lacking.label))
    found = {
        case.name: [f.message for f in faults]
        for case, faults in check(Cohort("brats2023", tuple(cases)))
    }
    words = {
        "good": None,
        "shape": "shape",
        "nan": "NaN",
        "zeros": "only zeros",
        "label": "found 4",
        "empty": "background",
        "grid": "grid",
        "lacking": "no t2f",
    }
    for name, word in words.items():
        assert len(found[name]) == (word is not None), found[name]
        assert word is None or word in found[name][0]


@pytest.mark.real
def test_real_cases_are_fine_and_a_wrong_scheme_is_seen(real_data: Path) -> None:
    _, cohort = find(real_data / "brats2021", "brats2021")
    some = cohort.cases[:2]
    assert not any(faults for _, faults in check(Cohort("brats2021", some)))
    assert all(faults for _, faults in check(Cohort("brats2023", some)))
