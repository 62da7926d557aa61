"""Fidelity and consistency move the right way."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsynth.core.cohort import MODALITIES
from medsynth.core.labels import BRAIN, FINE
from medsynth.core.random import Key
from medsynth.errors import DataError, GeometryError
from medsynth.evaluation import (
    consistency,
    fidelity,
    fidelity_words,
    heads,
    segmentors,
    summaries,
)
from medsynth.evaluation.fidelity import Measured
from medsynth.evaluation.records import Record, Section
from medsynth.evaluation.segmentors import Recipe
from medsynth.evaluation.traces import trace
from medsynth.imaging.examples import Example, prepare
from medsynth.io import cohort as cohorts


def quiet(items: Iterable[Any], total: int, title: str) -> Iterator[Any]:
    return iter(items)


@pytest.fixture(scope="module")
def measured(coarse: Path, generated: Path) -> Measured:
    real, made = cohorts.read(coarse), cohorts.read(generated)
    return fidelity.measure(real, made, Key(0), quiet)


def pick(section: Section | Measured, metric: str, **where: str) -> list[Record]:
    return [
        r
        for r in section.records
        if r.metric == metric and all(r.where.get(k) == v for k, v in where.items())
    ]


def test_scans_of_the_same_making_sit_at_the_floor(measured: Measured) -> None:
    record = pick(measured, "frechet", modality="all")[0]
    assert record.value is not None
    assert record.floor is not None
    assert record.ceiling is not None
    assert record.value < 2 * record.floor
    assert record.ceiling > 3 * record.floor
    p = pick(measured, "mmd_p")[0].value
    assert p is not None
    assert p > 0.002  # 0.006 for these two dozens, 0.44 for the first and another one


@pytest.mark.parametrize("degradation", ["blur", "noise"])
def test_every_degradation_makes_the_frechet_distance_worse(
    measured: Measured, degradation: str
) -> None:
    rows = pick(measured, "frechet", degradation=degradation)
    values = [rows[0].floor, *(r.value for r in rows)]
    assert [r.where["level"] for r in rows] == ["1", "2", "3"]
    assert np.all(np.diff(np.array(values, float)) > 0)


def test_shuffled_labels_are_worse_than_real_ones(measured: Measured) -> None:
    records = [r for r in pick(measured, "contrast") if r.value is not None]
    assert records
    assert np.mean([r.ceiling for r in records if r.ceiling]) > 2 * np.mean(
        [r.floor for r in records if r.floor]
    )


def test_paired_scans_are_measured_only_without_edits(coarse: Path, measured: Measured) -> None:
    assert not pick(measured, "psnr_db")
    real = cohorts.read(coarse)
    head = heads.read(real.cases[0], real, MODALITIES)
    psnr, ssim = summaries.similarity(heads.noisy(head, 0.1, Key(0)), head)
    assert psnr == pytest.approx(20, abs=1.5)
    assert (summaries.similarity(head, head)[1] > 0.999).all()
    assert (ssim < 0.99).all()


def test_too_few_people_are_refused(coarse: Path, generated: Path) -> None:
    real = cohorts.read(coarse)
    few = type(real)(real.scheme, real.cases[:3])
    section = fidelity.measure(few, cohorts.read(generated), Key(0), quiet)
    record = pick(section, "frechet", modality="all")[0]
    assert record.value is None
    assert "needs 4 real people" in record.where["refused"]


def test_few_people_get_figures_a_reason_and_no_empty_words(coarse: Path, generated: Path) -> None:
    """Seven people: floors and ceilings, but no judgement, and nothing of what is not there."""
    real = cohorts.read(coarse)
    few = type(real)(real.scheme, real.cases[:7])
    measured = fidelity.measure(few, cohorts.read(generated), Key(0), quiet)
    for record in pick(measured, "frechet"):
        assert record.floor is not None
        assert record.ceiling is not None
    section = fidelity_words.section(measured)
    assert {v.grade for v in section.verdicts} == {"unknown"}
    assert "needs 8 real people, and there are 7" in section.verdicts[0].text
    assert "PSNR" not in " ".join(section.method)
    bare = fidelity.measure(few, cohorts.read(generated), Key(0), quiet, degraded=0)
    words = " ".join(fidelity_words.section(bare).method)
    assert "ceiling" not in words


def brightness(value: float, floor: float | None, ceiling: float | None) -> Record:
    where = {"modality": "t1n", "structure": "WM"}
    return Record("fidelity", "structure_mean", where, value, None, None, floor, ceiling, 9)


@pytest.mark.parametrize(
    ("ways", "grade", "text"),
    [
        ([(0.2, 0.1, 0.3), (0.15, 0.1, 0.3)], "unknown",
         ": 38 % of the way from real-against-real (0 %) to the bad example (100 %), "
         "mean of 2 figures."),
        ([(0.9, 0.1, 0.3), (0.05, 0.1, 0.3), (0.2, 0.3, 0.3), (0.2, 0.1, None)], "bad",
         " (100 %), mean of 2 figures, left out 2 figures without a bad example that is worse than "
         "real scans, 1 below 0 % counted as that, 1 above 200 % counted as that."),
        ([(0.11, 0.1, 0.3)], "good", ": 5 % of the way from real-against-real (0 %) to the bad "
         "example (100 %)."),
        ([(0.2, 0.3, 0.2)], "unknown", ": cannot be placed, 1 figure without a bad example that is "
         "worse than real scans."),
    ],
)  # fmt: skip
def test_figures_that_are_left_out_or_cut_are_told(
    ways: list[tuple[float, float, float | None]], grade: str, text: str
) -> None:
    records = tuple(brightness(*way) for way in ways)
    section = fidelity_words.section(Measured(records, (9, 9), (9, 9), ("t1n",), "some"))
    found = next(v for v in section.verdicts if v.text.startswith("brightness"))
    assert found.grade == grade
    assert found.text.endswith(text)


def test_the_report_says_what_its_marks_mean() -> None:
    records = (brightness(0.2, 0.1, 0.3),)
    section = fidelity_words.section(Measured(records, (9, 9), (9, 9), ("t1n",), "some"))
    words = next(line for line in section.method if line.startswith("Marks"))
    for mark in ("✓ below 25 %", "✗ above 75 %", "fewer than 8 real people", "p below 0.05"):
        assert mark in words
    assert section.tables[0].title.endswith("↓ lower is nearer to real, ↑ higher is nearer")


def test_edits_of_one_person_are_not_independent(coarse: Path, generated: Path) -> None:
    """Every synthetic case four times over: the same people, the same figures."""
    real, made = cohorts.read(coarse), cohorts.read(generated)
    four = tuple(
        replace(case, name=f"{case.name}-e{i}") for case in made.cases[:6] for i in range(4)
    )
    once, often = (
        fidelity.measure(real, type(made)(made.scheme, cases), Key(0), quiet, degraded=0)
        for cases in (made.cases[:6], four)
    )
    a, b = (pick(side, "frechet", modality="all")[0] for side in (once, often))
    assert (a.n, b.n, a.people, b.people) == (6, 24, 6, 6)
    assert b.value == pytest.approx(a.value, rel=0.2)
    assert (b.high or 0) - (b.low or 0) == pytest.approx((a.high or 0) - (a.low or 0), rel=0.4)
    assert pick(often, "mmd_p")[0].n == pick(once, "mmd_p")[0].n


def test_voxels_of_another_size_are_refused(coarse: Path, phantoms: Path) -> None:
    with pytest.raises(GeometryError, match="medsynth resample"):
        fidelity.measure(cohorts.read(coarse), cohorts.read(phantoms), Key(0), quiet)


def test_consistency_falls_with_every_degradation(
    coarse: Path, generated: Path, tmp_path: Path
) -> None:
    real, made = cohorts.read(coarse), cohorts.read(generated)
    train = [
        e
        for e in prepare(real.part("training"), MODALITIES, "brain", tmp_path)
        if isinstance(e, Example)
    ]
    recipe = Recipe("dynunet", True, 120, 2, (24, 24, 24))
    network = segmentors.train(recipe, [(train, 120)], BRAIN, 4)
    section = consistency.measure(
        network, recipe, BRAIN, real.part("test"), made, MODALITIES, Key(0), quiet, len(train)
    )
    white = pick(section, "dice", structure="WM")[0]
    assert white.value is not None
    assert white.ceiling is not None
    assert white.floor is not None
    assert white.value > 0.6  # as much as the same network reads on real scans, below
    assert white.value == pytest.approx(white.ceiling, abs=0.08)
    assert white.floor < white.value - 0.1
    for name in ("blur", "noise"):
        rows = [
            *pick(section, "dice", degradation="none"),
            *pick(section, "dice", degradation=name),
        ]
        assert np.all(np.diff([r.value or 0 for r in rows]) < 0), name


def test_vessels_count_as_fluid_on_both_sides(coarse: Path) -> None:
    """Maps of real scans do not name them, and who learnt from real scans cannot."""
    real = cohorts.read(coarse)
    head = next(h for h in heads.read_all(real, MODALITIES) if h.labels and h.labels.has("fine"))
    assert head.labels is not None
    for named in (head.labels.data, head.labels.without_fine().data):
        found = consistency._dices(named, head, BRAIN)
        assert set(found.values()) == {1.0}
        assert not set(found) & set(FINE)
    assert np.isnan(head.style()[:, :, BRAIN.abbreviations.index("VES")]).all()
    kept = trace(head).labels
    assert kept is not None
    assert not BRAIN.mask(kept, "fine").any()


def test_label_maps_are_needed_for_consistency(coarse: Path, tmp_path: Path) -> None:
    real = cohorts.read(coarse)
    head = heads.read(real.cases[0], real, MODALITIES)
    with pytest.raises(DataError, match="label map"):
        consistency._dices(
            np.zeros(head.mask.shape, np.uint8),
            type(head)(head.case, head.scans, head.mask, None, 0.0),
            BRAIN,
        )
