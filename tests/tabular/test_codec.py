"""Cells go back to what they came from: names, numbers on their grid, missing marks, modes."""

import numpy as np
import pandas as pd
import pytest

from medsynth.core.frames import from_frame
from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.tabular.codec import Codec, Tokens
from medsynth.tabular.private import codec as codec_of


def ward(rows: int) -> Table:
    rng = np.random.default_rng(0)
    return from_frame(
        pd.DataFrame(
            {
                "sex": rng.choice(["F", "M", "?"], rows),
                "site": [f"s{int(n)}" for n in np.minimum(rng.zipf(1.7, rows), 40)],
                "age": rng.integers(18, 100, rows),
                "kps": rng.choice([60, 70, 80, 90, 100], rows),
                "dose": np.where(rng.random(rows) < 0.3, 0, np.round(rng.lognormal(3, 1, rows), 1)),
                "two": np.round(np.where(rng.random(rows) < 0.5, rng.normal(0, 1, rows),
                                         rng.normal(50, 2, rows)), 2),
                "weight": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(70, 12, rows)),
            }
        )
    )  # fmt: skip


@pytest.mark.parametrize("rows", [60, 500, 5000])
@pytest.mark.parametrize("modes", [False, True])
def test_cells_go_back_to_their_values(rows: int, modes: bool) -> None:
    table = ward(rows)
    codec = Codec.fit(table, modes)
    cells = codec.cells(table)
    assert (cells.tokens >= 0).all()
    assert (cells.tokens < np.array(codec.sizes)).all()
    assert (cells.offsets >= 0).all()
    assert (cells.offsets <= 1).all()
    back = codec.decode(cells.tokens, Key(0), cells.offsets)
    for name in ("sex", "site", "age", "kps", "dose", "two"):
        away = back.values[name] != table.values[name]
        assert away.mean() <= (0.01 if modes else 0.002), name  # beyond four sd of a mode
    assert (back.absent("sex") == table.absent("sex")).all()
    assert (back.absent("weight") == table.absent("weight")).all()
    known = table.absent("weight") == 0
    assert back.values["weight"][known] == pytest.approx(table.values["weight"][known], rel=0.01)


def test_numbers_keep_their_grid_and_range_whatever_the_offset() -> None:
    table = ward(800)
    codec = Codec.fit(table)
    back = codec.decode(codec.encode(table), Key(3))
    for name in ("age", "kps"):
        assert (back.values[name] % 1 == 0).all()
    assert np.round(back.values["dose"], 1) == pytest.approx(back.values["dose"], abs=0)
    for name in ("age", "dose", "two"):
        assert back.values[name].min() >= table.values[name].min()
        assert back.values[name].max() <= table.values[name].max()
    assert ((back.values["dose"] == 0) == (table.values["dose"] == 0)).all()
    for q in (0.1, 0.5, 0.9):
        own, made = (np.quantile(t.values["dose"], q) for t in (table, back))
        assert made == pytest.approx(own, rel=0.1, abs=0.3)


@pytest.mark.parametrize("low", [18, 20_000])
@pytest.mark.parametrize(("rows", "apart"), [(600, 0.07), (4000, 0.03)])
def test_values_of_a_bin_are_drawn_as_often_as_they_were_seen(
    rows: int, apart: float, low: int
) -> None:
    """Ages were cut by quantiles: 58 came twice as often as it should, and 59 hardly ever."""
    rng = np.random.default_rng(0)
    ages = low + np.clip(np.rint(rng.normal(42, 15, rows)), 0, 80)
    kind = "int64" if low == 18 else "datetime64[s]"
    numbers = ages.astype(int) if low == 18 else (ages.astype(int) * 86_400).astype(kind)
    table = from_frame(pd.DataFrame({"age": numbers}))
    codec = Codec.fit(table)
    assert codec.columns[0].bins > 10
    found, counts = np.unique(table.values["age"], return_counts=True)
    again = codec.decode(np.repeat(codec.encode(table), 60_000 // rows, 0), Key(1)).values["age"]
    drawn = np.array([(again == value).mean() for value in found])
    away = 0.5 * np.abs(drawn - counts / rows).sum() + 0.5 * (1 - drawn.sum())
    assert away < apart
    often = counts > 0.015 * rows
    assert drawn[often] == pytest.approx(counts[often] / rows, rel=0.3)


def test_values_of_a_private_bin_are_drawn_as_often_as_they_were_seen() -> None:
    rng = np.random.default_rng(0)
    tens = 10 * np.clip(np.rint(rng.normal(8, 1.5, 2000)), 1, 10)
    table = from_frame(pd.DataFrame({"kps": tens, "age": np.rint(rng.normal(60, 9, 2000))}))
    codec, _ = codec_of(table, 1e-3, Key(0))
    assert [tokens.bins > 10 for tokens in codec.columns] == [True, False]
    again = codec.decode(np.repeat(codec.encode(table), 20, 0), Key(1)).values["kps"]
    for value in (60, 70, 80, 90, 100):
        assert (again == value).mean() == pytest.approx((tens == value).mean(), abs=0.01)


def test_two_modes_are_found() -> None:
    table = ward(5000)
    tokens = next(t for t in Codec.fit(table, modes=True).columns if t.column.name == "two")
    means = tokens.modes[:, 0]
    assert np.abs(means - 0).min() < 1
    assert np.abs(means - 50).min() < 1
    assert len(means) < 10


def test_rare_levels_share_a_token_and_come_back_as_often() -> None:
    table = ward(5000)
    codec = Codec.fit(table, rare=0.02)
    tokens = codec.columns[codec.names.index("site")]
    plain = len(tokens.column.levels)
    assert 1 < len(tokens.rare) < plain
    assert tokens.size == plain - len(tokens.rare) + 1
    back = codec.decode(codec.encode(table), Key(1))
    shares = [np.bincount(t.values["site"], minlength=plain) / t.rows for t in (table, back)]
    assert np.abs(shares[0] - shares[1]).max() < 0.01
    kept = ~np.isin(table.values["site"], tokens.rare[:, 0])
    assert (back.values["site"][kept] == table.values["site"][kept]).all()


def test_few_rows_get_few_tokens() -> None:
    sizes = [
        dict(zip(c.names, c.sizes, strict=True)) for c in map(Codec.fit, map(ward, (200, 5000)))
    ]
    assert sizes[0]["age"] < 30 < sizes[1]["age"]


def test_a_codec_survives_json() -> None:
    codec = Codec.fit(ward(500), modes=True, rare=0.01)
    again = Codec.from_json(codec.to_json(), codec.arrays())
    one, two = (c.cells(ward(500)) for c in (codec, again))
    assert (one.tokens == two.tokens).all()
    assert (one.offsets == two.offsets).all()


def test_tokens_of_a_column_without_values() -> None:
    table = from_frame(pd.DataFrame({"a": [None] * 60, "b": range(60)}))
    tokens = Codec.fit(table).columns[0]
    assert isinstance(tokens, Tokens)
    back = Codec.fit(table).decode(Codec.fit(table).encode(table), Key(0))
    assert (back.absent("a") > 0).all()
