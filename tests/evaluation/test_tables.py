"""Table figures against tables whose likeness is known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from medsynth.cli import main
from medsynth.core.frames import from_frame
from medsynth.core.random import Key
from medsynth.core.table import Schema, Table
from medsynth.errors import ConfigError
from medsynth.evaluation import disclosed, disclosure, tables
from medsynth.evaluation.detection import told_apart
from medsynth.evaluation.records import Record, Section
from medsynth.evaluation.tables import privacy, words
from medsynth.evaluation.tables.combinations import off
from medsynth.evaluation.tables.gower import Rows, gower, neighbours, ready
from medsynth.evaluation.tables.learners import area
from medsynth.evaluation.tables.utility import utility
from medsynth.tabular.baselines import Copula, Independent
from medsynth.tabular.codec import Codec


def people(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 90, rows)
    sex = rng.choice(["F", "M"], rows)
    risk = age / 90 + (sex == "M") + rng.normal(0, 0.3, rows)
    lab = np.where(rng.random(rows) < 0.2, np.nan, np.round(risk * 10, 1))
    return pd.DataFrame(
        {"age": age, "sex": sex, "lab": lab, "died": np.where(risk > 1, "yes", "no")}
    )


@pytest.fixture(scope="module")
def real() -> Table:
    return from_frame(people(1500, 0))


def like(real: Table, rows: int, seed: int) -> Table:
    return from_frame(people(rows, seed), real.schema)


@pytest.fixture(scope="module")
def measured(real: Table) -> Section:
    made = like(real, 1500, 1)
    return tables.measure(real, made, Key(0), held_out=like(real, 1500, 4), target="died")


def one(section: Section, metric: str, **where: str) -> Record:
    return next(
        r
        for r in section.records
        if r.metric == metric and all(r.where.get(k) == v for k, v in where.items())
    )


def test_rows_of_the_same_making_reach_the_ceiling(measured: Section) -> None:
    for metric in ("marginals", "pairs", "coverage_levels"):
        record = one(measured, metric, model="synthetic")
        assert record.value == pytest.approx(record.ceiling, abs=0.02), metric
    assert one(measured, "detection_auc", model="synthetic").value == pytest.approx(0.5, abs=0.05)
    useful = one(measured, "utility_auc", training="synthetic", learner="gradient boosting")
    assert useful.value == pytest.approx(useful.ceiling, abs=0.03)
    assert (useful.floor or 1) < 0.6
    assert useful.low is not None
    assert useful.low < (useful.value or 0) < (useful.high or 0)
    assert not [v.text for v in measured.verdicts if v.grade == "bad"]


def test_attacks_and_their_controls_stand_at_chance_where_nothing_is_kept(
    measured: Section,
) -> None:
    near = one(measured, "nearer_to_members")
    shuffled = one(measured, "nearer_to_members", control=disclosure.RELABELLED)
    assert (shuffled.low or 1) < (near.value or 0) < (shuffled.high or 0)
    assert (shuffled.low or 1) < 0.5 < (shuffled.high or 0)
    for metric, chance in (("membership_auc", 0.5), ("membership_tpr_at_1_fpr", 0.01)):
        for record in (one(measured, metric), one(measured, metric, control=disclosure.CONTROL)):
            assert (record.low or 0) <= chance <= (record.high or 0), record
            assert record.floor == chance
    for known in ("2 of 4 columns", "3 of 4 columns"):
        gain = one(measured, "attribute_f1_gain", neighbours="10", known=known)
        assert (gain.low or 0) < 0 < (gain.high or 0)
        told = one(measured, "attribute_f1", neighbours="10", known=known)
        assert (told.floor or 1) < (told.value or 0) < (told.ceiling or 0)
    for record in measured.records:
        if record.metric == "presence_precision" and record.value is not None:
            assert (record.low or 0) <= 0.5 <= (record.high or 1)
    assert not any(v.grade == "good" for v in disclosed.verdicts(measured.records))


def test_independent_columns_are_caught(real: Table, measured: Section) -> None:
    record = one(measured, "pairs", model="synthetic")
    assert (record.floor or 1) < (record.value or 0) - 0.05
    detection = one(measured, "detection_auc", model="synthetic")
    assert (detection.floor or 0) > 0.8
    copula = one(measured, "detection_auc", model="copula").value or 0
    assert 0.5 < copula < (detection.floor or 0)


def test_replayed_rows_are_caught(real: Table) -> None:
    section = tables.measure(real, real, Key(0), held_out=like(real, 1500, 2))
    assert one(section, "exact_copies").value == 1
    assert (one(section, "nearer_to_members").value or 0) > 0.6
    assert (one(section, "membership_auc").value or 0) > 0.8
    sure = one(section, "membership_tpr_at_1_fpr")
    assert (sure.low or 0) > (one(section, sure.metric, control=disclosure.CONTROL).high or 1)
    assert one(section, "presence_sensitivity", within="0").value == 1
    assert (one(section, "presence_precision", within="0").low or 0) > 0.6
    gain = one(section, "attribute_f1_gain", neighbours="1", known="3 of 4 columns")
    assert (gain.low or 0) > 0.1
    told = one(section, "attribute_f1", neighbours="1", known="3 of 4 columns")
    assert told.value == pytest.approx(told.ceiling, abs=0.05)
    assert (one(section, "exact_copies_gain").value or 0) > 0.5
    bad = [v.text.split(":")[0] for v in section.verdicts if v.grade == "bad"]
    for attack in (
        "membership",
        "nearest records",
        "presence",
        "attributes",
        "copies",
        "detection",
    ):
        assert attack in bad


def test_coverage_neither_gains_by_more_rows_nor_by_their_order() -> None:
    """100 of many rows have about 1 − 1/e of 100 levels; all, or the first of sorted ones, not."""
    real = from_frame(pd.DataFrame({"a": [f"n{i:02d}" for i in range(100)] * 3}))
    rare = from_frame(pd.DataFrame({"a": [f"n{i:02d}" for i in range(100)] * 30}), real.schema)
    codec = Codec.fit(real)
    few = tables.coverage(codec, real, rare, Key(0), 100)
    assert few[0] == pytest.approx(1 - np.exp(-1), abs=0.1)
    ordered = real.take(np.argsort(real.values["a"], kind="stable"))
    assert tables.coverage(codec, real, ordered, Key(0), 150)[0] > 0.8
    assert tables.coverage(codec, real, ordered, Key(1), 300) == (1.0, 1.0)


def test_coverage_of_few_rows_is_judged_by_that_of_few_real_ones() -> None:
    """No 100 rows have 100 levels, those of held-out people neither."""
    levels = np.array([f"n{i:02d}" for i in range(100)])
    real = from_frame(pd.DataFrame({"a": np.tile(levels, 3), "b": [1, 2] * 150}))
    some = np.random.default_rng(0).choice(levels, 100)
    held_out = from_frame(pd.DataFrame({"a": some, "b": [1, 2] * 50}), real.schema)
    found = tables.measure(real, real, Key(0), held_out=held_out)
    record = next(r for r in found.records if r.metric == "coverage_levels")
    assert record.n == 100
    assert record.value is not None
    assert record.value < 0.8
    verdict = next(v for v in found.verdicts if v.text.startswith("coverage"))
    assert verdict.grade == "good"
    assert "in 100 rows" in verdict.text


def test_more_rows_are_no_better_rows(real: Table) -> None:
    """Ten times as many rows of the same people stood above their held-out rows before."""
    many, few = like(real, 4000, 5), like(real, 150, 6)
    codec = Codec.fit(real)
    assert tables.pairs(codec, real, many, Key(0)) > tables.pairs(codec, real, few, Key(0)) + 0.03
    section = tables.measure(real, many, Key(0), held_out=few)
    for metric in ("pairs", "marginals"):
        record = one(section, metric, model="synthetic")
        assert record.n == 150
        assert record.value == pytest.approx(record.ceiling, abs=0.02)
    for record in section.records:
        if record.metric == "marginal":
            assert record.value == pytest.approx(record.ceiling, abs=0.07)


def ward(rows: int, seed: int, men: float) -> pd.DataFrame:
    """Women and men of ten wards; a share of the men is in ward 9."""
    rng = np.random.default_rng(seed)
    sex, place = rng.choice(["F", "M"], rows), rng.integers(0, 9, rows)
    site = np.where((sex == "M") & (rng.random(rows) < men), 9, place)
    site = np.where((sex == "F") & (rng.random(rows) < 0.2), 9, site)
    return pd.DataFrame(
        {"sex": sex, "site": [f"w{s}" for s in site], "smokes": rng.random(rows) < 0.3}
    )


def test_dates_in_the_wrong_order_are_seen() -> None:
    """Every stay ended before it began, and detection, pairs and combinations said nothing."""

    def stays(seed: int, shift: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        begun = pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 1400, 700), unit="D")
        ended = begun + pd.to_timedelta(rng.poisson(6, 700) + shift, unit="D")
        return pd.DataFrame({"begun": begun.strftime("%Y-%m-%d"),
                             "ended": ended.strftime("%Y-%m-%d"),
                             "sex": rng.choice(["F", "M"], 700)})  # fmt: skip

    real = from_frame(stays(0, 0))
    sides = [from_frame(stays(seed, shift), real.schema) for seed, shift in ((1, -20), (2, 0))]
    found = tables.measure(real, sides[0], Key(0), held_out=sides[1])
    (told,) = (v for v in found.verdicts if v.text.startswith("contradictions"))
    assert told.grade == "bad"
    assert "first of all begun above ended (700)" in told.text
    calm = tables.measure(real, sides[1], Key(0), held_out=sides[1])
    assert not [v for v in calm.verdicts if v.text.startswith("contradictions")]
    assert one(calm, "contradictions").value == 0


def test_an_order_that_few_rows_have_by_chance_is_no_law() -> None:
    """One in 770 rows of this law has its first number above the second."""

    def rows(seed: int, n: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        first = rng.normal(0, 1, n)
        return pd.DataFrame({"a": first.round(3), "b": (first + rng.normal(3, 1, n)).round(3)})

    for seed in range(2):
        real = from_frame(rows(seed, 400))
        made = from_frame(rows(seed + 50, 2000), real.schema)
        verdicts = tables.measure(real, made, Key(0)).verdicts
        assert not [v for v in verdicts if v.grade == "bad" and v.text.startswith("contra")]


def test_a_column_that_is_off_by_itself_is_named(real: Table, measured: Section) -> None:
    women = np.flatnonzero(real.where("sex", "F"))
    many = real.take(np.concatenate([np.arange(real.rows), women, women]))
    verdicts = tables.measure(real, many, Key(0), held_out=like(real, 1500, 4)).verdicts
    (told,) = (v for v in verdicts if v.text.startswith("columns one by one"))
    assert told.grade == "bad"
    assert "furthest off sex" in told.text
    (calm,) = (v for v in measured.verdicts if v.text.startswith("columns one by one"))
    assert calm.grade == "good"


def test_levels_of_which_nothing_is_said_take_one_line() -> None:
    """A ward of eighty levels filled the screen."""
    where = {"subgroup": "ward", "refused": "few"}
    told = [Record("table", "subgroup_auc", where | {"level": f"W{i}"}) for i in (0, 1, 1, 2)]
    assert [v.text for v in words._untold(told)] == ["groups: 3 untold; ward=W0: few."]
    assert not list(words._untold([]))


def test_a_single_column_has_no_pairs() -> None:
    real = from_frame(pd.DataFrame({"age": np.arange(300) % 60 + 20}))
    verdicts = tables.measure(real, real.take(np.arange(200)), Key(0)).verdicts
    assert not [v for v in verdicts if "nan" in v.text]


def test_a_lost_relation_is_named(real: Table, measured: Section) -> None:
    loose = dict(real.values) | {"sex": np.random.default_rng(0).permutation(real.values["sex"])}
    section = tables.measure(real, Table(real.schema, loose, real.missing), Key(0))
    (told,) = (v for v in section.verdicts if v.text.startswith("relations"))
    assert told.grade == "bad"
    assert "sex" in told.text
    assert not [v for v in measured.verdicts if v.text.startswith("relations")]


def test_few_rows_are_not_judged_and_held_out_people_must_be_others(real: Table) -> None:
    few = tables.measure(real, like(real, 20, 3), Key(0))
    assert "likeness: needs 100 rows a side, there are 20." in [v.text for v in few.verdicts]
    others = like(real, 1500, 8)
    swapped = tables.measure(real, others, Key(0), held_out=others)
    assert any(v.grade == "bad" and "were they held out?" in v.text for v in swapped.verdicts)


def test_a_rare_combination_that_grew_is_named() -> None:
    real = from_frame(ward(4000, 0, 0.01))
    made = from_frame(ward(4000, 1, 0.13), real.schema)
    section = tables.measure(real, made, Key(0), held_out=from_frame(ward(1000, 2, 0.01)))
    (told,) = (v for v in section.verdicts if v.text.startswith("combinations"))
    assert told.grade == "bad"
    assert "sex=M, site=w9" in told.text
    record = one(section, "combination", values="sex=M, site=w9")
    assert 3 < (record.low or 0) < 13 < (record.high or 0)


def test_other_people_and_levels_made_on_purpose_are_not_called_off() -> None:
    flagged = [off(from_frame(ward(3000, s, 0.01)), from_frame(ward(900, s + 50, 0.01)))[0]
               for s in range(20)]  # fmt: skip
    assert not any(flagged)
    real = from_frame(ward(4000, 0, 0.01))
    sexes = real.where("sex", "M")
    rows = np.random.default_rng(0).choice(real.rows, 4000, p=np.where(sexes, 9.0, 1.0) / (
        9.0 * sexes.sum() + (~sexes).sum()))  # fmt: skip
    found, looked = off(real, real.take(rows))
    assert {one.values for one in found} == {"sex=F", "site=w9"}  # and no pair
    assert looked == 2 + 10 + 2 + 20 + 4 + 20


def test_numbers_that_skip_values_are_seen(real: Table, measured: Section) -> None:
    """Even ages alone: the distribution function hardly moves."""
    ages = 2 * np.round(real.values["age"] / 2 - 0.25)
    even = Table(real.schema, {**real.values, "age": np.maximum(ages, 20)}, real.missing)
    assert tables.marginals(real, even)["age"] > 0.95
    section = tables.measure(real, even, Key(0), held_out=like(real, 1500, 4))
    told = one(section, "values", column="age")
    assert (told.value or 1) < 0.6 < 0.85 < (told.ceiling or 0)
    (words_of_it,) = (v for v in section.verdicts if v.text.startswith("numbers"))
    assert words_of_it.grade == "bad"
    assert words_of_it.text.startswith("numbers: value by value age agrees by 0.5")
    assert one(measured, "values", column="age").value == pytest.approx(
        one(measured, "values", column="age").ceiling, abs=0.03
    )
    assert not [v for v in measured.verdicts if v.text.startswith("numbers")]


def test_lost_levels_are_seen(real: Table) -> None:
    women = real.take(np.flatnonzero(real.where("sex", "F")))
    levels, _ = tables.coverage(Codec.fit(real), real, women, Key(0))
    _, distinct = tables.coverage(Codec.fit(real), real, real.take([0] * 1500), Key(0))
    assert levels < 1
    assert distinct < 0.01
    assert tables.marginals(real, women)["sex"] == pytest.approx(
        real.where("sex", "F").mean(), abs=1e-9
    )


def test_marginals_by_hand() -> None:
    a = from_frame(pd.DataFrame({"x": ["a", "a", "b", "?"], "y": [1.0, 2.0, 3.0, 4.0]}))
    b = from_frame(pd.DataFrame({"x": ["a", "b", "b", "b"], "y": [1.0, 2.0, 3.0, 9.0]}), a.schema)
    found = tables.marginals(a, b)
    assert found["x"] == pytest.approx(0.5)  # a 2→1, b 1→3, ? 1→0 of four
    assert found["y"] == pytest.approx(0.75)


def test_without_held_out_rows_figures_are_refused(real: Table) -> None:
    section = tables.measure(real, like(real, 400, 3), Key(0), target="died")
    for metric in ("utility_auc", *disclosure.ATTACKS):
        assert "needs 100 held-out rows" in one(section, metric).where["refused"]
    detection = one(section, "detection_auc", model="synthetic")
    assert detection.ceiling == pytest.approx(0.5, abs=0.06)  # a bootstrap had 0.34
    assert any("real rows drawn again" in v.text for v in section.verdicts)
    with pytest.raises(ConfigError, match="few values"):
        tables.measure(real, like(real, 400, 3), Key(0), target="age")
    with pytest.raises(ConfigError, match="Did you mean 'died'"):
        tables.measure(real, like(real, 400, 3), Key(0), target="dead")


def useful(training: str, value: float, low: float, high: float, *ends: float) -> Record:
    where = {"training": training, "learner": "gradient boosting"}
    metric = "utility_auc" if training == "synthetic" else "utility_gain"
    return Record("table", metric, where, value, low, high, *ends, n=500)


@pytest.mark.parametrize(
    ("record", "grade", "words_of_it"),
    [
        (useful("synthetic", 0.49, 0.45, 0.54, 0.49, 0.93), "bad",
         "utility (gradient boosting): trained on synthetic rows it reaches 0.49 [0.45, 0.54], on "
         "real rows 0.93, on independent columns 0.49: 0 % of the way."),
        (useful("synthetic", 0.70, 0.66, 0.74, 0.5, 0.9), "unknown", ": 50 % of the way."),
        (useful("synthetic", 0.83, 0.80, 0.86, 0.5, 0.9), "good", ": 82 % of the way."),
        (useful("synthetic", 0.40, 0.36, 0.44, 0.5, 0.9), "bad", ": −25 % of the way."),
        (useful("synthetic", 0.53, 0.45, 0.60, 0.5, 0.54), "unknown", "too little to tell."),
        (useful("synthetic", 0.53, 0.52, 0.54, 0.5, 0.48), "unknown", "too little to tell."),
        (useful("synthetic", float("nan"), 0.5, 0.6, 0.5, 0.9), "unknown", "or none."),
        (useful("real+synthetic", 0.01, -0.01, 0.03, 0.0), "unknown",
         "utility on the same people (gradient boosting): real + synthetic changes it by 0.010 "
         "[−0.010, 0.030]: no change that can be told."),
        (useful("real+synthetic", 0.02, 0.01, 0.03, 0.0), "good", ": better."),
        (useful("real+synthetic", -0.02, -0.03, -0.01, 0.0), "bad", ": worse."),
    ],
)  # fmt: skip
def test_utility_is_judged_between_independent_columns_and_real_rows(
    record: Record, grade: str, words_of_it: str, measured: Section
) -> None:
    others = [r for r in measured.records if not r.metric.startswith("utility")]
    lines = [v for v in words.verdicts([*others, record]) if v.text.startswith("utility")]
    assert [v.grade for v in lines] == [grade]
    assert lines[0].text.endswith(words_of_it)


def test_what_synthetic_rows_add_is_told_on_the_same_people(measured: Section) -> None:
    """Each area swings by the people who are drawn; their difference hardly does."""
    for learner in ("gradient boosting", "logistic"):
        both = one(measured, "utility_auc", training="real+synthetic", learner=learner)
        gain = one(measured, "utility_gain", learner=learner)
        assert gain.value == pytest.approx((both.value or 0) - (both.ceiling or 0))
        assert (gain.low or 1) <= (gain.value or 0) <= (gain.high or -1)
        widths = [(r.high or 0) - (r.low or 0) for r in (gain, both)]
        assert widths[0] < 0.5 * widths[1]


def test_each_learner_gets_a_verdict_and_a_copula_none(real: Table, measured: Section) -> None:
    records = [r for r in measured.records if r.metric.startswith("utility")]
    learners = {r.where["learner"] for r in records}
    lines = [v for v in measured.verdicts if v.text.startswith("utility")]
    assert len(lines) == 2 * len(learners) < len(records)
    assert [v.grade for v in lines if "of the way" in v.text] == ["good"] * len(learners)
    refused = tables.measure(real, like(real, 400, 3), Key(0), target="died").verdicts
    lines = [v for v in refused if v.text.startswith("utility")]
    assert [(v.grade, v.text) for v in lines] == [("unknown", "utility: needs 100 held-out rows.")]


def test_baselines_keep_what_they_promise(real: Table) -> None:
    alone, tied = Independent.fit(real), Copula.fit(real)
    samples = [model.sample(4000, Key(2)) for model in (alone, tied)]
    for made in samples:
        assert min(tables.marginals(real, made).values()) > 0.95
    ages = [np.corrcoef(t.values["age"], t.where("died", "yes"))[0, 1] for t in (real, *samples)]
    assert abs(ages[1]) < 0.05
    assert ages[2] == pytest.approx(ages[0], abs=0.06)


def test_the_command(real: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("real", 0), ("made", 1), ("held", 2)):
        people(300, seed).to_csv(tmp_path / f"{name}.csv", index=False)
    command = ["evaluate", "table", "--real", str(tmp_path / "real.csv"), "--synthetic",
               str(tmp_path / "made.csv"), "-o", str(tmp_path / "report")]  # fmt: skip
    held = ["--held-out", str(tmp_path / "held.csv"), "--target", "died", "--subgroup", "sex"]
    assert main([*command, *held, "--json"]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert {r["section"] for r in report["records"]} == {"table"}
    assert json.loads(capsys.readouterr().out) == report["records"]
    assert {r["where"]["level"] for r in report["records"] if r["metric"] == "subgroup_auc"} == {
        "F",
        "M",
    }
    assert main([*command, "--subgroup", "sex"]) == 2
    assert "--target" in capsys.readouterr().err
    strange = people(300, 1).assign(sex="X")
    strange.to_csv(tmp_path / "made.csv", index=False)
    assert main([*command, "--held-out", str(tmp_path / "held.csv")]) == 0
    words_of_it = capsys.readouterr().err
    assert f"{tmp_path / 'made.csv'} has sex 'X', which no real row has" in words_of_it
    assert "first of all sex=X: 300 of 300 synthetic rows, 0 of 300 real ones" in words_of_it


def test_held_out_people_may_have_what_no_member_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("real", 0), ("made", 1), ("held", 2)):
        frame = people(200, seed)
        if name == "held":
            frame.loc[3, "sex"] = "X"
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    files = [part for side, name in (("real", "real"), ("synthetic", "made"), ("held-out", "held"))
             for part in (f"--{side}", str(tmp_path / f"{name}.csv"))]  # fmt: skip
    assert main(["evaluate", "table", *files, "-o", str(tmp_path / "r"), "--target", "died"]) == 0
    assert "held.csv has sex 'X', which no real row has" in capsys.readouterr().err


def test_who_stands_for_people_must_be_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("real", 0), ("made", 1), ("held", 2)):
        people(120, seed).to_csv(tmp_path / f"{name}.csv", index=False)

    def run(**files: str) -> tuple[int, str]:
        names = {"real": "real", "synthetic": "made", "held-out": "held"} | {
            option.replace("_", "-"): name for option, name in files.items()
        }
        given = [a for o, n in names.items() for a in (f"--{o}", str(tmp_path / f"{n}.csv"))]
        found = main(["evaluate", "table", *given, "-o", str(tmp_path / "report")])
        return found, " ".join(capsys.readouterr().err.split())

    made, by_physics = {"synthetic": True, "kind": "ctgan"}, {"made_by": "phantom"}
    for name, option in (("real", "--real"), ("held", "--held-out")):
        beside = tmp_path / f"{name}.csv.json"
        beside.write_text(json.dumps(made))
        found, told = run()
        assert found == 1
        assert f"real rows (or phantoms) for {option}" in told
        assert "the rows that the model was fitted on" in told
        beside.write_text(json.dumps(made | by_physics))
    (tmp_path / "made.csv.json").write_text(json.dumps(made))
    assert run()[0] == 0
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    for files, options in (
        ({"synthetic": "real"}, "--real and --synthetic"),
        ({"held_out": "link"}, "--real and --held-out"),
        ({"held_out": "made"}, "--synthetic and --held-out"),
    ):
        found, told = run(**files)
        assert found == 1
        assert f"different files for {options}" in told


def test_rules_are_counted_beside_the_real_rows(real: Table) -> None:
    from medsynth.core.table import Rule

    ruled = Table(
        Schema(real.schema.columns, (Rule(("sex", "F"), ("died", "yes")),)),
        real.values,
        real.missing,
    )
    section = tables.measure(ruled, ruled, Key(0))
    record = one(section, "rules_broken")
    assert record.value == record.floor == pytest.approx((ruled.broken() > 0).mean())
    assert not [v for v in section.verdicts if v.text.startswith("rules")]


def test_rules_that_are_broken_more_often_than_by_people_are_told(real: Table) -> None:
    from medsynth.core.table import Rule

    schema = Schema(real.schema.columns, (Rule(("sex", "F"), ("died", "yes")),))
    ruled = Table(schema, real.values, real.missing)
    broken = ruled.broken() > 0
    keeps, breaks = np.flatnonzero(~broken)[:500], np.flatnonzero(broken)

    def told(people: Table, rows: np.ndarray) -> list[tuple[str, str]]:
        found = tables.measure(people, ruled.take(rows), Key(0)).verdicts
        return [(v.grade, v.text) for v in found if v.text.startswith("rules")]

    lawful = ruled.take(keeps)
    assert told(lawful, keeps) == []
    text = "rules: 0.20% of 500 synthetic rows break one, 0.00% of real ones: more often."
    assert told(lawful, np.append(keeps[1:], breaks[0])) == [("bad", text)]
    two, three = (np.append(keeps[n:], breaks[:n]) for n in (2, 3))
    ((grade, text),) = told(ruled.take(two), three)
    assert grade == "unknown"
    assert text.endswith("no difference that can be told.")


def few(text: str, schema: Schema | None = None) -> Table:
    """Rows of names: columns are characters, a dot is missing."""
    return from_frame(pd.DataFrame([dict(zip("abc", row, strict=False)) for row in text.split()]),
                      schema)  # fmt: skip


def test_equally_near_rows_come_in_one_drawn_order() -> None:
    """However many are asked for, on every processor: NumPy's own choice depends on both."""
    rows = Rows(np.repeat(np.arange(3, dtype=np.float32) / 4, 40)[:, None], np.zeros((120, 0)))
    distances, found = gower(rows, rows), neighbours(rows, rows, 100)
    near = np.take_along_axis(distances, found, 1)
    assert (near == np.sort(distances, 1)[:, :100]).all()
    assert (found[:40] == found[0]).all()
    assert sorted(found[0, :40]) == list(range(40)) != list(found[0, :40])
    for most in (1, 7, 41, 99):
        assert (neighbours(rows, rows, most) == found[:, :most]).all()


