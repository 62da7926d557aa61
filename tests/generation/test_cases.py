"""What stands beside a case on disk."""

from pathlib import Path

from medsynth.core.cohort import Case
from medsynth.generation import cases
from medsynth.io.sidecar import write_json


def test_whose_brain_it_is_outlives_a_case_without_label_maps(tmp_path: Path) -> None:
    """Scans alone, made from somebody's label map: the next form descends from it, too."""
    case = Case("made-1", "somebody", {"t1n": tmp_path / "made-1-t1n.nii.gz"})
    told = {"ancestors": ["abc"], "subject_from": "file name", "edits": ["mirror"], "model": "m"}
    write_json(tmp_path / "made-1.json", told)
    assert cases.person(case, []) == {
        "case": "made-1",
        "subject": "somebody",
        "ancestors": ["abc"],
        "subject_from": "file name",
    }
