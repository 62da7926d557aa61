"""No cell is smaller than k, whatever the table and the model; what it took is told."""

import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsynth.core.random import Key
from medsynth.core.table import Column, Schema, Table
from medsynth.errors import ConfigError, DataError
from medsynth.tabular.anonymity import anonymous, parse_quasi
from medsynth.tabular.quasi import exact
from tests.tabular.samplers import names, resampler, same

SMALL = names(sex="AAAAABBBC", drug="xyxyxyxyx")
"""Cells of 5, 3 and 1 rows."""


def aged(ages: list[float], sexes: str, gone: tuple[int, ...] = ()) -> Table:
    """Ages beside names; some ages are missing."""
    table = names(sex=sexes)
    column = Column("age", "integer", marks=("NA",), low=0, high=120)
    absent = np.isin(np.arange(len(ages)), gone).astype(np.int16)
    return Table(
        Schema((*table.schema.columns, column)),
        {**table.values, "age": np.array(ages, float)},
        {**table.missing, "age": absent},
    )


def sizes(table: Table, texts: list[str], like: Table) -> list[int]:
    """Rows of each cell, counted one by one; bands are those of another table."""
    quasi = parse_quasi(texts, like)
    cells = list(zip(*(q.places(table).tolist() for q in quasi), strict=True))
    return sorted(cells.count(cell) for cell in set(cells))


def test_a_small_table_by_hand() -> None:
    # k = 4: B needs one more row (or loses three), C would need three and loses its one.
    quasi = parse_quasi(["sex"], SMALL)
    after, report = anonymous(resampler(SMALL), SMALL, quasi, 4, Key(0))
    assert np.bincount(after.places("sex"), minlength=3).tolist() == [5, 4, 0]
    assert after.values["id"].tolist() == list(range(9))
    told = report.to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["drift"] == {"sex": pytest.approx(1 / 9)}  # 5 3 1 of nine, then 5 4 0
    assert told["joint_drift"] == pytest.approx(1 / 9)
    del told["drift"], told["joint_drift"]
    assert told == {
        "k": 4, "quasi": {"sex": []}, "rows_before": 9, "rows_after": 9,
        "cells_before": 3, "cells_after": 2, "small_before": 2, "smallest_before": 1,
        "smallest_after": 4, "filled": 1, "added": 1, "left_out": 1, "dropped": 1,
        "not_generated": 0,
    }  # fmt: skip


def test_a_tie_is_filled() -> None:
    # k = 6: A (5) needs 1, B (3) needs 3 and has 3, C (1) goes.
    after, report = anonymous(resampler(SMALL), SMALL, parse_quasi(["sex"], SMALL), 6, Key(0))
    assert np.bincount(after.places("sex"), minlength=3).tolist() == [6, 6, 0]
    assert (report.added, report.dropped) == (4, 1)


def test_nothing_to_do_changes_nothing() -> None:
    table = names(sex="AAABBB")

    def never(rows: int, key: Key, where: Mapping[str, str]) -> Table:
        raise AssertionError

    after, report = anonymous(never, table, parse_quasi(["sex"], table), 3, Key(0))
    assert same(after, table)
    assert (report.added, report.dropped, report.small_before) == (0, 0, 0)
    assert report.drift == {"sex": 0.0}
    assert report.joint_drift == 0.0


def test_dropping_alone_keeps_the_order() -> None:
    table = names(sex="ABAAAAC", drug="xyxyxyy")
    after, report = anonymous(resampler(table), table, parse_quasi(["sex"], table), 4, Key(0))
    assert (report.dropped, report.added) == (2, 0)
    assert after.values["drug"].tolist() == [0, 0, 1, 0, 1]
    assert after.values["id"].tolist() == [0, 1, 2, 3, 4]


