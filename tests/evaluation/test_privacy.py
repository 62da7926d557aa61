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
        assert one(section, "planted_found", space=space).value == MEMBERS
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


def scans_of(
    traces: list[Trace], parents: list[int], *, near: bool = True, each: int = 4
) -> list[Trace]:
    """So many scans made from each parent's label map: `near` is the parent's own anatomy."""
    return [
        replace(
            traces[p] if near else traces[MEMBERS + OTHERS + p],
            name=f"made {p} {i}", subject=traces[p].subject, relatives=frozenset({traces[p].name}),
        )
        for p in parents
        for i in range(each)
    ]  # fmt: skip


def test_four_scans_of_a_person_count_as_one(
    traces: list[Trace], audited: Callable[[list[Trace]], Section]
) -> None:
    """Value and interval do not change when every scan is there four times."""
    single, fourfold = (
        audited(scans_of(traces, list(range(8)), near=False, each=each)) for each in (1, 4)
    )
    a, b = (one(side, "nearest_neighbour", space="features") for side in (single, fourfold))
    assert (a.n, b.n, a.people, b.people) == (8, 32, 8, 8)
    assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high))
    a, b = (one(side, "nearer_to_members", space="features") for side in (single, fourfold))
    assert b.value == pytest.approx(a.value)
    a, b = (one(side, "nearer_to_members_p", space="features") for side in (single, fourfold))
    assert b.value == pytest.approx(a.value)
    a = one(single, "copies", space="pixels")
    b = one(fourfold, "copies_people", space="pixels")
    assert (a.value, a.n, a.low, a.high) == (b.value, b.n, b.low, b.high)
    assert one(fourfold, "copies", space="pixels").low is None  # scans are not independent


def test_scans_that_share_their_neighbour_are_no_evidence(
    traces: list[Trace], audited: Callable[[list[Trace]], Section]
) -> None:
    """Thirty scans near one member, as blurred ones are near the most blurred person: all of
    them are nearer to a member, which by chance half of all splits of the people would give."""
    odd = traces[3]
    made = [
        replace(renamed(t), subject=f"p{i}", features=odd.features + 1e-4 * i)
        for i, t in enumerate(traces[MEMBERS + OTHERS :])
    ]
    section = audited(made)
    assert (one(section, "nearer_to_members", space="features").value or 0) > 0.9
    assert (one(section, "nearer_to_members_p", space="features").value or 0) > 0.3
    replayed = [replace(renamed(t), subject=t.subject + "'") for t in traces[:MEMBERS]]
    assert one(audited(replayed), "nearer_to_members_p", space="features").value == 0.005


def test_parents_are_looked_at_on_both_sides(
    traces: list[Trace], audited: Callable[[list[Trace]], Section]
) -> None:
    """Scans of three members and two held-out people: their own anatomy is published, too."""
    section = audited(scans_of(traces, [0, 1, 2, MEMBERS, MEMBERS + 1]))
    told = {"space": "label maps", "made from": "training people"}
    found = one(section, "copies_of_parent", **told)
    assert (found.value, found.n, found.people) == (12, 12, 3)
    found = one(section, "copies_of_parent", **told | {"made from": "held-out people"})
    assert (found.value, found.n, found.people) == (8, 8, 2)
    assert one(section, "copies", space="label maps").value == 0
    words = " ".join(v.text for v in section.verdicts)
    assert "12 of 12 synthetic cases (3 of 3 people [29 %, 100 %]) made from training" in words
    assert "publish it though no generator saw it" in words
    cells = [row for table in section.tables for row in table.rows]
    assert any("12 of 12" in row and "12 of 3 people" in row for row in cells)


def test_a_parent_is_known_by_its_label_map(
    traces: list[Trace], audited: Callable[[list[Trace]], Section]
) -> None:
    """Whatever the names: an implanted brain's owner stands among the ancestors only."""
    made = [replace(renamed(traces[0]), files=frozenset({"abc"}))]
    parent = replace(traces[0], files=frozenset({"abc"}))
    audit = privacy.audit(
        [parent, *traces[1:MEMBERS]], traces[MEMBERS : MEMBERS + OTHERS], made, traces[:3],
        Key(0), MODALITIES,
    )  # fmt: skip
    counts = {r.metric: r.value for r in audit.records if r.where.get("space") == "pixels"
              and r.where.get("made from", "training people") == "training people"}  # fmt: skip
    assert (counts["copies"], counts["copies_of_parent"]) == (0, 1)


def test_verdicts_say_how_many_and_how_sure(traces: list[Trace], planted: list[Trace]) -> None:
    """Four of four found and none of three accused is not 'all' and 'nobody'."""
    made = [renamed(t) for t in traces[20:24]]
    audit = privacy.audit(traces[:4], traces[4:7], made, planted[:4], Key(0), MODALITIES)
    words = " ".join(v.text for v in privacy_words.section(audit).verdicts)
    assert "finds 4 of 4 planted copies [40 %, 100 %]" in words
    assert "accuses 0 of 3 held-out cases [0 %, 71 %]" in words
    record = next(r for r in audit.records if r.metric == "nearest_neighbour")
    assert "needs 8 training and 8 held-out people" in record.where["refused"]


def test_an_audit_that_finds_no_planted_copy_says_what_they_were(
    traces: list[Trace], planted: list[Trace]
) -> None:
    blind = [replace(p, features=traces[30].features + 9) for p in planted]
    audit = privacy.audit(
        traces[:MEMBERS], traces[MEMBERS : MEMBERS + OTHERS], [renamed(traces[25])], blind,
        Key(0), MODALITIES,
    )  # fmt: skip
    section = privacy_words.section(audit)
    words = next(v.text for v in section.verdicts if v.text.startswith("features"))
    assert "0 of 10 planted copies [0 %, 31 %]" in words
    assert "brightness and noise" in words
    assert "resampled" not in " ".join([words, *section.method])
