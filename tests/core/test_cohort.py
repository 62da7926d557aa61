"""Cohorts, splits by subject, and MONAI's reader."""

from pathlib import Path

import pytest

from medsynth.core.cohort import Case, Cohort
from medsynth.core.random import Key
from medsynth.errors import DataError
from medsynth.io import cohort as cohorts


def _cases(root: Path, subjects: int, points: int = 2) -> tuple[Case, ...]:
    return tuple(
        Case(
            f"s{s}-{p}",
            f"s{s}",
            {m: root / f"s{s}-{p}-{m}.nii.gz" for m in ("t1n", "t2f")},
            root / f"s{s}-{p}-seg.nii.gz",
        )
        for s in range(subjects)
        for p in range(points)
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_split_never_parts_a_subject(seed: int, tmp_path: Path) -> None:
    cohort = Cohort("brats2023", _cases(tmp_path, 10)).split(
        {"training": 0.7, "validation": 0.1, "test": 0.2}, Key(seed)
    )
    parts = {s: {c.subject for c in cohort.part(s)} for s in ("training", "validation", "test")}
    assert [len(v) for v in parts.values()] == [7, 1, 2]
    assert not parts["training"] & parts["test"]


def test_a_subject_on_both_sides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="by subject"):
        Cohort("brats2023", _cases(tmp_path, 1), {"s0-0": "training", "s0-1": "test"})
    with pytest.raises(DataError, match="more than once"):
        Cohort("brats2023", _cases(tmp_path, 1) * 2)


def test_round_trip_and_monai(tmp_path: Path) -> None:
    from monai.data import load_decathlon_datalist

    (tmp_path / "data").mkdir()
    cases = _cases(tmp_path / "data", 3)
    for case in cases:
        for path in (*case.images.values(), case.label):
            assert path is not None
            path.touch()
    cohort = Cohort("brats2023", cases).split({"training": 0.6, "test": 0.4}, Key(0))
    file = tmp_path / "lists" / "cohort.json"
    cohorts.write(file, cohort)
    again = cohorts.read(file)
    assert {c.name: again.split_of(c) for c in again} == {
        c.name: cohort.split_of(c) for c in cohort
    }
    assert again.modalities == ("t1n", "t2f")
    items = load_decathlon_datalist(str(file), True, "training")
    assert len(items) == len(cohort.part("training"))
    assert all(Path(p).exists() for item in items for p in (*item["image"], item["label"]))


def test_a_file_that_is_no_cohort(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"training": []}')
    with pytest.raises(DataError, match="medsynth index"):
        cohorts.read(tmp_path / "x.json")
    (tmp_path / "y.json").write_text('{"schema": "medsynth-cohort/1", "training": [{"case": 1}]}')
    with pytest.raises(DataError, match="medsynth index"):
        cohorts.read(tmp_path / "y.json")


def test_a_cohort_of_nothing_is_not_written(tmp_path: Path) -> None:
    assert cohorts.write_found(tmp_path, Cohort("brats2023", ())) is None
    assert not list(tmp_path.iterdir())
    assert cohorts.write_found(tmp_path, Cohort("brats2023", (Case("a", "a", {}),))) is not None
    assert [case.name for case in cohorts.read(tmp_path)] == ["a"]
