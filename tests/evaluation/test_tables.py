"""Table figures against tables whose likeness is known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsynth.cli import main
from medsynth.core.frames import from_frame
from medsynth.core.random import Key
from medsynth.core.table import Schema, Table
from medsynth.errors import ConfigError
from medsynth.evaluation import tables
from medsynth.evaluation.records import Record, Section
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
    return tables.measure(real, made, Key(0), held_out=like(real, 1500, 2), target="died")


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
    useful = one(measured, "utility_auc", training="synthetic", segmentor="gradient boosting")
    assert useful.value == pytest.approx(useful.ceiling, abs=0.03)
    assert (useful.floor or 1) < 0.6
    near = one(measured, "nearer_to_members")
    assert (near.low or 1) < 0.5 < (near.high or 0)
    auc = one(measured, "membership_auc")
    assert (auc.low or 1) < 0.5 < (auc.high or 0)


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
    assert (one(section, "nearer_to_members").low or 0) > 0.6
    assert (one(section, "membership_auc").value or 0) > 0.8
    assert any(v.grade == "bad" and "membership" in v.text for v in section.verdicts)


def test_lost_levels_are_seen(real: Table) -> None:
    women = real.take(np.flatnonzero(real.where("sex", "F")))
    levels, _ = tables.coverage(Codec.fit(real), real, women)
    _, distinct = tables.coverage(Codec.fit(real), real, real.take([0] * 1500))
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
    for metric in ("utility_auc", "membership_auc", "nearer_to_members"):
        assert "held-out rows" in one(section, metric).where["refused"]
    with pytest.raises(ConfigError, match="few values"):
        tables.measure(real, like(real, 400, 3), Key(0), target="age")
    with pytest.raises(ConfigError, match="Did you mean 'died'"):
        tables.measure(real, like(real, 400, 3), Key(0), target="dead")


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
    held = ["--held-out", str(tmp_path / "held.csv"), "--target", "died"]
    assert main([*command, *held]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert {r["section"] for r in report["records"]} == {"table"}
    strange = people(300, 1).assign(sex="X")
    strange.to_csv(tmp_path / "made.csv", index=False)
    assert main(command) == 1
    assert "levels of sex" in capsys.readouterr().err


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
