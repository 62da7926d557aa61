"""Targets are met to the row, by the combinations that exist; what cannot be met is named."""

import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsynth.core.random import Key
from medsynth.core.table import Column, Schema, Table, concatenate
from medsynth.errors import ConfigError, DataError, UsageError
from medsynth.tabular.equalise import (
    OWN,
    REAL,
    Target,
    afterwards,
    equalised,
    joint_counts,
    parse_targets,
)
from medsynth.tabular.raking import effective, margin, raked, rounded
from tests.tabular.samplers import names, resampler, same

WARD = names(
    sex="F" * 80 + "M" * 38 + "?" * 2,
    site="b" * 60 + "l" * 20 + "b" * 1 + "l" * 17 + "p" * 20 + "l?",
)
"""Women have b or l; men l or p, and one has b; one record has no sex, one has neither."""


def asked(*texts: str, table: Table = WARD) -> tuple[Target, ...]:
    return parse_targets(texts, table.schema)


def test_raking_keeps_the_odds_ratio_of_two_by_two() -> None:
    counts = np.array([[40, 10], [20, 30]])  # odds ratio 40 · 30 / (10 · 20) = 6
    half = np.array([0.5, 0.5])
    fitted = raked(counts, [half, half])
    corner = 0.5 * np.sqrt(6) / (1 + np.sqrt(6))
    assert fitted == pytest.approx(
        np.array([[corner, 0.5 - corner], [0.5 - corner, corner]]), abs=1e-9
    )


def test_raking_by_hand() -> None:
    # 0.8 · [40 10]/50 and 0.2 · [20 30]/50; their columns already add up to .72 and .28
    fitted = raked(np.array([[40, 10], [20, 30]]), [np.array([0.8, 0.2]), np.array([0.72, 0.28])])
    assert fitted == pytest.approx(np.array([[0.64, 0.16], [0.08, 0.12]]))


def test_a_limit_on_the_boundary_is_reached() -> None:
    # One man with breast cancer: half men and half prostate leaves no room for him.
    counts = np.array([[1000, 0], [1, 1000]])
    fitted = raked(counts, [np.array([0.5, 0.5]), np.array([0.5, 0.5])])
    assert fitted is not None
    assert fitted.tolist() == [[0.5, 0], [0, 0.5]]


def test_no_solution_is_none() -> None:
    assert raked(np.array([[5, 0], [0, 5]]), [np.array([0.5, 0.5]), np.array([0.4, 0.6])]) is None


@st.composite
def feasible(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray]]:
    """Counts with empty cells, and margins of some distribution over the others."""
    shape = draw(st.sampled_from([(2,), (5,), (2, 2), (2, 7), (4, 5), (2, 3, 2), (3, 3, 3)]))
    size = int(np.prod(shape))
    counts = draw(st.lists(st.integers(0, 30), min_size=size, max_size=size).filter(any))
    parts = draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    cells = np.array(parts).reshape(shape) * (np.array(counts).reshape(shape) > 0)
    if not cells.any():
        cells = np.array(counts).reshape(shape)
    return np.array(counts).reshape(shape), [
        margin(cells, axis) / cells.sum() for axis in range(len(shape))
    ]


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(feasible(), st.integers(1, 3000))
def test_margins_are_met_within_a_row(case: tuple[np.ndarray, list[np.ndarray]], rows: int) -> None:
    counts, shares = case
    fitted = raked(counts, shares)
    assert fitted is not None
    assert (fitted[counts == 0] == 0).all()
    made = rounded(fitted, shares, rows)
    assert made.sum() == rows
    assert (np.abs(made - fitted * rows) < 1).all()
    for axis, share in enumerate(shares):
        assert margin(fitted, axis) == pytest.approx(share, abs=1e-6)
        assert np.abs(margin(made, axis) - share * rows).max() <= 1


def test_rounding_does_not_add_up_over_many_cells() -> None:
    # Largest remainders of single cells would make all 100 rows women.
    shares = [np.array([0.6, 0.4]), np.full(100, 0.01)]
    made = rounded(np.outer(*shares), shares, 100)
    assert margin(made, 0).tolist() == [60, 40]
    assert margin(made, 1).tolist() == [1] * 100


