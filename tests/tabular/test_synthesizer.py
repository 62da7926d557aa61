"""Rows come out as they went in: known joint distributions, conditions, seeds, files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsynth import tabular
from medsynth.core.frames import from_frame, to_frame
from medsynth.core.random import Key
from medsynth.errors import ConfigError, DataError, ModelError, UsageError


def ward(rows: int, seed: int = 0) -> pd.DataFrame:
    """Sex decides the drug, age decides the grade, dose is zero for a third."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["F", "M"], rows, p=[0.7, 0.3])
    drug = np.where(rng.random(rows) < 0.9, np.where(sex == "F", "a", "b"), "c")
    age = rng.integers(30, 90, rows)
    grade = np.where(age + rng.normal(0, 5, rows) > 60, "high", "low")
    dose = np.where(rng.random(rows) < 1 / 3, 0, np.round(rng.lognormal(3, 0.7, rows), 1))
    weight = np.where(rng.random(rows) < 0.1, np.nan, np.round(rng.normal(70, 12, rows), 2))
    return pd.DataFrame({"patient_id": np.arange(rows) + 5000, "sex": sex, "drug": drug, "age": age,
                         "grade": grade, "dose": dose, "weight": weight})  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> tabular.Fitted:
    return tabular.fit(ward(3000), epochs=30)


def test_what_belongs_together_stays_together(fitted: tabular.Fitted) -> None:
    before, after = ward(3000), fitted.sample(3000, seed=1)
    assert after.dtypes.equals(before.dtypes)
    assert after["patient_id"].tolist() == list(range(1, 3001))
    assert (after["sex"] == "F").mean() == pytest.approx(0.7, abs=0.05)
    for pair in (["sex", "drug"], ["grade", "sex"]):
        tables = [frame.value_counts(pair, normalize=True) for frame in (before, after)]
        assert tables[0].sub(tables[1], fill_value=0).abs().sum() / 2 < 0.06
    gaps = [f.groupby("grade")["age"].mean().diff().iloc[-1] for f in (before, after)]
    assert gaps[1] == pytest.approx(gaps[0], rel=0.15)
    assert (after["dose"] == 0).mean() == pytest.approx(1 / 3, abs=0.04)
    assert after["weight"].isna().mean() == pytest.approx(0.1, abs=0.03)
    assert (after["age"] % 1 == 0).all()
    assert (np.round(after["dose"], 1) == after["dose"]).all()
    for name in ("age", "dose", "weight"):
        for q in (0.1, 0.5, 0.9):
            assert after[name].quantile(q) == pytest.approx(before[name].quantile(q), rel=0.1), name


def test_conditions_hold_and_the_rest_follows(fitted: tabular.Fitted) -> None:
    men = fitted.sample(4000, where={"sex": "M"})
    assert (men["sex"] == "M").all()
    assert (men["drug"] == "b").mean() == pytest.approx(0.9, abs=0.05)
    none = fitted.sample(50, where={"weight": None})
    assert none["weight"].isna().all()
    assert (fitted.sample(50, where={"age": (70, None)})["age"] >= 70).all()
    older = fitted.sample(200, where={"age": "70..75"})["age"]
    assert older.between(70, 75).all()
    assert older.nunique() == 6
    with pytest.raises(ConfigError, match="a whole number"):
        fitted.sample(5, where={"age": 60.5})
    with pytest.raises(ConfigError, match="one way to be missing, found none in age"):
        fitted.sample(50, where={"age": None})
    none = fitted.sample(50, where={"weight": ""})
    assert none["weight"].isna().all()
    assert (fitted.sample(50, where={"age": 63})["age"] == 63).all()
    with pytest.raises(ConfigError, match="age from"):
        fitted.sample(10, where={"age": "300"})
    with pytest.raises(ConfigError, match="Did you mean 'sex'"):
        fitted.sample(10, where={"sexx": "M"})
    with pytest.raises(ConfigError, match="a level of sex"):
        fitted.sample(10, where={"sex": "X"})
    with pytest.raises(UsageError, match="at least 1"):
        fitted.sample(0)


def test_the_same_seed_gives_the_same_rows() -> None:
    models = [tabular.fit(ward(300), epochs=2, seed=3) for _ in range(2)]
    frames = [model.sample(40, seed) for model in models for seed in (7, 8)]
    pd.testing.assert_frame_equal(frames[0], frames[2])
    assert not frames[0].equals(frames[1])


def test_a_model_survives_its_file(fitted: tabular.Fitted, tmp_path: Path) -> None:
    fitted.model.save(tmp_path / "model.safetensors")
    again = tabular.load(tmp_path)
    before, after = (to_frame(m.sample(20, Key(4))) for m in (fitted.model, again))
    pd.testing.assert_frame_equal(before, after)
    with pytest.raises(UsageError, match=r"model\.safetensors"):
        tabular.load(tmp_path / "nowhere")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError):
        tabular.load(tmp_path / "broken.safetensors")


def test_likely_rows_are_told_from_unlikely_ones(fitted: tabular.Fitted) -> None:
    usual = ward(200, seed=9)
    odd = usual.assign(drug=np.where(usual["sex"] == "F", "b", "a"))
    scores = [fitted.model.log_likelihood(from_frame(frame)) for frame in (usual, odd)]
    assert scores[0].mean() > scores[1].mean() + 1


def test_few_rows_stop_before_they_are_learnt_by_heart() -> None:
    rng = np.random.default_rng(0)
    noise = pd.DataFrame({f"c{i}": rng.integers(0, 30, 120) for i in range(8)})
    model = tabular.fit(noise, epochs=60).model
    fresh = from_frame(pd.DataFrame({f"c{i}": rng.integers(0, 30, 120) for i in range(8)}))
    known = model.log_likelihood(from_frame(noise)).mean()
    assert known - model.log_likelihood(fresh).mean() < 0.15 * abs(known)


@pytest.mark.parametrize("frame", [
    pd.DataFrame({"a": [1] * 60, "b": [None] * 60, "c": range(60)}),
    pd.DataFrame({"a": np.linspace(0, 1, 60) ** 3}),
    pd.DataFrame({"a": ["x", "y"] * 30, "patient_id": range(60)}),
])  # fmt: skip
def test_odd_tables_are_modelled_all_the_same(frame: pd.DataFrame) -> None:
    made = tabular.fit(frame, epochs=1).sample(30)
    assert made.dtypes.equals(frame.dtypes)
    assert len(made) == 30


def test_tables_that_cannot_be_fitted() -> None:
    with pytest.raises(DataError, match="at least 50 records"):
        tabular.fit(ward(20))
    with pytest.raises(DataError, match="DataFrame"):
        tabular.fit(np.zeros((100, 3)))
    with pytest.raises(DataError, match="finite"):
        tabular.fit(pd.DataFrame({"a": ["1", "inf", "3"] * 30}))
    with pytest.raises(DataError, match="identifiers only"):
        tabular.fit(pd.DataFrame({"patient_id": range(100)}))
