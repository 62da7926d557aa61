"""Figures of codes against subjects whose likeness is known."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from medsynth.cli import main
from medsynth.core.codes import Codes
from medsynth.core.random import Key
from medsynth.errors import DataError
from medsynth.evaluation import codes, disclosure
from medsynth.evaluation.codes import figures, prediction, privacy, words
from medsynth.evaluation.codes.baseline import independent
from medsynth.evaluation.records import Record, Section
from medsynth.io import tables

TOPICS, EACH = 5, 8
NAMES = tuple(f"c{i:02d}" for i in range(TOPICS * EACH))


def subjects(rows: int, seed: int) -> Codes:
    """Everybody has two topics; the codes of a topic come together, some of them twice."""
    rng = np.random.default_rng(seed)
    chance = np.full((rows, len(NAMES)), 0.02)
    for _ in range(2):
        topic = rng.integers(0, TOPICS, rows)
        for at in range(EACH):
            chance[np.arange(rows), topic * EACH + at] = 0.7 / (1 + 0.3 * at)
    there = rng.random(chance.shape) < chance
    return Codes(sparse.csr_matrix(there * (1 + (rng.random(chance.shape) < 0.2))), NAMES)


def by_hand(*rows: str, names: str = "abcdef") -> Codes:
    """Subjects as words: `aab` has a twice and b once; `-` has none."""
    matrix = [[row.count(name) for name in names] for row in rows]
    return Codes(sparse.csr_matrix(np.array(matrix)), tuple(names))


def one(section: Section, metric: str, **where: str) -> Record:
    return next(
        r
        for r in section.records
        if r.metric == metric and all(r.where.get(k) == v for k, v in where.items())
    )


def bad(section: Section) -> set[str]:
    return {v.text.split(":")[0] for v in section.verdicts if v.grade == "bad"}


@pytest.fixture(scope="module")
def real() -> Codes:
    return subjects(800, 0)


@pytest.fixture(scope="module")
def held_out() -> Codes:
    return subjects(800, 2)


@pytest.fixture(scope="module")
def measured(real: Codes, held_out: Codes) -> Section:
    return codes.measure(real, subjects(800, 1), Key(0), held_out)


@pytest.fixture(scope="module")
def replayed(real: Codes, held_out: Codes) -> Section:
    return codes.measure(real, real, Key(0), held_out)


def test_subjects_of_the_same_making_reach_the_ceiling(measured: Section) -> None:
    for metric in ("rates_correlation", "pairs_rates_correlation", "pairs_lift_correlation",
                   "coverage_codes", "coverage_sets", "prediction_auc", "prediction_f1",
                   "prediction_auc_correlation"):  # fmt: skip
        record = one(measured, metric)
        assert record.value == pytest.approx(record.ceiling, abs=0.06), metric
    assert one(measured, "codes_per_subject").value == pytest.approx(
        one(measured, "codes_per_subject").ceiling, abs=0.4
    )
    assert one(measured, "counts_above_one").value == pytest.approx(0.2, abs=0.03)
    detection = one(measured, "detection_auc")
    assert detection.value == pytest.approx(0.5, abs=0.06)
    assert (detection.low or 1) < (detection.value or 0) < (detection.high or 0)
    assert not bad(measured)


def test_attacks_and_their_controls_stand_at_chance_where_nothing_is_kept(
    measured: Section,
) -> None:
    for distance in privacy.MEASURES:
        near = one(measured, "nearer_to_members", distance=distance)
        shuffled = one(measured, near.metric, distance=distance, control=disclosure.RELABELLED)
        assert (shuffled.low or 1) < (near.value or 0) < (shuffled.high or 0)
        for metric, chance in (("membership_auc", 0.5), ("membership_tpr_at_1_fpr", 0.01)):
            controls: tuple[dict[str, str], ...] = ({}, {"control": disclosure.CONTROL})
            for control in controls:
                record = one(measured, metric, distance=distance, **control)
                width = 1.5 * ((record.value or 0) - (record.low or 0))
                assert (record.value or 0) == pytest.approx(chance, abs=width), record
    for k in ("1", "10"):
        gain = one(measured, "attribute_f1_gain", neighbours=k)
        assert (gain.low or 0) < 0 < (gain.high or 0)
        told = one(measured, "attribute_f1", neighbours=k)
        assert (told.floor or 1) < (told.value or 0) <= (told.ceiling or 0)


def test_independent_codes_are_caught(real: Codes, held_out: Codes) -> None:
    section = codes.measure(real, independent(real, 800, Key(5)), Key(0), held_out)
    assert (one(section, "rates_correlation").value or 0) > 0.95
    assert (one(section, "pairs_lift_correlation").value or 1) < 0.2
    assert (one(section, "detection_auc").low or 0) > 0.8
    assert (one(section, "prediction_auc").value or 1) < 0.6
    assert {"pairs of codes (lift)", "detection", "prediction of codes"} <= bad(section)


def test_replayed_subjects_are_caught(replayed: Section) -> None:
    assert one(replayed, "exact_copies").value == 1
    assert (one(replayed, "exact_copies_gain").value or 0) > 0.5
    for distance in privacy.MEASURES:
        assert (one(replayed, "membership_auc", distance=distance).low or 0) > 0.9
        sure = one(replayed, "membership_tpr_at_1_fpr", distance=distance)
        told = one(replayed, sure.metric, distance=distance, control=disclosure.CONTROL)
        assert (sure.low or 0) > (told.high or 1)
    assert one(replayed, "presence_sensitivity", within="0").value == 1
    assert (one(replayed, "presence_precision", within="0").low or 0) > 0.8
    assert (one(replayed, "attribute_f1_gain", neighbours="1").low or 0) > 0.05
    attacks = {"membership", "nearest records", "presence", "attributes", "copies", "detection"}
    assert attacks <= bad(replayed)


def test_a_few_replayed_subjects_in_a_large_release_are_caught(
    real: Codes, held_out: Codes
) -> None:
    made = sparse.vstack([subjects(3000, 7).matrix, real.matrix[:400]])
    section = codes.measure(real, Codes(made, NAMES), Key(0), held_out)
    assert "membership" in bad(section)


def test_coverage_by_hand() -> None:
    real, made = by_hand("ab", "aab", "c", "-"), by_hand("ab", "ab", "a", "f")
    found = figures.coverage(real, made)
    assert found["coverage_codes"] == pytest.approx(2 / 3)  # a and b of a, b, c
    assert found["coverage_sets"] == pytest.approx(1.0)  # ab, a, f of ab, c, none
    assert figures.coverage(real, by_hand("-", "-", "-", "-"))["coverage_sets"] == 1 / 3
    assert len(set(figures.fingerprints(real))) == 4


def test_sizes_and_counts_by_hand() -> None:
    real, made = by_hand("ab", "aab", "c", "-"), by_hand("abcd", "abcd", "abc", "abc")
    assert figures.sizes(real).tolist() == [2, 2, 1, 0]
    assert figures.size_gap(real, made) == 1
    assert figures.size_gap(real, real) == 0
    assert figures.repeated(real) == pytest.approx(1 / 5)


def test_lifts_by_hand() -> None:
    real = by_hand("ab", "ab", "c", "c", names="abc")
    assert figures.together(real, np.array([0, 1, 2])).tolist() == [[2, 2, 0], [2, 2, 0], [0, 0, 2]]
    assert figures.pairs(real, real)["pairs_lift_correlation"] == pytest.approx(1)
    turned = by_hand("a", "a", "bc", "bc", names="abc")
    assert figures.pairs(real, turned)["pairs_lift_correlation"] < 0


def test_distances_by_hand() -> None:
    people, released = by_hand("ab", "-", "aac"), by_hand("abc", "a", "-")
    (block,) = privacy.blocks(people, released)
    assert block["hamming"].tolist() == [[1, 1, 2], [3, 1, 0], [1, 1, 2]]
    expected = [[1 / 3, 1 / 2, 1], [1, 1, 0], [1 / 3, 1 / 2, 1]]
    np.testing.assert_allclose(block["jaccard"], expected, rtol=1e-6)
    assert privacy.nearest(people, released)["hamming"].tolist() == [1, 0, 1]
    assert privacy.neighbours(people, released, 2)[0].tolist() == [0, 1]


def test_codes_are_guessed_by_the_nearest_subjects() -> None:
    people = by_hand("abde", "c")
    released = by_hand("abd", "abdf", "abd", "cf", "c")
    known = np.array([0, 1, 2])
    found = privacy.guesses(people, released, [known], (1, 3))
    # three nearest of the first say d, of the second (two with c, one without) nothing
    assert found[3][0].tolist() == [1, 1, 2]
    assert found[1][1, 2] == 0
    assert privacy.micro_f1(found[3][:1]) == pytest.approx(2 / 3)
    assert privacy.micro_f1(np.array([[1, 1, 2], [0, 2, 1]])) == pytest.approx(2 / 6)


def test_independent_codes_keep_rates_and_counts(real: Codes) -> None:
    made = independent(real, 5000, Key(1))
    np.testing.assert_allclose(made.rates, real.rates, atol=0.04)
    assert figures.repeated(made) == pytest.approx(figures.repeated(real), abs=0.02)
    n = len(made)
    upper = np.triu_indices(len(NAMES), 1)
    count = figures.together(made, np.arange(len(NAMES)))[upper] / n
    expected = np.outer(made.rates, made.rates)[upper]
    assert np.abs(count - expected).max() < 0.02


def test_codes_too_rare_for_a_test_are_not_predicted() -> None:
    real = by_hand(*["ab", "abc", "d"] * 10)
    told = prediction.predictable(real, by_hand(*["ab", "abc", "b"] * 10))
    assert [real.names[i] for i in told] == ["a", "c"]  # all have b, nobody d


def test_names_are_brought_together(real: Codes) -> None:
    turned = Codes(real.matrix[:, ::-1], NAMES[::-1])
    own, made, _ = codes.aligned(real, turned)
    assert (own.matrix != made.matrix).nnz == 0
    held = Codes(sparse.csr_matrix(np.ones((2, 1), int)), ("new",))
    own, made, others = codes.aligned(real, turned, held)
    assert own.names == made.names == (*NAMES, "new")
    assert others is not None
    assert others.rates[-1] == 1
    with pytest.raises(DataError, match=r"40 known codes, found 1 others \(new"):
        codes.aligned(real, held)
    with pytest.raises(DataError, match="synthetic subjects"):
        codes.aligned(real, real.take([]))


def test_figures_that_need_more_subjects_are_refused(real: Codes, held_out: Codes) -> None:
    section = codes.measure(real, subjects(300, 1), Key(0), held_out.take(np.arange(99)))
    for metric in (*disclosure.ATTACKS, "prediction_auc"):
        assert "needs 100 held-out" in one(section, metric).where["refused"]
        assert "there are 99" in one(section, metric).where["refused"]
    few = codes.measure(real.take(np.arange(60)), subjects(300, 1), Key(0), held_out)
    for metric in ("detection_auc", "pairs_lift_correlation"):
        assert (
            one(few, metric).where["refused"] == "needs 100 subjects a side, there are 60 and 300"
        )
    assert one(few, "rates_correlation").value is not None


def test_no_matrix_is_made_dense_as_a_whole(
    real: Codes, held_out: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = 400
    sides = [
        Codes(sparse.hstack([side.matrix, sparse.csr_matrix((800, wide - len(NAMES)))]).tocsr(),
              tuple(map(str, range(wide))))
        for side in (real, subjects(800, 1), held_out)
    ]  # fmt: skip
    sizes = []
    for kind in (sparse.csr_matrix, sparse.csc_matrix):
        whole = kind.toarray

        def toarray(self: Any, *args: Any, whole: Any = whole, **options: Any) -> Any:
            sizes.append(np.prod(self.shape))
            return whole(self, *args, **options)

        monkeypatch.setattr(kind, "toarray", toarray)
    codes.measure(sides[0], sides[1], Key(0), sides[2])
    assert sizes
    assert max(sizes) < 800 * wide / 2


def test_a_hospital_fits_into_memory() -> None:
    rng = np.random.default_rng(0)
    rows, wide = 20_000, 1_071
    at = np.repeat(np.arange(rows), 12), rng.integers(0, wide, rows * 12)
    matrix = sparse.csr_matrix((np.ones(rows * 12, int), at), (rows, wide))
    real = Codes(matrix, tuple(map(str, range(wide))))
    tracemalloc.start()
    made = independent(real, rows, Key(0))
    figures.pairs(real, made)
    privacy.nearest(real.take(np.arange(300)), made)
    privacy.guesses(real.take(np.arange(50)), made, [np.arange(500)], (1, 10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6  # one dense side has 86 MB as float32


def test_a_verdict_stands_between_floor_and_ceiling() -> None:
    def grade(value: float, floor: float, ceiling: float, metric: str = "prediction_auc") -> str:
        record = Record("table", metric, {}, value, floor=floor, ceiling=ceiling)
        return words.placed(record, "it").grade

    assert grade(0.85, 0.5, 0.9) == "good"
    assert grade(0.7, 0.5, 0.9) == "bad"
    assert grade(0.7, 0.695, 0.7) == "unknown"
    assert grade(0.7, 0.9, 0.6) == "unknown"  # independent codes are better: nothing to reach
    assert grade(0.45, 0.4, 0.5, "detection_auc") == "unknown"
    assert grade(0.55, 0.9, 0.6, "detection_auc") == "good"
    assert grade(0.62, 0.9, 0.65, "detection_auc") == "bad"  # a lucky ceiling does not flatter


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = {"real": subjects(150, 0), "made": subjects(150, 1), "held": subjects(150, 2)}
    for name, side in sides.items():
        tables.write_codes(tmp_path / f"{name}.npz", side)
        tables.write_codes(tmp_path / f"{name}.csv", side)
    files = {name: str(tmp_path / name) for name in sides}
    command = ["evaluate", "table", "--real", files["real"] + ".npz", "--synthetic",
               files["made"] + ".npz", "-o", str(tmp_path / "report")]  # fmt: skip
    assert main([*command, "--held-out", files["held"] + ".npz", "--json"]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert json.loads(capsys.readouterr().out) == report["records"]
    assert {r["section"] for r in report["records"]} == {"table"}
    assert report["sections"]["table"]["pictures"][0]["file"] == "codes-rates.png"
    assert (tmp_path / "report" / "pictures" / "codes-rates.png").exists()
    assert "Presence disclosure" in (tmp_path / "report" / "report.md").read_text()
    assert main([*command, "--target", "c01"]) == 2
    assert "--target" in capsys.readouterr().err
    # the long form, with columns of a hospital, against what medsynth writes
    frame = pd.read_csv(files["real"] + ".csv")
    frame.columns = pd.Index(["SUBJECT_ID", "ICD9_CODE"])
    frame.to_csv(tmp_path / "hospital.csv", index=False)
    long = ["evaluate", "table", "--real", str(tmp_path / "hospital.csv"), "--synthetic",
            files["made"] + ".csv", "-o", str(tmp_path / "long")]  # fmt: skip
    assert main([*long, "--subject", "SUBJECT_ID", "--code", "ICD9_CODE"]) == 0
    assert main([*long, "--subject", "SUBJECT", "--code", "ICD9_CODE"]) == 1
    assert "--subject and --code" in capsys.readouterr().err
    strange = Codes(sides["made"].matrix, tuple(f"x{name}" for name in NAMES))
    tables.write_codes(tmp_path / "made.npz", strange)
    assert main(command) == 1
    assert "--digits" in capsys.readouterr().err