def test_one_target_is_rounded_by_largest_remainders() -> None:
    shares = np.array([0.335, 0.333, 0.332])
    assert rounded(shares, [shares], 10).tolist() == [4, 3, 3]


def test_effective_rows_by_hand() -> None:
    # 80 women with weight .5/80 and 20 men with .5/20: 1 / (80 (.5/80)² + 20 (.5/20)²) = 64
    assert effective(np.array([80, 20]), np.array([0.5, 0.5])) == pytest.approx(64)
    assert effective(np.array([80, 20]), np.array([0.8, 0.2])) == pytest.approx(100)


def test_both_targets_are_met_and_told() -> None:
    targets = asked("sex=F:0.5,M:0.5", "site=b:0.3,l:0.4,p:0.3")
    table, report = equalised(resampler(WARD), WARD, targets, 200, Key(0))
    counts = joint_counts(table, targets)
    assert margin(counts, 0).tolist() == [100, 100, 0]
    assert margin(counts, 1).tolist() == [60, 80, 60, 0]
    assert counts[0, 2] == 0
    assert table.values["id"].tolist() == list(range(200))
    assert (np.diff(table.values["sex"]) != 0).sum() > 50  # shuffled
    told = {(s.column, s.level): s for s in report.shares}
    assert set(told) == {(c, t) for c, ts in (("sex", "FM?"), ("site", "blp?")) for t in ts}
    assert told["sex", "M"].observed == pytest.approx(38 / 120)
    assert told["site", "p"].wanted == told["site", "p"].reached == pytest.approx(0.3)
    assert (report.rows_behind, report.behind) == (120, REAL)
    assert 1 < report.effective_rows < 120
    assert json.loads(json.dumps(report.to_json()))["shares"][0]["level"] == "F"


def test_counts_do_for_rows() -> None:
    targets = asked("sex=F:0.5,M:0.5")
    counts = joint_counts(WARD, targets)
    assert counts.tolist() == [80, 38, 2]
    both = [equalised(resampler(WARD), joint, targets, 50, Key(1)) for joint in (WARD, counts)]
    assert same(both[0][0], both[1][0])
    assert both[0][1] == both[1][1]
    with pytest.raises(DataError, match=r"counts of \(3,\) levels, found \(2,\)"):
        equalised(resampler(WARD), counts[:2], targets, 50, Key(1))


def test_the_same_key_gives_the_same_bytes() -> None:
    targets = asked("sex=F:0.5,M:0.5")
    one, two, other = (equalised(resampler(WARD), WARD, targets, 60, Key(s))[0] for s in (3, 3, 4))
    assert same(one, two)
    assert not same(one, other)


def test_every_combination_has_a_key_of_its_own() -> None:
    asked_for: list[tuple[int, Key, dict[str, str]]] = []

    def draw(rows: int, key: Key, where: Mapping[str, str]) -> Table:
        asked_for.append((rows, key, dict(where)))
        return resampler(WARD)(rows, key, where)

    for seed in (0, 1):
        equalised(draw, WARD, asked("sex=F:0.5,M:0.25,?:0.25"), 8, Key(seed))
    assert [(rows, where["sex"]) for rows, _, where in asked_for[:3]] == [
        (4, "F"), (2, "M"), (2, "?"),
    ]  # fmt: skip
    assert len({key for _, key, _ in asked_for}) == 6


def test_few_real_rows_are_warned_of() -> None:
    targets = asked("sex=F:0.2,M:0.8", "site=b:0.7,l:0.1,p:0.2")
    _, report = equalised(resampler(WARD), WARD, targets, 1000, Key(0))
    assert report.fewest == 1
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith("sex=M, site=b: 5")
    assert report.warnings[0].endswith("synthetic rows rest on 1 real")
    _, calm = equalised(resampler(WARD), WARD, asked("sex=F:0.5,M:0.5"), 1000, Key(0))
    assert calm.warnings == ()
    assert calm.fewest == 38


def test_rows_of_the_models_own_are_nobody() -> None:
    _, report = equalised(resampler(WARD), WARD, asked("sex=F:0.2,M:0.8"), 1000, Key(0), OWN)
    assert report.fewest == 38
    assert report.warnings == ()
    assert "real" not in json.dumps(report.to_json())


