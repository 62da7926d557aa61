"""Folders of every layout are recognised, and their traps seen."""

import json
from pathlib import Path

import pytest

from medsynth.errors import ConfigError, DataError, LabelError
from medsynth.io.layouts import find

FOUR = {"t1n", "t1c", "t2w", "t2f"}


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


OLD = ("t1", "t1ce", "t2", "flair", "seg")


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("HGG/Brats18_CBICA_AAB_1", [f"Brats18_CBICA_AAB_1_{s}.nii.gz" for s in OLD]),
        ("LGG/BraTS19_TCIA02_290_1", [f"BraTS19_TCIA02_290_1_{s}.nii" for s in OLD]),
        (
            "BraTS20_Training_355",
            [*(f"BraTS20_Training_355_{s}.nii" for s in OLD[:4]), "W39_1998.09.19_Segm.nii"],
        ),
        ("BraTS2021_00000", [f"BraTS2021_00000_{s}.nii.gz" for s in OLD]),
        (
            "BraTS-GLI-00000-001",
            [f"BraTS-GLI-00000-001-{s}.nii.gz" for s in ("t1n", "t1c", "t2w", "t2f", "seg")],
        ),
        (
            "BraTS-GLI-02062-100",
            [
                f"BraTS-GLI-02062-100-{s}.nii.gz"
                for s in ("t1n", "t1c", "t2w", "t2f", "seg", "brain")
            ],
        ),
    ],
)
def test_brats_of_every_year(case: str, names: list[str], tmp_path: Path) -> None:
    _touch(tmp_path, *(f"{case}/{name}" for name in names), "name_mapping.csv")
    layout, cohort = find(tmp_path, "brats2021")
    assert layout == "BraTS"
    (only,) = cohort.cases
    assert set(only.images) == FOUR
    assert only.label is not None
    assert (only.brain is not None) == any("brain" in n for n in names)


def test_time_points_of_one_person_share_a_subject(tmp_path: Path) -> None:
    for point in ("000", "001"):
        _touch(tmp_path, f"BraTS-GLI-00042-{point}/BraTS-GLI-00042-{point}-t1n.nii.gz")
    _, cohort = find(tmp_path, "brats2023")
    assert {c.subject for c in cohort} == {"BraTS-GLI-00042"}
    assert len(cohort) == 2


def test_decathlon_channels_and_integers(tmp_path: Path) -> None:
    _touch(tmp_path, "imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz")
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {
                "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
                "labels": {
                    "0": "background",
                    "1": "edema",
                    "2": "non-enhancing tumor",
                    "3": "enhancing tumour",
                },
                "training": [
                    {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}
                ],
            }
        )
    )
    layout, cohort = find(tmp_path, "decathlon")
    assert layout == "Decathlon"
    assert dict(cohort.cases[0].channel) == {"t2f": 0, "t1n": 1, "t1c": 2, "t2w": 3}
    with pytest.raises(LabelError, match="1 = oedema"):
        find(tmp_path, "brats2023")


def test_nnunet_raw(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"imagesTr/A_{i:04d}.nii.gz" for i in range(4)), "labelsTr/A.nii.gz")
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"},
                "labels": {"background": 0, "edema": 1, "necrosis": 2, "enhancing tumor": 3},
                "numTraining": 1,
                "file_ending": ".nii.gz",
            }
        )
    )
    layout, cohort = find(tmp_path, "nnunet-brats21")
    assert layout == "nnU-Net"
    assert cohort.cases[0].images["t1c"].name == "A_0001.nii.gz"


def test_bids_with_contrast_agent(tmp_path: Path) -> None:
    stem = "sub-01/ses-1/anat/sub-01_ses-1"
    _touch(
        tmp_path,
        f"{stem}_T1w.nii.gz",
        f"{stem}_ce-gadolinium_T1w.nii.gz",
        f"{stem}_T2w.nii.gz",
        f"{stem}_FLAIR.nii.gz",
        f"{stem}_seg-tumour_dseg.nii.gz",
    )
    layout, cohort = find(tmp_path, "brats2023")
    assert layout == "BIDS"
    assert (cohort.cases[0].name, cohort.cases[0].subject) == ("sub-01_ses-1", "sub-01")
    assert "gadolinium" in cohort.cases[0].images["t1c"].name
    assert cohort.cases[0].label is not None


def test_a_pattern_with_names_of_ones_own(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        *(f"patient{n}/{m}.nii.gz" for n in (1, 2) for m in ("T1", "T1KM", "T2", "FLAIR", "GOLD")),
    )
    _, cohort = find(tmp_path, "brats2023", "{case}/{modality}.nii.gz", {"T1KM": "t1c"})
    assert [set(c.images) for c in cohort] == [FOUR, FOUR]
    assert cohort.cases[0].label is None
    with pytest.raises(ConfigError, match="modality"):
        find(tmp_path, "brats2023", "{case}.nii.gz")
    with pytest.raises(DataError, match="--name"):
        find(tmp_path, "brats2023", "{case}_{modality}.nii")


def test_cases_behind_links(tmp_path: Path) -> None:
    _touch(tmp_path / "store", *(f"A/A-{m}.nii.gz" for m in ("t1n", "t1c", "t2w", "t2f", "seg")))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "A").symlink_to(tmp_path / "store" / "A")
    (tmp_path / "data" / "A" / "round").symlink_to(tmp_path / "data")
    _, cohort = find(tmp_path / "data", "brats2023")
    assert [case.name for case in cohort] == ["A"]
    assert set(cohort.cases[0].images) == FOUR


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--pattern"):
        find(tmp_path, "brats2023")


@pytest.mark.real
def test_the_real_folders(real_data: Path) -> None:
    layout, cohort = find(real_data / "brats2021", "brats2021")
    assert (layout, len(cohort)) == ("BraTS", 7)
    assert all(set(c.images) == FOUR and c.label for c in cohort)
    _, ms = find(real_data / "open_ms", "brats2023", "{case}/{modality}.nii.gz")
    assert [c.name for c in ms] == ["patient07", "patient19", "patient26"]
    assert all(set(c.images) == FOUR for c in ms)