def test_gower_by_hand() -> None:
    frame = pd.DataFrame({"x": [0.0, 10.0, np.nan, 20.0, 5.0], "s": ["u", "v", "u", "u", None]})
    whole = from_frame(frame)
    low, high = np.percentile([0, 10, 20, 5], (5, 95))
    some = ready(whole.take([0, 2, 4]), whole)
    found = gower(some, ready(whole, whole))
    ten = 10 / (high - low)
    assert found[0] == pytest.approx([0, (ten + 1) / 2, 0.5, 0.5, (ten / 2 + 1) / 2], abs=1e-6)
    assert found[1] == pytest.approx([0.5, 1, 0, 0.5, 1])
    assert found[2, 4] == 0
    # a missing number stands at the same place in every table, whatever else is there
    other = from_frame(pd.DataFrame({"x": [-900.0, np.nan], "s": ["u", "u"]}), whole.schema)
    assert gower(some, ready(other, whole))[1].tolist() == [0.5, 0]


def test_presence_by_hand() -> None:
    members, others = np.repeat([0, 0.0, 0.3], 5), np.repeat([0, 0.5, 0.6], 5)
    found = list(disclosure.presence(members, others, (0.0, 0.4), Key(0)))
    values = [(r.metric, r.where["within"], r.value, r.floor) for r in found]
    assert values == [
        ("presence_sensitivity", "0", pytest.approx(2 / 3), pytest.approx(1 / 3)),
        ("presence_precision", "0", pytest.approx(2 / 3), 0.5),
        ("presence_sensitivity", "0.4", 1.0, pytest.approx(1 / 3)),
        ("presence_precision", "0.4", 0.75, 0.5),
    ]
    few = list(disclosure.presence(members[8:], others[8:], (0.0,), Key(0)))
    assert few[0].value == pytest.approx(2 / 7)
    assert few[1].where["refused"] == "needs 10 claims, there are 2"


