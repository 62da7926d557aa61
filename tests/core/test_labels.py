"""Label schemes and the traps of the field."""

import numpy as np
import pytest

from medsynth.core.labels import BRAIN, BRATS2023, BRATS2024, SCHEMES, scheme
from medsynth.errors import LabelError, UsageError


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("brats2018", {"NCR": 1, "ED": 2, "ET": 4}),
        ("brats2021", {"NCR": 1, "ED": 2, "ET": 4}),
        ("brats2023", {"NCR": 1, "ED": 2, "ET": 3}),
        ("brats2024-gli", {"NCR": 1, "ED": 2, "ET": 3, "RC": 4}),
        ("decathlon", {"ED": 1, "NCR": 2, "ET": 3}),
        ("nnunet-brats21", {"ED": 1, "NCR": 2, "ET": 3}),
        (
            "brain",
            {
                "CSF": 1,
                "GM": 2,
                "WM": 3,
                "NCR": 4,
                "ED": 5,
                "ET": 6,
                "RC": 7,
                "VES": 8,
                "PLX": 9,
                "MEN": 10,
            },
        ),
    ],
)
def test_integers_of_every_scheme(name: str, values: dict[str, int]) -> None:
    assert {label.abbreviation: label.value for label in scheme(name).labels[1:]} == values


def test_four_is_enhancing_in_2021_and_a_cavity_in_2024() -> None:
    data = np.array([0, 4], np.uint8)
    assert scheme("brats2021").mask(data, "ET").tolist() == [False, True]
    assert not scheme("brats2024-gli").mask(data, "WT").any()
    with pytest.raises(LabelError, match=r"found 4 \(1 voxels\) in case.*brats2021.*--scheme"):
        BRATS2023.check(data, "case")


def test_regions_are_named_by_structure() -> None:
    every = np.arange(11, dtype=np.uint8)
    assert every[BRAIN.mask(every, "WT")].tolist() == [4, 5, 6]
    assert every[BRAIN.mask(every, "TC")].tolist() == [4, 6]
    assert every[BRAIN.mask(every, "tissue")].tolist() == [1, 2, 3]
    assert every[BRAIN.mask(every, "lesion")].tolist() == [4, 5, 6, 7]
    assert every[BRAIN.mask(every, "fine")].tolist() == [8, 9, 10]
    assert BRATS2023.members("lesion") == BRATS2023.members("WT")
    assert set(BRATS2024.members("lesion")) == {*BRATS2024.members("WT"), "RC"}


def test_conversion_goes_by_abbreviation_and_back() -> None:
    decathlon = np.array([0, 1, 2, 3], np.uint8)
    for other in ("brats2021", "brats2023", "brats2024-gli", "brain", "nnunet-brats21"):
        there = scheme("decathlon").convert(decathlon, scheme(other))
        assert (scheme(other).convert(there, scheme("decathlon")) == decathlon).all()
    assert scheme("decathlon").convert(decathlon, BRATS2023).tolist() == [0, 2, 1, 3]


def test_conversion_refuses_to_lose_a_structure() -> None:
    with pytest.raises(LabelError, match="RC"):
        BRATS2024.convert(np.array([4], np.uint8), BRATS2023)
    assert BRAIN.convert(np.array([3, 6, 8], np.uint8), BRATS2023).tolist() == [0, 3, 0]


def test_without_vessels_and_the_like_everything_else_stays() -> None:
    every = np.arange(11, dtype=np.uint8)
    assert BRAIN.without_fine(every).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 1, 1, 1]


def test_encoding_round_trip() -> None:
    data = np.random.default_rng(0).integers(0, 11, (4, 5, 6)).astype(np.uint8)
    onehot = BRAIN.encode(data)
    assert onehot.shape == (11, 4, 5, 6)
    assert (onehot.sum(0) == 1).all()
    assert (BRAIN.decode(onehot) == data).all()


@pytest.mark.parametrize(("value", "words"), [(1.5, "nearest"), (np.nan, "NaN"), (99, "No known")])
def test_what_is_not_a_label_is_refused(value: float, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        BRAIN.check(np.array([0, value]))


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UsageError, match="brats2021"):
        scheme("brats")
    with pytest.raises(LabelError, match="CSF"):
        BRAIN.value("tumor")
    assert len(SCHEMES) == 9