def test_a_combination_that_the_model_seldom_makes_is_warned_of() -> None:
    """Men with breast cancer by the hundred, and nobody was told."""
    ward = concatenate([WARD] * 20 + [WARD.take(np.flatnonzero(WARD.where("sex", "F")))] * 40)
    targets = asked("sex=F:0.2,M:0.8", "site=b:0.7,l:0.1,p:0.2", table=ward)
    _, report = equalised(resampler(ward), ward, targets, 1000, Key(0), OWN)
    (warning,) = report.warnings
    assert warning.startswith("sex=M, site=b: ")
    assert warning.endswith(f"makes 20 times in {ward.rows:,}; --real tells how many people "
                            "stand behind it")  # fmt: skip
    _, calm = equalised(resampler(ward), ward, asked("sex=F:0.5,M:0.5"), 1000, Key(0), OWN)
    assert calm.warnings == ()


def test_shares_are_told_anew_when_rows_change() -> None:
    targets = asked("sex=F:0.5,M:0.5")
    table, report = equalised(resampler(WARD), WARD, targets, 100, Key(0))
    rows = [*np.flatnonzero(table.where("sex", "F"))[:20], *np.flatnonzero(table.where("sex", "M"))]
    changed = concatenate([table.take(rows), WARD.take(np.flatnonzero(WARD.where("sex", "?")))])
    told = {share.level: share for share in afterwards(report, changed, targets).shares}
    assert [told[level].reached for level in "FM?"] == [20 / 72, 50 / 72, 2 / 72]
    assert told["F"].wanted == 0.5
    assert told["F"].observed == pytest.approx(80 / 120)


def test_missing_values_are_a_level() -> None:
    table, report = equalised(resampler(WARD), WARD, asked("sex=F:0.25,?:0.75"), 40, Key(0))
    assert (table.absent("sex") == 1).sum() == 30
    assert report.fewest == 2
    none, _ = equalised(resampler(WARD), WARD, asked("sex=F:0.5,M:0.5"), 40, Key(0))
    assert not none.absent("sex").any()


def test_the_rest_is_divided_as_observed() -> None:
    (target,) = asked("site=p:0.5,*:0.5")
    assert target.others == ("b", "l", "?")
    table, _ = equalised(resampler(WARD), WARD, [target], 200, Key(0))
    assert joint_counts(table, [target]).tolist() == [61, 38, 100, 1]  # 61 : 38 : 1 observed