def test_attributes_are_guessed_by_the_nearest_rows() -> None:
    real = few("xpk xql ypk yql ypl")
    released = few("xpk xpk xql yql", real.schema)
    people = few("xpk yqk", real.schema)
    codec = Codec.fit(real)
    found = privacy.guesses(people, released, real, codec, [("a",), ("a", "b")], (1, 3))
    # known a: of the three with x most say p and k; of y the only row says q and l
    assert found[3][0].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert found[1][1].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert privacy.accuracy(found[1][1:]) == pytest.approx(1 / 3)


def test_macro_f1_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    guessed = rng.integers(0, 4, (60, 2, 3))
    expected = [
        f1_score(guessed[:, 0, i], guessed[:, 1, i], average="macro", zero_division=0)
        for i in range(3)
    ]
    assert privacy.macro_f1(guessed) == pytest.approx(np.mean(expected))


def test_a_copy_counts_beyond_what_held_out_people_have() -> None:
    made = [b"common"] * 6 + [b"rare"] * 4
    records = list(disclosure.copies(made, [b"common", b"rare"], [b"common", b"y"], Key(0)))
    whole, part, gain = records[:3]
    assert (whole.value, part.value) == (1.0, 0.6)
    assert gain.value == pytest.approx(0.4)


def of_copies(made: list[bytes], real: list[bytes], others: list[bytes]) -> tuple[str, str]:
    (verdict,) = disclosed.verdicts(list(disclosure.copies(made, real, others, Key(0))))
    return verdict.grade, verdict.text


