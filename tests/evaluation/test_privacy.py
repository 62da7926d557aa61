"""The audit against generators whose behaviour is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from medsynth.core.cohort import MODALITIES, Case
from medsynth.core.random import Key
from medsynth.core.volume import Volume, bounding_box
from medsynth.errors import GeometryError
from medsynth.evaluation import privacy, privacy_words
from medsynth.evaluation import traces as kept
from medsynth.evaluation.heads import Head
from medsynth.evaluation.records import Record, Section
from medsynth.evaluation.traces import Trace, trace
from medsynth.imaging.intensity import normalise
from medsynth.phantom import make

MEMBERS, OTHERS, STRANGERS = 10, 10, 30


def head(index: int) -> Head:
    phantom = make(Key(7, ("audit", index)), spacing_mm=6.0)
    mask = phantom.labels.data > 0
    box = bounding_box(mask, 1)
    scans = normalise(phantom.scans.data, mask)[(slice(None), *box)]
    labels = replace(phantom.labels, data=phantom.labels.data[box])
    case = Case(f"P{index}", f"P{index}", {})
    return Head(case, Volume(scans, labels.affine, MODALITIES), mask[box], labels, 0.0)


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    return [trace(head(index)) for index in range(MEMBERS + OTHERS + STRANGERS)]


@pytest.fixture(scope="module")
def planted() -> list[Trace]:
    return [trace(kept.plant(head(i), i % 2 == 1, Key(3, (i,)))) for i in range(MEMBERS)]


@pytest.fixture
def audited(traces: list[Trace], planted: list[Trace]) -> Callable[[list[Trace]], Section]:
    members, others = traces[:MEMBERS], traces[MEMBERS : MEMBERS + OTHERS]
    return lambda made: privacy_words.section(
        privacy.audit(members, others, made, planted, Key(0), MODALITIES)
    )


def one(section: Section, metric: str, **where: str) -> Record:
    found = [
        r
        for r in section.records
        if r.metric == metric and all(r.where.get(k) == v for k, v in where.items())
    ]
    return next(r for r in found if ("control" in r.where) == ("control" in where))


def renamed(t: Trace) -> Trace:
    return replace(t, name=f"made {t.name}", subject="unknown", relatives=frozenset())


def test_a_generator_that_replays_its_members_is_found(
    traces: list[Trace], audited: Callable[[list[Trace]], Section]
) -> None:
    rng = np.random.default_rng(0)
    made = []
    for t in traces[:MEMBERS]:
        noise = 0.001 * rng.standard_normal(t.pixels.shape)
        made.append(renamed(replace(t, pixels=(t.pixels + noise).astype(np.float16))))
    section = audited(made)
    auc = one(section, "membership_auc")
    assert auc.value is not None
    assert auc.value >= 0.95
    for space in privacy.SPACES:
        assert one(section, "copies", space=space).value == MEMBERS
    assert one(section, "nearer_to_members", space="pixels").value == 1
    grades = {v.grade for v in section.verdicts if "copies of training cases" in v.text}
    assert grades == {"bad"}


def test_a_generator_that_never_saw_its_members_is_not_accused(
    traces: list[Trace], audited: Callable[[list[Trace]], Section]
) -> None:
    made = [renamed(t) for t in traces[MEMBERS + OTHERS :]]
    section = audited(made)
    auc = one(section, "membership_auc")
    assert auc.low is not None
    assert auc.low < 0.5 < (auc.high or 0)
    control = one(section, "membership_auc", control="members against members")
    assert (control.low or 1) < 0.5 < (control.high or 0)
    for space in privacy.SPACES:
        assert one(section, "copies", space=space).value == 0
        assert one(section, "planted_found", space=space).value == 1
        assert one(section, "held_out_accused", space=space).value == 0
    positive = one(section, "membership_auc", control="10 planted copies added")
    assert (positive.value or 0) >= 0.95
    assert not any(v.grade == "good" for v in section.verdicts if "No face" not in v.text)


def test_a_copy_of_the_declared_parent_is_told_apart(
    traces: list[Trace], audited: Callable[[list[Trace]], Section]
) -> None:
    made = [replace(renamed(traces[0]), relatives=frozenset({traces[0].name}))]
    made += [renamed(t) for t in traces[MEMBERS + OTHERS :]]
    section = audited(made)
    assert one(section, "copies", space="pixels").value == 0
    assert one(section, "copies_of_parent", space="pixels").value == 1


def test_too_few_cases_are_refused_with_the_number_needed(
    traces: list[Trace], planted: list[Trace]
) -> None:
    audit = privacy.audit(traces[:4], traces[4:6], traces[20:24], planted[:4], Key(0), MODALITIES)
    section = privacy_words.section(audit)
    record = one(section, "membership_auc")
    assert record.value is None
    assert "needs 8 members" in record.where["refused"]


def test_a_face_is_found(traces: list[Trace], audited: Callable[[list[Trace]], Section]) -> None:
    made = [replace(renamed(traces[25]), outside=0.4), renamed(traces[26])]
    section = audited(made)
    assert any(v.grade == "bad" and "face" in v.text for v in section.verdicts)


def test_a_face_is_not_ruled_out_where_nobody_looked(
    traces: list[Trace], audited: Callable[[list[Trace]], Section]
) -> None:
    section = audited([replace(renamed(traces[25]), outside=None)])
    assert any(v.grade == "unknown" and "Faces" in v.text for v in section.verdicts)


def test_cohorts_that_cannot_be_compared(
    traces: list[Trace], audited: Callable[[list[Trace]], Section]
) -> None:
    coarse = replace(renamed(traces[25]), spacing_mm=(8.0, 8.0, 8.0))
    with pytest.raises(GeometryError, match="medsynth resample"):
        audited([coarse])
    tumour_only = replace(renamed(traces[25]), scheme="brats2023")
    record = one(audited([tumour_only]), "nearest_neighbour", space="label maps")
    assert "one scheme" in record.where["refused"]
