"""Records without a patient: the same key the same rows, rules kept, relations to be learnt."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import mutual_info_score

from medsynth.core.frames import from_frame
from medsynth.core.random import Key
from medsynth.errors import ConfigError
from medsynth.evaluation.tables import detection, predicted
from medsynth.phantom import records
from medsynth.tabular.baselines import Copula

ROWS = 12_000


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return records.clinical(ROWS, Key(5))


@pytest.fixture(scope="module")
def hospital() -> tuple[sparse.csr_matrix, tuple[str, ...]]:
    return records.codes(6000, 400, Key(5))


def test_the_same_key_gives_the_same_rows_and_more_rows_have_them_first() -> None:
    few, again, many = (records.clinical(rows, Key(1)) for rows in (300, 300, 900))
    assert few.to_csv() == again.to_csv()
    assert few.to_csv() == many.head(300).to_csv()
    assert few.to_csv() != records.clinical(300, Key(2)).to_csv()


def test_columns_are_21_of_all_kinds(frame: pd.DataFrame) -> None:
    assert frame.shape == (ROWS, 21)
    assert set(frame.columns[12:20]) == set(records.CODES)
    assert frame["site"].nunique() == 20
    assert set(frame["grade"]) == {1, 2, 3, 4}
    assert (frame["kps"].dropna() % 10 == 0).all()
    assert frame["age"].between(18, 95).all()
    for name in ("whole_ml", "core_ml"):
        skew = [np.log(frame[name]).skew(), frame[name].skew()]
        assert abs(skew[0]) < 0.5 < 2 < skew[1], name
    assert 0.4 < (frame["drain_ml"] == 0).mean() < 0.8
    assert frame["drain_ml"][frame["drain_ml"] > 0].min() >= 5


def test_rare_codes_are_rare_and_deaths_are_not(frame: pd.DataFrame) -> None:
    shares = frame[list(records.CODES)].mean()
    assert shares.between(0.005, 0.05).all(), shares
    assert 0.15 < (frame["died"] == "yes").mean() < 0.3


def test_few_values_are_missing_and_say_why(frame: pd.DataFrame) -> None:
    assert frame["enhancing_ml"].isna().mean() == pytest.approx(0.04, abs=0.01)
    assert frame["kps"].isna().mean() == pytest.approx(0.03, abs=0.01)
    brain = frame["site"].isin(records.BRAIN)
    for name in ("idh", "mgmt"):
        assert ((frame[name] == "not indicated") == ~brain).all()
        assert (frame[name][brain] == records.UNTESTED).mean() == pytest.approx(0.08, abs=0.02)
        assert from_frame(frame).schema.column(name).marks == (records.UNTESTED,)
    others = frame.drop(columns=["enhancing_ml", "kps"])
    assert others.notna().all().all()


def test_no_row_breaks_a_rule(frame: pd.DataFrame) -> None:
    table = from_frame(frame)
    ruled = replace(table, schema=replace(table.schema, rules=records.RULES))
    assert not ruled.broken().any()
    wrong = frame.assign(sex=frame["sex"].map({"F": "M", "M": "F"}))
    assert replace(from_frame(wrong), schema=ruled.schema).broken().any()
    assert (frame["core_ml"] < frame["whole_ml"]).all()
    lit = frame["enhancing_ml"].notna()
    assert (frame["enhancing_ml"] <= frame["core_ml"])[lit].all()
    operated = frame["extent"].isin(["partial", "total"])
    assert not frame["drain_ml"][~operated].any()


def test_columns_tell_of_each_other(frame: pd.DataFrame) -> None:
    """Nats of mutual information, beside those of a shuffled column."""
    frame = frame.assign(drained=frame["drain_ml"] > 0)
    rng = Key(0).numpy()
    for one, two in (("site", "sex"), ("grade", "idh"), ("idh", "mgmt"), ("site", "G40"),
                     ("kps", "extent"), ("extent", "drained"), ("site", "died")):  # fmt: skip
        a, b = (pd.factorize(frame[name])[0] for name in (one, two))
        shared = mutual_info_score(a, b)
        assert shared > 3 * mutual_info_score(a, rng.permutation(b)), (one, two)
        assert shared > 0.01, (one, two)


def test_a_copula_is_found_out_and_fresh_rows_are_not(frame: pd.DataFrame) -> None:
    table = from_frame(frame)
    half = np.arange(ROWS // 2)
    fitted, others = table.take(half), table.take(half + ROWS // 2)
    rows = Copula.fit(fitted).sample(len(half), Key(0))
    assert detection(fitted, rows, Key(0)) > 0.85
    assert detection(fitted, others, Key(0)) == pytest.approx(0.5, abs=0.03)


def test_deaths_follow_the_other_columns_and_not_in_a_straight_line(frame: pd.DataFrame) -> None:
    table = from_frame(frame)
    half = np.arange(ROWS // 2)
    areas = predicted([table.take(half)], table.take(half + ROWS // 2), "died")
    assert 0.8 < areas["gradient boosting"] < 0.98
    assert areas["gradient boosting"] > areas["logistic"] + 0.03


def test_codes_are_a_sparse_matrix_of_counts(
    hospital: tuple[sparse.csr_matrix, tuple[str, ...]],
) -> None:
    matrix, names = hospital
    assert sparse.issparse(matrix)
    assert matrix.dtype == np.int32
    assert matrix.shape == (6000, 400) == (6000, len(set(names)))
    assert list(names) == sorted(names)
    assert matrix.has_canonical_format
    assert matrix.data.min() == 1
    assert 0.01 < (matrix.data > 1).mean() < 0.2
    each = np.diff(matrix.indptr)
    assert each.min() >= 1
    assert each.mean() == pytest.approx(11, abs=0.3)
    assert each.std() > 5


def test_the_same_key_gives_the_same_subjects_of_the_same_hospital() -> None:
    one, same, other = (records.codes(4000, 200, Key(seed))[0] for seed in (1, 1, 2))
    for name in ("data", "indices", "indptr"):
        assert getattr(one, name).tobytes() == getattr(same, name).tobytes()
    shares = [np.asarray((m > 0).mean(0)).ravel() for m in (one, other)]
    assert (shares[0] != shares[1]).any()
    assert np.corrcoef(*shares)[0, 1] > 0.99


def test_few_codes_are_common_and_most_are_rare(
    hospital: tuple[sparse.csr_matrix, tuple[str, ...]],
) -> None:
    matrix, _ = hospital
    shares = np.sort(np.asarray((matrix > 0).mean(0)).ravel())[::-1]
    assert 0.1 < shares[0] < 0.6
    assert shares[0] > 10 * np.median(shares)
    assert shares[-1] > 0


def test_diseases_bring_their_codes_together(
    hospital: tuple[sparse.csr_matrix, tuple[str, ...]],
) -> None:
    """More pairs are seen far oftener together than if codes were independent."""

    def lifted(present: np.ndarray) -> int:
        often = present[:, present.mean(0) > 0.02].astype(float)
        expected = np.outer(often.mean(0), often.mean(0)) * len(often)
        return int((np.triu(often.T @ often, 1) > 3 * expected).sum())

    present = hospital[0].toarray() > 0
    rng = Key(0).numpy()
    shuffled = np.stack([rng.permutation(column) for column in present.T], 1)
    assert lifted(present) > 100
    assert lifted(shuffled) < 5


def test_codes_that_exclude_each_other_do(
    hospital: tuple[sparse.csr_matrix, tuple[str, ...]],
) -> None:
    present = (hospital[0] > 0).toarray()
    pairs = records.exclusive(400)
    assert len({code for pair in pairs for code in pair}) == 2 * records.PAIRS
    for one, two in pairs:
        assert not (present[:, one] & present[:, two]).any()
        assert min(present[:, one].mean(), present[:, two].mean()) > 0.005
    (man, woman), (again, too) = pairs[: records.SEXED]
    assert not (present[:, man] & present[:, too]).any()
    assert not (present[:, woman] & present[:, again]).any()


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 row"):
        records.clinical(0, Key(0))
    with pytest.raises(ConfigError, match="40 codes"):
        records.codes(10, 20, Key(0))
    with pytest.raises(ConfigError, match="per_subject"):
        records.codes(10, 40, Key(0), per_subject=11)