def test_copies_are_counted_against_all_members_however_few_are_held_out() -> None:
    """A tenth of the members would have found a tenth of the copies."""
    rows = [b"%d" % i for i in range(4200)]
    grade, text = of_copies(rows[:300], rows[:2000], rows[2000:2200])
    assert grade == "bad"
    assert text.startswith("copies: 100.0 % of 300 synthetic records equal one of 2,000 members, "
                           "0.0 % one of 200 held out (difference found above 9")  # fmt: skip
    grade, text = of_copies(rows[:300], rows[:2000], rows[2000:2010])
    assert grade == "unknown"
    assert "too few held out to be found" in text
    assert of_copies(rows[:30] + rows[4000:], rows[:2000], rows[2000:4000])[0] == "bad"


def test_what_more_members_meet_by_chance_is_no_copy() -> None:
    rng = np.random.default_rng(0)
    made, real, others = ([b"%d" % i for i in rng.zipf(1.5, count)] for count in (1000, 2000, 200))
    grade, text = of_copies(made, real, others)
    assert grade == "unknown"
    assert text.endswith("nothing found beyond three standard errors, which proves nothing.")


def test_nearer_counts_ties_half() -> None:
    blocks = [np.array([[0.1, 0.4, 0.2, 0.3], [0.3, 0.5, 0.3, 0.9]]), np.array([[1, 1, 0, 1.0]])]
    nearest = disclosure.Nearest.of(blocks, 2)
    assert nearest.near.tolist() == [0.1, 0.3, 1.0]
    assert nearest.far.tolist() == [0.2, 0.3, 0.0]
    assert nearest.closer(np.array([True, True, False, False])) == pytest.approx(0.5)
    assert nearest.closer(np.array([True, False, True, False])) == pytest.approx(1)
    assert nearest.closer(np.array([False, True, False, True])) == pytest.approx(0)


