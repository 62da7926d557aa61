"""Dates that go together stay together; others are left alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsynth import tabular
from medsynth.core.frames import from_frame, to_frame
from medsynth.core.random import Key
from medsynth.core.table import Schema
from medsynth.errors import ConfigError
from medsynth.tabular import TableSynthesizer
from medsynth.tabular.codec import Codec
from medsynth.tabular.spans import Spans


def stays(rows: int = 900, seed: int = 0) -> pd.DataFrame:
    """Born, admitted, discharged after a Poisson stay (or not yet), seen again."""
    rng = np.random.default_rng(seed)
    day = np.timedelta64(1, "D")
    born = np.datetime64("1940-01-01") + rng.integers(0, 20_000, rows) * day
    admitted = np.datetime64("2019-01-01") + rng.integers(0, 1400, rows) * day
    discharged = admitted + rng.poisson(6, rows) * day
    again = discharged + rng.integers(28, 31, rows) * day
    texts = {
        name: pd.Series(days).dt.strftime("%Y-%m-%d")
        for name, days in (("born", born), ("admitted", admitted), ("discharged", discharged),
                           ("again", again))
    }  # fmt: skip
    frame = pd.DataFrame({**texts, "sex": rng.choice(["F", "M"], rows)})
    frame.loc[rng.random(rows) < 0.1, "discharged"] = ""
    frame.loc[rng.random(rows) < 0.05, "admitted"] = ""
    return frame


def test_spans_are_found_and_undone() -> None:
    table = from_frame(stays())
    spans = Spans.find(table)
    pairs = {(span.column, span.since) for span in spans.of}
    assert pairs == {("discharged", "admitted"), ("again", "discharged")}
    short = spans.shortened(table)
    both = (table.absent("admitted") == 0) & (table.absent("discharged") == 0)
    assert short.values["discharged"][both].max() < 25
    again = spans.restored(short, table.schema, Key(0))
    for name, values in table.values.items():
        here = both & (table.absent(name) == 0)
        np.testing.assert_array_equal(again.values[name][here], values[here])
    assert again.schema == table.schema
    assert Spans.from_json(spans.to_json()) == spans
    codec = Codec.fit(short)
    assert codec.columns[2].column.ends[1] < 25


def test_counts_that_are_mostly_zero_are_no_ages() -> None:
    """The middle half of such a column does not vary, and admissions moved by years."""
    frame = stays()
    rng = np.random.default_rng(5)
    few = np.where(rng.random(len(frame)) < 0.85, 0, rng.integers(1, 5, len(frame)))
    frame = frame.assign(complications=few, children=0)
    assert not [span for span in Spans.find(from_frame(frame)).of if span.years]


@pytest.fixture(scope="module")
def model() -> TableSynthesizer:
    made = tabular.fit(stays(), epochs=15).model
    assert isinstance(made, TableSynthesizer)
    return made


def length(frame: pd.DataFrame) -> pd.Series:
    both = frame[(frame["admitted"] != "") & (frame["discharged"] != "")]
    return (pd.to_datetime(both["discharged"]) - pd.to_datetime(both["admitted"])).dt.days


def test_made_stays_are_as_long_as_real_ones(model: TableSynthesizer) -> None:
    """Their standard deviation was 48 days for 2.4, and a third left before they came."""
    made, real = length(to_frame(model.sample(1500))), length(stays())
    assert made.min() >= 0
    assert made.mean() == pytest.approx(real.mean(), abs=0.7)
    assert made.std() == pytest.approx(real.std(), rel=0.3)


def test_a_model_of_dates_is_saved_whole(model: TableSynthesizer, tmp_path: Path) -> None:
    model.save(tmp_path / "model.safetensors")
    again = tabular.load(tmp_path / "model.safetensors")
    assert isinstance(again, TableSynthesizer)
    for name, values in model.sample(300).values.items():
        np.testing.assert_array_equal(values, again.sample(300).values[name])
    table = from_frame(stays(seed=3), model.schema)
    assert np.isfinite(again.log_likelihood(table)).all()


def test_ranges_and_days_are_held(model: TableSynthesizer) -> None:
    day = np.datetime64("2020-05-03").astype("datetime64[D]").astype(int)
    made = model.sample(60, where={"admitted": "2020-05-03"})
    assert (made.values["admitted"] == day).all()
    stay = (made.values["discharged"] - day)[made.absent("discharged") == 0]
    assert 0 <= stay.min() <= stay.max() < 25
    for name in ("admitted", "discharged"):  # the one is learnt as a date, the other as a span
        made = model.sample(60, where={name: "2020-03-01..2020-08-31"})
        assert made.where(name, "2020-03-01..2020-08-31").all()
    made = model.sample(60, where={"born": "..1950-01-01", "sex": "F"})
    assert made.where("sex", "F").all()
    assert made.values["born"].max() <= -7305  # 1950-01-01
    assert len(np.unique(made.values["born"])) > 20
    with pytest.raises(ConfigError, match="as a date, 1976-11-16"):
        model.sample(5, where={"discharged": "soon"})
    with pytest.raises(ConfigError, match=r"born from 1940-\d\d-\d\d to 1994-\d\d-\d\d"):
        model.sample(5, where={"born": "2030-01-01.."})
    with pytest.raises(ConfigError, match="Exchange its ends"):
        model.sample(5, where={"born": "1980-01-01..1970-01-01"})
    with pytest.raises(ConfigError, match="as a date"):
        model.sample(5, where={"born": "1980"})
    made = model.sample(100, where={"discharged": "2020-05-03"})  # nobody waits for one of 1,400
    assert (made.values["discharged"] == day).all()
    stay = (day - made.values["admitted"])[made.absent("admitted") == 0]
    assert 0 <= stay.min() <= stay.max() < 25


def test_rows_without_the_other_date_are_drawn_as_well(model: TableSynthesizer) -> None:
    real = from_frame(stays())
    asked = "2020-01-01..2020-12-31"
    made = model.sample(1500, where={"discharged": asked})
    gone = [
        float((t.absent("admitted")[t.where("discharged", asked)] > 0).mean()) for t in (real, made)
    ]
    assert gone[1] == pytest.approx(gone[0], abs=0.03)
    assert gone[1] > 0.01
    where = {"admitted": "", "discharged": "2020-03-01..2020-08-31"}
    made = model.sample(100, where=where)
    assert (made.absent("admitted") > 0).all()
    assert made.where("discharged", where["discharged"]).all()


def test_conditions_that_cannot_be_met_are_told_at_once(model: TableSynthesizer) -> None:
    months = {"discharged": "2021-01-01..2021-01-31", "admitted": "2020-01-01..2020-01-31"}
    with pytest.raises(ConfigError, match="conditions that go together"):
        model.sample(10, where=months)
    for text in ("2020-02-30", "2020-13-01..", "2020-05-03 12:00"):
        with pytest.raises(ConfigError, match="as a date, 1976-11-16"):
            model.sample(5, where={"discharged": text})


def test_a_day_is_all_of_it_where_there_are_times() -> None:
    rng = np.random.default_rng(0)
    seen = pd.Timestamp("2020-03-01") + pd.to_timedelta(rng.integers(0, 5 * 86_400, 600), unit="s")
    frame = pd.DataFrame({"seen": seen.strftime("%Y-%m-%d %H:%M:%S"), "sex": ["F", "M"] * 300})
    table = from_frame(frame)
    days = frame["seen"].str[:10]
    assert table.where("seen", "2020-03-02").sum() == (days == "2020-03-02").sum()
    assert table.where("seen", "2020-03-02..2020-03-03").sum() == days.between(
        "2020-03-02", "2020-03-03").sum()  # fmt: skip
    made = tabular.fit(frame, epochs=1).sample(200, where={"seen": "2020-03-02"})["seen"]
    assert made.str.startswith("2020-03-02").all()
    assert made.nunique() > 50


def test_whole_minutes_stay_whole_and_a_declared_range_keeps_times() -> None:
    """Seconds were made up, and a declared range deleted the time of day."""
    rng = np.random.default_rng(0)
    seen = pd.Timestamp("2020-03-01") + pd.to_timedelta(rng.integers(0, 9000, 400), unit="min")
    frame = pd.DataFrame({"seen": seen.strftime("%Y-%m-%d %H:%M:%S"), "sex": ["F", "M"] * 200})
    bare = {
        "columns": [{"name": "seen", "kind": "date", "low": "2020-01-01", "high": "2020-03-07"}]
    }
    for schema in (None, Schema.from_json(bare)):
        table = from_frame(frame, schema)
        assert table.schema.columns[0].decimals == 1
        pd.testing.assert_frame_equal(to_frame(table), frame)
        made = tabular.fit(frame, schema=schema, epochs=1).sample(200)["seen"]
        assert made.str.endswith(":00").all()
        assert not made.str.endswith("00:00:00").all()


def test_an_age_fits_birth_and_admission(tmp_path: Path) -> None:
    """It missed them by eleven years."""
    frame = stays(1200)
    frame.loc[frame["admitted"] == "", "admitted"] = "2020-06-01"
    born, admitted = (pd.to_datetime(frame[name]) for name in ("born", "admitted"))
    frame.insert(0, "age", ((admitted - born).dt.days / 365.25).astype(int).astype(str))
    table = from_frame(frame)
    (span,) = (s for s in Spans.find(table).of if s.column == "born")
    assert (span.since, span.years) == ("admitted", "age")
    fitted = tabular.fit(frame, epochs=10)
    made = fitted.sample(800)
    fitted.save(tmp_path / "model.safetensors")
    again = tabular.Fitted.load(tmp_path / "model.safetensors").sample(800)
    pd.testing.assert_frame_equal(again, made)
    born, admitted = (pd.to_datetime(made[name]) for name in ("born", "admitted"))
    gap = (admitted - born).dt.days / 365.25 - made["age"].astype(int)
    assert gap.between(-0.01, 1.01).mean() > 0.97
    assert (made["age"].astype(int).mean() - frame["age"].astype(int).mean()) < 3