def test_missing_values_are_cells_of_their_own() -> None:
    table = aged([30] * 5 + [60] * 5 + [0, 0], "AAAAAAAAAA??", gone=(0, 1, 2))
    quasi = parse_quasi(["sex", "age"], table)
    assert [q.size for q in quasi] == [2, 4]
    # cells: (A, NA) 3, (A, 30) 2, (A, 60) 5, (?, 0) 2
    after, report = anonymous(resampler(table), table, quasi, 3, Key(0))
    assert (report.cells_before, report.small_before) == (4, 2)
    assert (report.filled, report.added, report.dropped) == (2, 2, 0)
    assert sizes(after, ["sex", "age"], table) == [3, 3, 3, 5]
    assert (after.absent("sex") > 0).sum() == 3


def test_bands_are_waited_for() -> None:
    rng = np.random.default_rng(0)
    known = aged(rng.integers(20, 90, 4000).tolist(), "".join(rng.choice(["A", "B"], 4000)))
    table = known.take(np.arange(150))
    quasi = parse_quasi(["sex", "age=30,40,50,60,70,80"], table)
    assert quasi[1].places(aged([29, 30, 95], "AAB")).tolist() == [0, 1, 6]
    before = sizes(table, ["sex", "age=30,40,50,60,70,80"], table)
    assert min(before) < 12
    after, report = anonymous(resampler(known), table, quasi, 12, Key(0))
    assert report.not_generated == 0
    assert report.added == sum(12 - n for n in before if 6 <= n < 12)
    assert report.dropped == sum(n for n in before if n < 6)
    assert min(sizes(after, ["sex", "age=30,40,50,60,70,80"], table)) == 12


def test_what_the_model_cannot_make_is_left_out() -> None:
    young = aged([30] * 50, "A" * 25 + "B" * 25)
    table = aged([30] * 5 + [60] * 3, "AAAAABBB")
    quasi = parse_quasi(["age"], table)
    asked: list[tuple[int, Key]] = []

    def draw(rows: int, key: Key, where: Mapping[str, str]) -> Table:
        asked.append((rows, key))
        return resampler(young)(rows, key, where)

    after, report = anonymous(draw, table, quasi, 4, Key(0))
    assert [rows for rows, _ in asked] == [64] * 20  # bounded
    assert len({key for _, key in asked}) == 20
    assert (report.not_generated, report.filled, report.dropped) == (1, 0, 3)
    assert after.rows == 5


def test_a_model_that_refuses_has_its_cells_left_out() -> None:
    only_a = names(sex="AAB").take([0, 1])
    table = names(sex="AAAABB")
    after, report = anonymous(resampler(only_a), table, parse_quasi(["sex"], table), 3, Key(0))
    assert (report.not_generated, report.dropped) == (1, 2)
    assert after.rows == 4


def test_a_model_that_does_not_listen_is_not_believed() -> None:
    table = names(sex="AAAABB")
    deaf = resampler(table)
    after, report = anonymous(
        lambda rows, key, where: deaf(rows, key, {"sex": "A"}), table,
        parse_quasi(["sex"], table), 3, Key(0),
    )  # fmt: skip
    assert (report.not_generated, report.added) == (1, 0)
    assert after.places("sex").tolist() == [0] * 4


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("AAAB?"), st.integers(0, 30), st.booleans()), min_size=2,
        max_size=60,
    ),
    st.integers(2, 8),
    st.sampled_from([["sex"], ["age"], ["sex", "age"], ["age=5,20", "sex"]]),
)  # fmt: skip
def test_no_cell_is_ever_small(rows: list[tuple[str, int, bool]], k: int, texts: list[str]) -> None:
    gone = tuple(i for i, row in enumerate(rows) if row[2])
    table = aged([row[1] for row in rows], "".join(row[0] for row in rows), gone)
    quasi = parse_quasi(texts, table)
    before = sizes(table, texts, table)
    try:
        after, report = anonymous(resampler(table), table, quasi, k, Key(0))
    except DataError:
        # No rows left: every cell is worth dropping, or there were fewer rows than k.
        assert k > len(rows) or max(before) < k
        return
    left = sizes(after, texts, table)
    assert min(left) >= k
    assert report.smallest_after == min(left)
    assert report.rows_after == after.rows == len(rows) + report.added - report.dropped
    assert report.cells_after == len(left) == len(before) - report.left_out
    assert report.small_before == report.filled + report.left_out == sum(n < k for n in before)
    assert report.added + report.dropped >= sum(min(n, k - n) for n in before if n < k)
    assert all(0 <= gap <= report.joint_drift + 1e-12 for gap in report.drift.values())
    assert after.values["id"].tolist() == list(range(after.rows))