def unequal(rows: int, seed: int, women: float) -> pd.DataFrame:
    """What foretells death in men says the opposite in women."""
    rng = np.random.default_rng(seed)
    sex = np.where(rng.random(rows) < women, "F", "M")
    sex[:4] = "X"
    lab = rng.normal(0, 1, rows).round(2)
    risk = np.where(sex == "F", -lab, lab) + rng.normal(0, 0.4, rows)
    return pd.DataFrame({"sex": sex, "lab": lab, "died": np.where(risk > 0, "yes", "no")})


def test_rows_of_a_rare_group_help_that_group() -> None:
    real = from_frame(unequal(600, 0, 0.03))
    made, held_out = (
        from_frame(unequal(600, seed, share), real.schema) for seed, share in ((1, 0.9), (2, 0.5))
    )
    sides = {"real": real, "synthetic": made, "copula": made, "none": real}
    records = list(utility(sides, held_out, "died", "sex", Key(0)))
    trained = {
        r.where["training"]: r
        for r in records
        if r.metric == "subgroup_auc" and r.where["level"] == "F"
        and r.where.get("learner") == "gradient boosting"
    }  # fmt: skip
    assert (trained["real"].high or 1) < (trained["real+synthetic"].low or 0)
    assert trained["real+synthetic"].ceiling == trained["real"].value
    change = next(
        r for r in records
        if r.metric == "subgroup_gap_change" and r.where["learner"] == "gradient boosting"
        and r.where["training"] == "real+synthetic"
    )  # fmt: skip
    assert (change.high or 0) < 0
    refused = next(r for r in records if r.where.get("level") == "X" and "refused" in r.where)
    assert refused.where["refused"] == "needs 100 held-out rows, there are 4"
    share = next(r for r in records if r.metric == "subgroup_share" and r.where["level"] == "F")
    assert share.value == pytest.approx(made.where("sex", "F").mean(), abs=0.01)
    with pytest.raises(ConfigError, match="subgroup with few values"):
        list(utility(sides, held_out, "died", "lab", Key(0)))
    with pytest.raises(ConfigError, match="expected a target"):
        list(utility(sides, held_out, None, "sex", Key(0)))


def test_a_level_that_was_never_trained_on_has_an_area_of_one_half() -> None:
    scores = np.array([[0, 0.9, 0.1], [0, 0.8, 0.2], [1, 0.3, 0.7], [2, 0.5, 0.5]])
    assert area(scores, (0, 1)) == pytest.approx((1 + 1 + 0.5) / 3)
    assert np.isnan(area(scores[:2], (0, 1)))


@pytest.mark.parametrize(
    ("value", "ceiling", "rows", "told"),
    [
        (0.833, 0.925, 4000, True),  # a comb of ages, as it was measured
        (0.94, 0.98, 1000, False),  # three times as far off, and noise: shares of a spike
        (0.86, 0.93, 250, False),
        (0.99, 0.999, 100_000, False),
    ],
)
def test_uneven_numbers_are_told_beyond_noise(
    value: float, ceiling: float, rows: int, told: bool
) -> None:
    record = Record("table", "values", {"column": "age"}, value, ceiling=ceiling, n=rows)
    assert bool(list(words._uneven([record], "real rows"))) == told


def test_a_column_without_any_value_is_no_obstacle() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=90), np.full(90, np.nan)])
    assert 0.3 < told_apart(x[:45], x[45:], Key(0)).value < 0.7