@pytest.mark.parametrize(("texts", "words"), [
    (["site=p:0.5,l:0.5", "sex=F:1.0"], "site=p:0.5 with sex=F:1: none of 120 real rows has both, "
     "so site=p can be 0 at most; beside sex=F there are site=b, l."),
    (["sex=F:0.8,M:0.2", "site=p:0.5,b:0.5"], r"sex=F:0.8 with site=p:0.5: none .* beside site=p "
                                              r"there are sex=M\."),
    (["sex=?:0.5,F:0.5", "site=b:0.9,p:0.1"], r"sex=\?:0.5 with site=b:0.9,p:0.1: none .* beside "
                                              r"site=b, p there are sex=F, M\."),
])  # fmt: skip
def test_what_cannot_be_met_is_named(texts: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        equalised(resampler(WARD), WARD, asked(*texts), 100, Key(0))


def test_what_only_three_columns_forbid_is_named_too() -> None:
    table = names(a="YNN" * 9, b="NYN" * 9, c="NNY" * 9)  # exactly one is Y
    targets = asked("a=Y:0.5,N:0.5", "b=Y:0.5,N:0.5", "c=Y:0.5,N:0.5", table=table)
    with pytest.raises(DataError, match=r"a=N:0.5,Y:0.5 with b=N:0.5,Y:0.5 with c=N:0.5,Y:0.5.* "
                       r"occur has: a=N b=N c=Y; a=N b=Y c=N; a=Y b=N c=N\."):  # fmt: skip
        equalised(resampler(table), table, targets, 100, Key(0))


def test_levels_that_never_occur_are_named() -> None:
    women = WARD.take(np.flatnonzero(WARD.where("sex", "F")))
    with pytest.raises(
        DataError, match=r"sex=M:0.5, but none of 80 real rows has it; there are sex=F"
    ):
        equalised(resampler(women), women, asked("sex=F:0.5,M:0.5"), 10, Key(0))
    with pytest.raises(DataError, match=r"sex=\*:0.5, but none of 80 real rows has another"):
        equalised(resampler(women), women, asked("sex=F:0.5,*:0.5"), 10, Key(0))


def test_levels_may_hold_commas_colons_and_equals_signs() -> None:
    levels = ("C50: left, upper", "a=b", "", "1:2")
    schema = Schema((Column("dx=1", "categorical", levels),))
    (target,) = parse_targets(["dx=1=C50: left, upper:0.25, a=b:0.25,:0.25,1:2:0.25"], schema)
    assert target == Target("dx=1", dict.fromkeys(levels, 0.25))


@pytest.mark.parametrize(("texts", "words"), [
    (["sxe=F:1"], "Did you mean 'sex'"),
    (["site=bb:1"], "Did you mean 'b'"),
    (["sex=F:0.5,M:0.4"], "add up to 1, found 0.9"),
    (["sex=F:1.5,M:-0.5"], "between 0 and 1, found F:1.5"),
    (["sex=F:0.5,F:0.5"], "'F' twice"),
    (["sex=F:1", "sex=M:1"], "one target for a column"),
    (["age=40:1"], "found a column of kind integer in age. Declare it categorical"),
    (["id=40:1"], "found a column of kind identifier"),
    (["sex"], "shares like sex=A:0.5,B:0.5"),
    (["sex=F:0.5,M"], "shares like sex=A:0.5,B:0.5"),
    (["sex=F:1e"], "shares like sex=A:0.5,B:0.5"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(texts: list[str], words: str) -> None:
    schema = Schema((*WARD.schema.columns, Column("age", "integer")))
    with pytest.raises(ConfigError, match=words):
        parse_targets(texts, schema)


def test_thirds_need_no_more_than_six_digits() -> None:
    (target,) = asked("site=b:0.3333333,l:0.3333333,p:0.3333333")
    assert sum(target.shares.values()) == pytest.approx(1, abs=1e-15)


def test_nothing_to_do_is_refused() -> None:
    for targets, rows in ((asked("sex=F:1"), 0), ((), 10)):
        with pytest.raises(UsageError, match="at least 1 row and 1 target"):
            equalised(resampler(WARD), WARD, targets, rows, Key(0))


def test_too_many_combinations_are_refused() -> None:
    level = {f"l{i}": float(i == 0) for i in range(1001)}
    with pytest.raises(DataError, match="1001 × 1001"):
        joint_counts(WARD, [Target("sex", level), Target("site", level)])


def test_tables_are_put_together() -> None:
    parts = [WARD.take([0, 118]), WARD.take([80])]
    whole = concatenate(parts)
    assert whole.values["id"].tolist() == [0, 1, 2]
    assert whole.places("sex").tolist() == [0, 2, 1]
    assert whole.values["sex"].dtype == np.int32
    assert concatenate([WARD.take([0])]).rows == 1
    with pytest.raises(DataError, match="one schema"):
        concatenate([WARD, names(sex="F")])
    with pytest.raises(DataError, match="found none"):
        concatenate([])


def test_missing_marks_survive_beside_tables_without() -> None:
    bare = Table(WARD.schema, WARD.take([0]).values)
    whole = concatenate([bare, WARD.take([118])])
    assert whole.absent("sex").tolist() == [0, 1]


def test_the_order_of_targets_does_not_matter() -> None:
    one = asked("sex=F:0.4,M:0.6", "site=b:0.3,l:0.4,p:0.3")
    cells = []
    for targets in (one, one[::-1]):
        seen = joint_counts(WARD, targets)
        cells.append(raked(seen, [t.wanted(margin(seen, i), REAL) for i, t in enumerate(targets)]))
    assert cells[1] is not None
    assert cells[0] == pytest.approx(cells[1].T, abs=1e-9)