def test_the_same_key_gives_the_same_bytes() -> None:
    quasi = parse_quasi(["sex"], SMALL)
    one, two, other = (anonymous(resampler(SMALL), SMALL, quasi, 6, Key(s))[0] for s in (1, 1, 2))
    assert same(one, two)
    assert not same(one, other)


def test_deciles_hold_a_tenth_each_and_few_values_a_band_each() -> None:
    wide = aged(list(range(100)), "A" * 100)
    (quasi,) = parse_quasi(["age"], wide)
    assert np.bincount(quasi.places(wide)).tolist() == [10] * 10
    assert quasi.size == 11  # and a missing mark
    few = aged([1, 2, 2, 4, 4, 9], "AAAAAA")
    assert parse_quasi(["age"], few)[0].edges == (2, 4, 9)
    assert parse_quasi(["age"], aged([0, 0], "AA", gone=(0, 1)))[0].edges == ()


def test_bands_are_suggested_where_nobody_named_them() -> None:
    wide = aged(list(range(100)), "A" * 100)
    for texts, told in ((["age"], 1), (["age=30,60"], 0), (["sex"], 0)):
        words = list(exact(texts, parse_quasi(texts, wide), wide))
        assert len(words) == told
    assert next(exact(["age"], parse_quasi(["age"], wide), wide)).endswith("--quasi age=30,60,90")
    few = aged([1, 2, 2, 4, 4, 9], "AAAAAA")
    assert not list(exact(["age"], parse_quasi(["age"], few), few))
    days = Table(
        Schema((Column("seen", "date", low=0, high=20000),)), {"seen": np.arange(18000.0, 18400.0)}
    )
    (words,) = exact(["seen"], parse_quasi(["seen"], days), days)
    assert words.endswith("--quasi seen=2019-08-12,2019-12-10,2020-04-08")


def test_dates_have_edges_as_they_are_written() -> None:
    table = Table(
        Schema((Column("seen", "date", low=0, high=20000),)), {"seen": np.arange(18000.0, 18400.0)}
    )
    (quasi,) = parse_quasi(["seen=2019-06-01,2020-01-01"], table)
    assert quasi.edges == (18048.0, 18262.0)


@pytest.mark.parametrize(("texts", "words"), [
    ([], "quasi-identifiers, found none"),
    (["sxe"], "Did you mean 'sex'"),
    (["aeg=3,4"], "Did you mean 'age'"),
    (["id"], "found an identifier in id"),
    (["sex", "sex"], "each quasi-identifier once"),
    (["sex=1,2"], "bands of a column of numbers, found categorical levels in sex"),
    (["age=40,30"], "ascending order, found 40,30"),
    (["age=30,inf"], "age from 0 to"),
    (["age=old"], "age as integer"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(texts: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_quasi(texts, aged([30, 40], "AB"))


def test_a_k_that_makes_no_sense_is_refused() -> None:
    quasi = parse_quasi(["sex"], SMALL)
    for k, columns in ((1, quasi), (3, ())):
        with pytest.raises(ConfigError, match="k of at least 2 and a column"):
            anonymous(resampler(SMALL), SMALL, columns, k, Key(0))
    with pytest.raises(DataError, match="at least k = 10 rows, found 9"):
        anonymous(resampler(SMALL), SMALL, quasi, 10, Key(0))
    lonely = names(sex="ABCDEFG")
    with pytest.raises(DataError, match="found 7 cells of at most 1 rows"):
        anonymous(resampler(lonely), lonely, parse_quasi(["sex"], lonely), 5, Key(0))
