"""Every kind of model learns a known table or matrix, obeys conditions, and survives its file."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from medsynth import tabular
from medsynth.core.codes import Codes
from medsynth.core.frames import to_frame
from medsynth.core.random import Key
from medsynth.errors import ConfigError, DataError
from medsynth.tabular.medgan import MedGan
from medsynth.tabular.synthesizer import CodesSynthesizer

ROWS = {
    "autoregressive": {"epochs": 20},
    "vae": {"epochs": 80, "width": 128},
    "wgan": {"epochs": 80, "width": 128, "pack": 4, "batch": 200},
}
CODES = {
    "autoregressive": {"epochs": 10},
    "emr-wgan": {"epochs": 60, "width": 128, "batch": 200},
    "medgan": {"epochs": 120, "batch": 200},
}


@cache
def ward(rows: int = 1500) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    sex = rng.choice(["F", "M"], rows, p=[0.7, 0.3])
    drug = np.where(rng.random(rows) < 0.95, np.where(sex == "F", "a", "b"), "c")
    age = np.clip(rng.normal(np.where(drug == "a", 40, 65), 6, rows), 20, 90).round()
    return pd.DataFrame({"sex": sex, "drug": drug, "age": age.astype(int)})


@cache
def hospital(subjects: int = 2000, counts: bool = False) -> Any:
    """Two wards of ten codes each; nobody lies in both, and codes 0 and 1 exclude each other."""
    rng = np.random.default_rng(1)
    there = rng.random((subjects, 24)) < 0.02
    ward = rng.random(subjects) < 0.4
    there[:, 2:12] |= ward[:, None] & (rng.random((subjects, 10)) < 0.5)
    there[:, 12:22] |= ~ward[:, None] & (rng.random((subjects, 10)) < 0.3)
    there[:, 0] = rng.random(subjects) < 0.5
    there[:, 1] = ~there[:, 0]
    number = 1 + (rng.random(there.shape) < 0.3) if counts else 1
    return sparse.csr_matrix(there * number, dtype=np.int32)


@cache
def learnt(kind: str, **more: Any) -> tabular.Fitted:
    return tabular.fit(hospital(), kind=kind, **CODES[kind], **more)


@pytest.fixture(scope="module", params=sorted(ROWS))
def rows(request: pytest.FixtureRequest) -> tabular.Fitted:
    return tabular.fit(ward(), kind=request.param, **ROWS[request.param])


@pytest.fixture(scope="module", params=sorted(CODES))
def subjects(request: pytest.FixtureRequest) -> tabular.Fitted:
    return learnt(request.param)


def test_rows_keep_shares_and_relations(rows: tabular.Fitted) -> None:
    before, after = ward(), rows.sample(2000)
    assert after.dtypes.equals(before.dtypes)
    assert (after["sex"] == "F").mean() == pytest.approx(0.7, abs=0.12)
    pair = ["sex", "drug"]
    shares = [f.value_counts(pair, normalize=True) for f in (before, after)]
    assert shares[0].sub(shares[1], fill_value=0).abs().sum() / 2 < 0.16
    gap = [f.groupby("drug")["age"].mean() for f in (before, after)]
    assert gap[1]["b"] - gap[1]["a"] == pytest.approx(gap[0]["b"] - gap[0]["a"], abs=8)
    assert set(after["drug"]) == {"a", "b", "c"}  # the rare one, too


def test_rows_obey_conditions(rows: tabular.Fitted) -> None:
    made = rows.sample(300, where={"sex": "M", "drug": "b"})
    assert len(made) == 300
    assert (made["sex"] == "M").all()
    assert (made["drug"] == "b").all()
    assert made["age"].mean() == pytest.approx(65, abs=6)


def test_codes_keep_rates_and_relations(subjects: tabular.Fitted) -> None:
    before, after = hospital(), subjects.sample(2000)
    assert after.shape == (2000, 24)
    rates = [np.asarray((m > 0).mean(0)).ravel() for m in (before, after)]
    published = isinstance(subjects.model.network, MedGan)  # a baseline, with its collapse
    assert np.corrcoef(*rates)[0, 1] > (0.6 if published else 0.97)
    if published:
        return
    assert np.abs(rates[0] - rates[1]).max() < 0.12
    one, two = (((after[:, 2:12] > 0).sum(1) >= 3), ((after[:, 12:22] > 0).sum(1) >= 3))
    assert np.mean(np.asarray(one) & np.asarray(two)) < 0.06  # the wards stay apart
    both = np.mean(np.asarray((after[:, 0] > 0).multiply(after[:, 1] > 0).todense()))
    assert both < 0.12  # a quarter if independent


def test_codes_obey_conditions(subjects: tabular.Fitted) -> None:
    made = subjects.sample(200, where={"code_0003": "1", "code_0000": "0"})
    assert made.shape[0] == 200
    assert (made[:, 3] > 0).sum() == 200
    assert (made[:, 0] > 0).sum() == 0
    with pytest.raises(DataError, match="Did you mean"):
        subjects.sample(5, where={"code_003": "1"})
    with pytest.raises(ConfigError, match="1 "):
        subjects.sample(5, where={"code_0003": "yes"})


def test_conditions_that_cannot_be_met_are_named() -> None:
    model = tabular.fit(hospital(), kind="emr-wgan", epochs=1, batch=500).model
    assert isinstance(model, CodesSynthesizer)
    model.network.leave.bias.data[5] = -100.0  # type: ignore[union-attr, operator]
    model.network.leave.weight.data[5] = 0  # type: ignore[union-attr, operator]
    with pytest.raises(DataError, match="obey the condition"):
        model.sample(10, where={"code_0005": "1"})


def test_a_condition_on_codes_changes_how_many_there_are_exactly() -> None:
    """P(n | code) follows from P(n) and the first member of the set: held to the data."""
    model = tabular.fit(hospital(), epochs=20)
    data = hospital()
    sizes = np.diff(data.indptr)
    given = model.sample(4000, where={"code_0003": "1"})
    real = sizes[np.asarray((data[:, 3] > 0).todense()).ravel()].mean()
    assert np.diff(given.indptr).mean() == pytest.approx(real, abs=0.25)
    assert abs(real - sizes.mean()) > 0.25  # else the test could not fail


def test_counts_are_counted() -> None:
    data = hospital(counts=True)
    for kind in ("autoregressive", "emr-wgan"):
        made = tabular.fit(data, kind=kind, epochs=5, batch=250).sample(3000)
        assert made.dtype == np.int32
        assert made.data.mean() == pytest.approx(data.data.mean(), abs=0.06)
    made = tabular.fit(data, kind="medgan", epochs=60, batch=250).sample(2000)
    assert made.data.max() >= 2


def test_rounding_loses_rare_codes_and_drawing_keeps_them() -> None:
    models = learnt("medgan", rounding=True), learnt("medgan")
    kept = [(model.sample(3000) > 0).mean(0) for model in models]
    assert kept[1][0, 22] > 0
    assert kept[0].sum() < kept[1].sum() + 1


def test_the_same_seed_gives_the_same_records_from_a_file_too(
    rows: tabular.Fitted, subjects: tabular.Fitted, tmp_path: Path
) -> None:
    rows.model.save(tmp_path / "rows" / "model.safetensors")
    again = tabular.load(tmp_path / "rows")
    assert isinstance(again, tabular.TableSynthesizer)
    assert isinstance(rows.model, tabular.TableSynthesizer)
    one, two = (to_frame(m.sample(30, Key(4))) for m in (rows.model, again))
    pd.testing.assert_frame_equal(one, two)
    subjects.model.save(tmp_path / "codes.safetensors")
    other = tabular.load(tmp_path / "codes.safetensors")
    assert isinstance(other, tabular.CodesSynthesizer)
    assert isinstance(subjects.model, tabular.CodesSynthesizer)
    first, second = (m.sample(30, Key(4)).matrix for m in (subjects.model, other))
    assert (first != second).nnz == 0
    assert first.nnz > 0


def test_what_goes_in_comes_out() -> None:
    named = Codes(hospital(300), tuple(f"c{i}" for i in range(24)))
    made = tabular.fit(named, epochs=1).sample(10)
    assert isinstance(made, Codes)
    assert made.names == named.names
    with pytest.raises(ConfigError, match="Did you mean 'epochs'"):
        tabular.fit(named, epoch=1)
    with pytest.raises(ConfigError, match="for codes"):
        tabular.fit(named, kind="vae")
    with pytest.raises(ConfigError, match="for tables"):
        tabular.fit(ward(), kind="medgan")


def test_a_classifier_makes_rows_agree_with_their_target() -> None:
    model = tabular.fit(
        ward(), kind="wgan", target="sex", agreement=0.5, epochs=5, batch=200, pack=4
    )
    assert set(model.sample(200)["sex"]) <= {"F", "M"}
    with pytest.raises(ConfigError, match="names"):
        tabular.fit(ward(), kind="wgan", target="age")
