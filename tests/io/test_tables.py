"""Tables keep what a person wrote: marks, digits, leading zeros, dates, types."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from medsynth.core.codes import Codes, same_codes
from medsynth.core.frames import breaking, from_frame, stand_ins, to_frame
from medsynth.core.table import Rule, Schema
from medsynth.errors import ConfigError, DataError, UsageError
from medsynth.io import tables
from medsynth.tabular.codec import grid, on_grid

CSV = """\
ward,zip,seen,weight,stage,dose,score,born,when
A,01234,1,70.50,?,1.5,,1950-02-03,2020-01-01 10:00:00
B,00077,0,81.25,II,2,1e-3,1949-12-31,2020-01-02 23:59:59
A,01234,1,64.00,I,,2.5e4,1960-06-06,2020-01-01 00:00:00
,99999,0,70.50,NA,0.25,3,,2020-01-05 12:30:00
"""
KINDS = ("categorical", "categorical", "binary", "continuous", "binary", "continuous",
         "continuous", "date", "date")  # fmt: skip


def test_a_csv_comes_out_as_it_went_in(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV.replace("1e-3", "0.001").replace("2.5e4", "25000"))
    table = tables.read(tmp_path / "a.csv")
    tables.write(tmp_path / "b.csv", table)
    assert (tmp_path / "b.csv").read_text() == (tmp_path / "a.csv").read_text()
    kinds = {column.name: column.kind for column in table.schema.columns}
    assert kinds["zip"] in ("categorical", "binary")
    assert (kinds["weight"], kinds["born"], kinds["seen"]) == ("continuous", "date", "binary")
    assert table.schema.column("stage").marks == ("?", "NA")


def test_powers_of_ten_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    table = tables.read(tmp_path / "a.csv")
    assert table.schema.column("score").kind == "continuous"
    np.testing.assert_array_equal(table.values["score"], [0, 0.001, 25000, 3])
    assert table.absent("score").tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("ending", ["parquet", "csv.gz", "tsv"])
def test_other_files(ending: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    table = tables.read(tmp_path / "a.csv")
    for name in ("x", "y"):
        tables.write(tmp_path / f"{name}.{ending}", table)
    again = tables.read(tmp_path / f"x.{ending}")
    assert to_frame(again).equals(to_frame(table))
    assert (tmp_path / f"x.{ending}").read_bytes() == (tmp_path / f"y.{ending}").read_bytes()


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "count": np.array([1, 2, 3, 40], np.int16),
            "length": [1.25, np.nan, 2.5, -3.0],
            "exact": [0.1 + 0.2, 1 / 3, 2.0, 1e-17],
            "whole": [1.0, np.nan, 2.0, 3.0],
            "maybe": pd.array([1, None, 3, 4], "Int64"),
            "yes": [True, False, True, True],
            "grade": pd.Categorical(["low", "high", None, "low"], ["low", "mid", "high"], True),
            "ward": pd.Categorical(["b", "a", "a", "b"], ["b", "a"]),
            "text": ["x", "y", "?", None],
            "day": pd.to_datetime(["2020-01-01", "2021-02-03", None, "2022-12-31"]),
        }
    )  # fmt: skip


def test_frames_come_out_as_they_went_in() -> None:
    before = frame()
    after = to_frame(from_frame(before))
    pd.testing.assert_frame_equal(after, before)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "float32", "Int64", "Float64"])
@pytest.mark.parametrize("gone", [False, True])
def test_noughts_and_ones_are_binary_and_keep_their_type(dtype: str, gone: bool) -> None:
    if gone and dtype.islower() and "int" in dtype:
        pytest.skip("such a type has no missing values")
    before = pd.DataFrame({"a": pd.array([0, 1, 1, None if gone else 0, 1], dtype)})
    table = from_frame(before)
    assert (table.schema.columns[0].kind, table.schema.columns[0].levels) == ("binary", ("0", "1"))
    pd.testing.assert_frame_equal(to_frame(table), before)
    pd.testing.assert_frame_equal(to_frame(from_frame(before, table.schema)), before)


@pytest.mark.parametrize("text", ["0 1 1 0", "0.0 1.0 1.0 0.0", "0 1 ? 1"])
def test_noughts_and_ones_written_as_texts_come_out_as_they_went_in(text: str) -> None:
    before = pd.DataFrame({"a": text.split()})
    table = from_frame(before)
    assert table.schema.columns[0].kind == "binary"
    pd.testing.assert_frame_equal(to_frame(table), before)


def test_levels_that_are_numbers_are_met_by_numbers_alone() -> None:
    schema = from_frame(pd.DataFrame({"a": [0, 1, 1]})).schema
    for same in (["0.0", "1.0", "1.0"], [0.0, 1.0, 1.0]):
        assert from_frame(pd.DataFrame({"a": same}), schema).values["a"].tolist() == [0, 1, 1]
    for other in (["0", "0.7", "1"], [0, 0.7, 1]):
        with pytest.raises(DataError, match=r"levels of a, found '0.7'"):
            from_frame(pd.DataFrame({"a": other}), schema)


@pytest.mark.parametrize("numbers", [[0, 1, 2], [1, 2], [1, 1], [0, 0.5, 1]])
def test_other_numbers_are_numbers(numbers: list[float]) -> None:
    assert from_frame(pd.DataFrame({"a": numbers})).schema.columns[0].kind != "binary"


def test_a_schema_survives_yaml(tmp_path: Path) -> None:
    schema = from_frame(frame()).schema
    schema = Schema(schema.columns, (Rule(("yes", "True"), ("grade", "high")),))
    tables.write_schema(tmp_path / "s.yaml", schema)
    assert tables.read_schema(tmp_path / "s.yaml") == schema
    with pytest.raises(UsageError, match="no such file"):
        tables.read_schema(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("columns: [{name: a, kind: nominal}]")
    with pytest.raises(ConfigError, match="categorical"):
        tables.read_schema(tmp_path / "bad.yaml")


def test_identifiers_are_never_kept() -> None:
    many = pd.DataFrame({"patient_id": np.arange(900, 1000), "name": [f"n{i}" for i in range(100)],
                         "age": np.arange(100) % 7})  # fmt: skip
    table = from_frame(many)
    assert [c.kind for c in table.schema.columns] == ["identifier", "identifier", "integer"]
    assert to_frame(table)["patient_id"].tolist() == list(range(1, 101))
    assert to_frame(table)["name"][0] == "0000001"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a more than once"),
        (pd.DataFrame({"a": []}), "0 rows"),
        (pd.DataFrame({"a": [1.0, np.inf]}), "infinity in 1 rows"),
        (pd.DataFrame({"a": [1, "x"]}, dtype=object), "int and str"),
        (pd.DataFrame({"a": [f"n{i % 3000}" for i in range(9000)]}), "3,000"),
    ],
)
def test_what_is_no_table(bad: pd.DataFrame, words: str) -> None:
    with pytest.raises(DataError, match=words):
        from_frame(bad)


def test_a_few_texts_among_numbers_are_reasons_why_one_is_missing(tmp_path: Path) -> None:
    """One `<0.5` made an identifier of a laboratory value, and the column was gone."""
    texts = [f"{v / 10:.1f}" for v in range(5, 400)] + ["<0.5", "<0.5", "haemolysed", "NA"]
    before = pd.DataFrame({"crp": texts, "grade": (["1", "2", "3+"] * 133)[: len(texts)]})
    table = from_frame(before)
    crp, grade = table.schema.columns
    assert (crp.kind, crp.marks) == ("continuous", ("NA", "<0.5", "haemolysed"))
    assert (grade.kind, grade.levels) == ("categorical", ("1", "2", "3+"))
    pd.testing.assert_frame_equal(to_frame(table), before)
    codes = from_frame(pd.DataFrame({"diag": [*(f"{v}.{v % 9}" for v in range(200, 300)), "V57"]}))
    assert codes.schema.columns[0].kind in ("identifier", "categorical")  # ICD-9, no numbers
    days = [f"2020-{m:02d}-{d:02d}" for m in (1, 2, 3) for d in range(1, 29)] + ["unknown"]
    born = from_frame(pd.DataFrame({"born": days})).schema.columns[0]
    assert (born.kind, born.marks) == ("date", ("unknown",))


def test_numbers_that_stand_for_missing_ones_are_asked_about() -> None:
    rng = np.random.default_rng(0)
    sodium = np.where(rng.random(200) < 0.05, -999, rng.integers(130, 150, 200))
    age = rng.integers(18, 100, 200)  # 99 is an age among ages
    table = from_frame(pd.DataFrame({"sodium": sodium, "age": age}))
    assert stand_ins(table) == {"sodium": -999.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [("16/11/1976", "dates as 1976-11-16.*to_datetime"), ("3.4.1999", "dates as"),
     ("16/11/1976 12:00", "dates as"), ("1,5", r"numbers as 1500\.5")],
)  # fmt: skip
def test_other_ways_of_writing_are_refused(text: str, words: str, tmp_path: Path) -> None:
    texts = [text, "", text, "unknown" if "/" in text else "2"]
    pd.DataFrame({"a": texts, "b": [1, 2, 3, 4]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=rf"{words}.*" if "to_" in words else words) as refused:
        tables.read(tmp_path / "a.csv")
    assert f"{tmp_path / 'a.csv'}, a" in str(refused.value)


def test_other_rows_may_have_more_levels_where_nobody_declared_them(tmp_path: Path) -> None:
    schema = from_frame(pd.DataFrame({"a": ["x", "y", "x"]})).schema
    more = pd.DataFrame({"a": ["y", "w", "x"]})
    with pytest.raises(DataError, match=r"found 'w' in a\. Correct them"):
        from_frame(more, schema)
    table = from_frame(more, schema, more_levels=True)
    assert table.schema.columns[0].levels == ("x", "y", "w")
    assert table.values["a"].tolist() == [1, 2, 0]
    numbers = from_frame(pd.DataFrame({"a": [str(v) for v in range(40)]})).schema
    below = pd.DataFrame({"a": [*(str(v) for v in range(40)), "<1"]})
    with pytest.raises(DataError, match="the text '<1'"):
        from_frame(below, numbers)
    assert from_frame(below, numbers, more_levels=True).schema.columns[0].marks == ("<1",)
    declared = Schema((replace(schema.columns[0], inferred=False),))
    with pytest.raises(DataError, match="add them to its levels"):
        from_frame(more, declared, more_levels=True)
    with pytest.raises(DataError, match=r"found the text '<5' in a.*among its marks"):
        from_frame(pd.DataFrame({"a": ["1", "<5", "7"]}), Schema.from_json(
            {"columns": [{"name": "a", "kind": "integer"}]}))  # fmt: skip


def test_rules_may_be_about_columns_that_nobody_declared() -> None:
    data: dict[str, list[Any]] = {"columns": [{"name": "id", "kind": "identifier"}],
            "rules": [{"when": ["sex", "F"], "never": ["site", "prostate"]}]}  # fmt: skip
    frame = pd.DataFrame({"id": [1, 2, 3], "sex": ["F", "M", "F"], "site": ["prostate", "x", "x"]})
    table = from_frame(frame, Schema.from_json(data))
    assert breaking(table) == [("rule sex=F, never site=prostate", 1)]
    with pytest.raises(ConfigError, match="a column"):
        from_frame(frame.drop(columns="site"), Schema.from_json(data))
    with pytest.raises(ConfigError, match=r"a level of site.*in rule sex=F, never site=prostate"):
        from_frame(frame.replace("prostate", "ovary"), Schema.from_json(data))
    data["rules"].append({"when": ["sex", "F"], "never": ["age", "110.."]})
    assert not breaking(from_frame(frame.assign(age=[30, 40, 50]), Schema.from_json(data)))[1:]


def test_dates_are_declared_as_dates() -> None:
    seen = ["2020-01-01 10:00:00", "2020-01-02 23:59:59"]
    table = from_frame(pd.DataFrame({"born": ["1950-02-03", "1960-12-31"], "seen": seen}))
    told = table.schema.to_json()["columns"]
    assert (told[0]["low"], told[0]["high"]) == ("1950-02-03", "1960-12-31")
    assert told[1]["high"] == "2020-01-02 23:59:59"
    assert Schema.from_json(yaml.safe_load(yaml.safe_dump(table.schema.to_json()))) == table.schema
    bare = {"columns": [{"name": "born", "kind": "date", "low": 0, "high": 365}]}
    assert Schema.from_json(bare).columns[0].ends == (0, 365)


def test_a_row_of_another_length_is_named(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("a,b,c\n1,,3\n1,2\n")
    with pytest.raises(DataError, match=r"3 values in each row, found 2 in line 3"):
        tables.read(tmp_path / "short.csv")
    (tmp_path / "blank.csv").write_text('\na,b\n1,2\n   \n"x\ny",2\n\n')
    assert tables.read(tmp_path / "blank.csv").rows >= 2
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 999)[:-20])
    with pytest.raises(DataError, match="a table"):
        tables.read(tmp_path / "cut.csv.gz")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match=r"2 values in each row, found 3 in line 3.*quotation"):
        tables.read(tmp_path / "a.csv")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("name\nMüller\n".encode("latin1"))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "x.xlsx").write_text("")
    (tmp_path / "bad.parquet").write_text("no")
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    for name, words in (("latin.csv", "iconv"), ("empty.csv", "a table"), ("x.xlsx", "csv"),
                        ("bad.parquet", "a table"), ("none.csv", "no such"),
                        ("twice.csv", "more than once")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            tables.read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "sex;dose\nF;1,5\nM;2,0\n", r"commas between columns, found semicolons.*1\.5"),
        ("a.csv", "id;sex\n1;F\n2;M\n", "found semicolons"),
        ("a.csv.gz", "\ufeffsex;age\nF;15\n", "found semicolons"),
        ("a.csv", "sex\tage\nF\t15\n", r"found tabs.*\.tsv"),
    ],
)
def test_other_separators_are_named(name: str, text: str, words: str, tmp_path: Path) -> None:
    raw = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    with pytest.raises(DataError, match=words):
        tables.read(tmp_path / name)


def test_a_single_column_and_semicolons_within_texts_are_read(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("age\n31\n47\n")
    assert tables.read(tmp_path / "one.csv").rows == 2
    (tmp_path / "two.csv").write_text("age,codes;all\n31,C50;I26\n47,C50\n")
    assert tables.read(tmp_path / "two.csv").schema.columns[1].name == "codes;all"


def test_rules_are_counted() -> None:
    table = from_frame(pd.DataFrame({"sex": ["F", "M", "F"], "prostate": ["no", "yes", "yes"]}))
    ruled = Schema(table.schema.columns, (Rule(("sex", "F"), ("prostate", "yes")),))
    assert from_frame(to_frame(table), ruled).broken().tolist() == [0, 0, 1]


def test_a_range_that_nobody_declared_is_found() -> None:
    """It was 0 to 0 before, and every value that was made was clipped to 0."""
    ages = pd.DataFrame({"age": [31, 47, 64], "born": ["1960-02-01", "1950-01-01", "1970-12-31"]})
    open_ = Schema.from_json({"columns": [
        {"name": "age", "kind": "integer", "low": 18, "dtype": "int64"},
        {"name": "born", "kind": "date"}]})  # fmt: skip
    schema = from_frame(ages, open_).schema
    assert (schema.column("age").low, schema.column("age").high) == (18, 64)
    assert schema.column("born").ends == (-7305, 364)
    assert all(column.inferred for column in schema.columns)
    assert Schema.from_json(schema.to_json()) == schema
    older = ages.assign(age=[20, 30, 99])
    assert from_frame(older, schema).values["age"].max() == 99  # what was read off is no promise
    zero = Schema.from_json({"columns": [{"name": "age", "kind": "integer", "low": -5, "high": 0}]})
    assert Schema.from_json(zero.to_json()).column("age").ends == (-5, 0)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"name": "a", "kind": "integer", "low": 0, "high": 50}, r"0 to 50, .* 2 outside in a"),
        ({"name": "a", "kind": "count", "high": 63}, "0 to 63.*1 outside"),
        ({"name": "a", "kind": "integer", "low": 32}, "32 to ….*1 outside.*Correct the range or"),
        ({"name": "d", "kind": "date", "high": 0}, "… to 1970-01-01.*1 outside in d"),
    ],
)
def test_values_outside_a_declared_range(column: dict[str, object], words: str) -> None:
    frame = pd.DataFrame({"a": ["31", "62", "64"], "d": ["1960-02-01", "1970-01-02", "1969-01-01"]})
    with pytest.raises(DataError, match=words):
        from_frame(frame, Schema.from_json({"columns": [column]}))


def test_a_range_counts_as_values_are_written() -> None:
    column = {"name": "a", "kind": "continuous", "low": 0.1, "high": 0.3, "decimals": 1}
    narrow = pd.DataFrame({"a": np.array([0.1, 0.3], np.float32)})  # 0.30000001
    assert (
        not from_frame(narrow, Schema.from_json({"columns": [column]})).schema.columns[0].inferred
    )
    with pytest.raises(ConfigError, match="low up to high"):
        Schema.from_json({"columns": [column | {"low": 1}]})


def test_what_was_inferred_says_so(tmp_path: Path) -> None:
    table = from_frame(frame())
    assert all(column.inferred for column in table.schema.columns)
    tables.write_schema(tmp_path / "s.yaml", table.schema)
    assert (tmp_path / "s.yaml").read_text().count("inferred: true") == len(table.schema.columns)
    assert all(column.inferred for column in tables.read_schema(tmp_path / "s.yaml").columns)


def test_the_long_form_becomes_a_matrix() -> None:
    people = np.array([7, 7, 3, 7])
    codes = np.array(["25000", "E8120", "25001", "25011"])
    found, subjects = tables.rows_of_codes(people, codes, digits=3)
    assert found.names == ("250", "E812")
    assert subjects.tolist() == [3, 7]
    assert found.matrix.toarray().tolist() == [[1, 0], [2, 1]]
    assert not found.binary
    assert found.rates.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("ending", ["npz", "csv", "parquet", "csv.gz"])
def test_codes_come_out_as_they_went_in(ending: str, tmp_path: Path) -> None:
    found = Codes(sparse.csr_matrix([[1, 0, 3], [0, 2, 0]]), ("250", "401", "E812"))
    path = tmp_path / f"codes.{ending}"
    tables.write_codes(path, found)
    again, _ = tables.read_codes(path, "subject", "code")
    assert again.names == found.names
    assert (again.matrix != found.matrix).nnz == 0
    tables.write_codes(tmp_path / f"twice.{ending}", again)
    assert path.read_bytes() == (tmp_path / f"twice.{ending}").read_bytes()


def test_scipy_reads_our_codes_and_we_read_scipys(tmp_path: Path) -> None:
    found = Codes(sparse.csr_matrix([[1, 0, 3], [0, 2, 0]]), ("250", "401", "E812"))
    tables.write_codes(tmp_path / "codes.npz", found)
    assert (sparse.load_npz(tmp_path / "codes.npz") != found.matrix).nnz == 0
    sparse.save_npz(tmp_path / "theirs.npz", found.matrix)
    again, _ = tables.read_codes(tmp_path / "theirs.npz")
    assert again.names == ("code_0000", "code_0001", "code_0002")
    assert (again.matrix != found.matrix).nnz == 0


def test_codes_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        tables.read_codes(tmp_path / "none.npz")
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="CSR matrix"):
        tables.read_codes(tmp_path / "broken.npz")
    pd.DataFrame({"a": [1], "b": [2]}).to_csv(tmp_path / "long.csv", index=False)
    with pytest.raises(DataError, match=r"data\.subject"):
        tables.read_codes(tmp_path / "long.csv", "subject", "code")
    with pytest.raises(DataError, match="whole counts"):
        Codes(sparse.csr_matrix([[0.5]]), ("a",))
    with pytest.raises(DataError, match="more than once"):
        Codes(sparse.csr_matrix([[1, 1]]), ("a", "a"))
    one = Codes(sparse.csr_matrix([[1, 1]]), ("a", "b"))
    assert same_codes(one, ("b", "c", "a")).matrix.toarray().tolist() == [[1, 0, 1]]
    with pytest.raises(DataError, match="others"):
        same_codes(one, ("a",))


@pytest.mark.real
def test_real_tables_come_out_as_they_went_in(real_data: Path, tmp_path: Path) -> None:
    for name in ("ucsf_pdgm/UCSF-PDGM-metadata_v2.csv", "heart/heart_disease.csv",
                 "mimic3_demo/PATIENTS.csv.gz"):  # fmt: skip
        path = real_data / "tabular" / name
        table = tables.read(path)
        tables.write(tmp_path / "x.csv", table)
        text = {"dtype": str, "keep_default_na": False}
        before = pd.read_csv(path, encoding="utf-8-sig", **text)
        after = pd.read_csv(tmp_path / "x.csv", **text)
        for column in table.schema.modelled:
            assert (before[column.name] == after[column.name]).all(), column.name


def test_what_a_newcomer_brings() -> None:
    """Whole numbers written as 80.0, a column without any value, decimals that nobody declared."""
    frame = pd.DataFrame(
        {
            "kg": [f"{60 + i}.0" for i in range(40)],
            "ml": [f"{i / 10:.1f}" for i in range(40)],
            "never": [np.nan] * 40,
        }
    )
    table = from_frame(frame)
    assert [c.kind for c in table.schema.columns] == ["integer", "continuous", "categorical"]
    assert grid(table.schema.column("kg")) == 1.0
    assert on_grid(table.schema.column("kg"), np.array([61.4]))[0] == 61.0
    pd.testing.assert_frame_equal(to_frame(table), frame)
    told = {"columns": [{"name": "ml", "kind": "continuous", "low": 0.0, "high": 9.0}]}
    column = from_frame(frame, Schema.from_json(told)).schema.column("ml")
    assert (column.decimals, column.inferred) == (1, True)
