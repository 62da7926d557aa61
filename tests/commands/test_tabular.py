"""Records by the command line: train, go on, generate with everything, refuse in words."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import sparse

from medsynth.cli import main
from medsynth.io import tables
from tests.conftest import train_on_two_ranks

SMALL = ["--set", "model.width=32", "--set", "train.steps=40", "--set", "train.batch=50"]


def patients(rows: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    sex = rng.choice(["F", "M"], rows, p=[0.8, 0.2])
    own = np.where(sex == "F", "breast", "prostate")
    site = np.where(rng.random(rows) < 0.5, own, "lung")
    return pd.DataFrame({"patient_id": np.arange(rows), "sex": sex, "site": site,
                         "age": rng.integers(20, 90, rows)})  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    patients().to_csv(folder / "patients.csv", index=False)
    config = folder / "table.yaml"
    config.write_text(f"kind: tabular\ndata: {{table: {folder / 'patients.csv'}}}\n")
    assert main(["train", str(config), "--out", str(folder / "run"), *SMALL]) == 0
    return folder / "run"


def test_a_run_holds_what_runs_hold(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["kind"] == "autoregressive"
    assert config["train"]["steps"] == 40
    assert Path(config["data"]["table"]).is_absolute()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert "held_out_nats" in lines[-1]
    assert (run / "previews/step-000040.png").stat().st_size > 5000
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 40
    assert yaml.safe_load((run / "schema.yaml").read_text())["columns"][0]["kind"] == "identifier"


def test_training_tells_kinds_once_and_how_exposed_canaries_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["phantom", str(tmp_path / "p.csv"), "--rows", "400"]) == 0
    declared = {"columns": [{"name": "sex", "kind": "binary", "levels": ["F", "M"]},
                            {"name": "kps", "kind": "integer", "marks": [""]}]}  # fmt: skip
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(declared))
    config, folder = tmp_path / "table.yaml", tmp_path / "run"
    config.write_text(f"kind: tabular\ndata: {{table: {tmp_path / 'p.csv'}}}\n")
    sets = [f"data.schema={tmp_path / 's.yaml'}", "canaries.copies=[1,8]", "train.batch=50",
            "canaries.candidates=63", "train.steps=3", "model.width=8"]  # fmt: skip
    told = [part for text in sets for part in ("--set", text)]
    assert main(["train", str(config), "--out", str(folder), *told]) == 0
    words = capsys.readouterr().err
    kinds = {line.split()[0]: " ".join(line.split()[1:]) for line in words.splitlines() if line}
    assert kinds["age"].startswith("integer whole numbers, 18 to ")
    assert kinds["N40"] == "binary 0 or 1"
    assert kinds["mgmt"] == "categorical 3 names; missing: '?'"
    assert kinds["kps"].endswith("missing: ''")
    assert "sex" not in kinds
    assert f"→ {folder / 'schema.yaml'} has these" in words
    exposed = next(line for line in words.splitlines() if line.startswith("exposure of canaries: "))
    assert " for 1 copy, " in exposed
    assert exposed.endswith(" for 8 copies (bits; 1.44 by chance, at most 6.0)")
    assert main(["train", "--resume", str(folder), "--set", "train.steps=4"]) == 0
    again = capsys.readouterr().err
    assert "taken for" not in again
    assert "exposure of canaries: " in again


def test_a_run_goes_on_as_if_it_had_not_been_stopped(run: Path, tmp_path: Path) -> None:
    config = str(run / "config.yaml")
    whole, half = tmp_path / "whole", tmp_path / "half"
    assert main(["train", config, "--out", str(whole), "--set", "train.steps=14"]) == 0
    assert main(["train", config, "--out", str(half), "--set", "train.steps=7"]) == 0
    assert main(["train", "--resume", str(half), "--set", "train.steps=14"]) == 0
    one, two = (torch.load(f / "last.pt", weights_only=True) for f in (whole, half))
    for name, value in one["players"].items():
        assert torch.equal(value, two["players"][name]), name
    assert (whole / "model.safetensors").read_bytes() == (half / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["autoregressive", "wgan"])
def test_two_ranks_train_as_one(run: Path, kind: str, tmp_path: Path) -> None:
    config = str(run / "config.yaml")
    told = ["--set", f"model.kind={kind}", "--set", "model.pack=5", "--set", "train.steps=4"]
    train_on_two_ranks(config, *told, "--out", str(tmp_path / "two"))
    assert main(["train", config, *told, "--out", str(tmp_path / "one")]) == 0
    one, two = (torch.load(tmp_path / r / "last.pt", weights_only=True) for r in ("one", "two"))
    for name, value in one["players"].items():
        gap = (two["players"][name] - value).abs()
        assert gap.mean() < 1e-5, name
        assert gap.max() < 1e-3, name  # where a gradient is nearly zero


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_records_without_a_patient(ending: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{ending}" for name in ("one", "again", "others")]
    for path, seed in zip(paths, ("0", "0", "1"), strict=True):
        assert main(["phantom", str(path), "--rows", "120", "--seed", seed]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    if ending == "npz":
        assert len(tables.read_codes(paths[0])[0]) == 120
    else:
        assert tables.read(paths[0]).rows == 120


def test_rows_come_with_where_they_come_from(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.parquet"
    command = ["generate", str(run), "--rows", "100", "--where", "sex=M", "-o", str(out)]
    assert main(command) == 0
    rows = pd.read_parquet(out)
    assert len(rows) == 100
    assert (rows["sex"] == "M").all()
    assert rows.columns.tolist() == patients().columns.tolist()
    told = json.loads((tmp_path / "rows.parquet.json").read_text())
    assert told["synthetic"] is True
    assert told["where"] == {"sex": "M"}
    before = out.read_bytes()
    assert main(command) == 0  # ours: made anew, the same
    assert out.read_bytes() == before


def test_equalisation_and_k_together(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    assert main(["generate", str(run), "--rows", "600", "--target", "sex=F:0.5,M:0.5", "--real",
                 str(run.parent / "patients.csv"), "--k", "5", "--quasi", "sex,site", "--quasi",
                 "age=40,60", "-o", str(out)]) == 0  # fmt: skip
    rows = pd.read_csv(out)
    assert (rows["sex"] == "F").mean() == pytest.approx(0.5, abs=0.05)
    bands = np.digitize(rows["age"], [40, 60])
    assert rows.groupby(["sex", "site", bands]).size().min() >= 5
    told = json.loads((tmp_path / "rows.csv.json").read_text())
    assert told["equalised"]["behind"] == "real rows"
    assert told["equalised"]["effective_rows"] < 400
    assert told["equalised"]["rows"] == len(rows)  # after small cells were filled or left out
    women = next(s for s in told["equalised"]["shares"] if s["level"] == "F")
    assert women["reached"] == pytest.approx((rows["sex"] == "F").mean())
    assert told["anonymous"]["smallest_after"] >= 5


def test_targets_that_the_model_cannot_meet_are_named_with_what_there_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", str(run), "--rows", "50", "-o", str(tmp_path / "rows.csv")]
    assert main([*command, "--target", "site=spleen:1"]) == 2
    assert "a level of site (breast, lung, prostate), found 'spleen'" in capsys.readouterr().err
    asked = ["--target", "site=prostate:0.5,lung:0.5", "--target", "sex=F:1"]
    assert main([*command, *asked]) == 1
    assert (
        "site=prostate:0.5 with sex=F:1: none of 20,000 rows of the model's own has both, so "
        "site=prostate can be 0 at most; beside sex=F there are site=breast, lung."
    ) in capsys.readouterr().err


def test_exact_values_of_quasi_identifiers_are_warned_of(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", str(run), "--rows", "300", "--k", "3", "-o", str(tmp_path / "rows.csv")]
    assert main([*command, "--quasi", "sex,age"]) == 0
    told = capsys.readouterr().err
    assert "warning: age: cells are counted in 10 bands, but exact values are written" in told
    bands = re.search(r"--quasi (age=\d+,\d+,\d+)\n", told)
    assert bands
    assert main([*command, "--quasi", "sex", "--quasi", bands[1]]) == 0
    assert "warning" not in capsys.readouterr().err


def test_equalisation_without_real_rows_speaks_of_none(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.csv"
    site = "site=breast:0.05,lung:0.05,prostate:0.9"
    assert main(["generate", str(run), "--rows", "300", "--target", site, "--target",
                 "sex=F:0.1,M:0.9", "-o", str(out)]) == 0  # fmt: skip
    told = json.loads((tmp_path / "rows.csv.json").read_text())["equalised"]
    assert told["behind"] == "rows of the model's own"
    assert told["rows_behind"] == 20_000
    assert "real" not in json.dumps(told)
    assert " real" not in capsys.readouterr().err


def test_rules_hold_in_what_is_made(tmp_path: Path) -> None:
    patients().to_csv(tmp_path / "p.csv", index=False)
    schema = tables.read(tmp_path / "p.csv").schema.to_json()
    schema["rules"] = [{"when": ["sex", "F"], "never": ["site", "prostate"]}]
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(schema))
    config = tmp_path / "t.yaml"
    config.write_text(f"kind: tabular\ndata: {{table: {tmp_path / 'p.csv'}, "
                      f"schema: {tmp_path / 'schema.yaml'}}}\n")  # fmt: skip
    few = ["--set", "model.width=8", "--set", "train.steps=4", "--set", "train.batch=50"]
    assert main(["train", str(config), "--out", str(tmp_path / "run"), *few]) == 0
    out = tmp_path / "rows.csv"
    assert main(["generate", str(tmp_path / "run"), "--rows", "800", "-o", str(out)]) == 0
    rows = pd.read_csv(out)
    assert ((rows["sex"] == "F") & (rows["site"] == "prostate")).sum() == 0
    assert (rows["site"] == "prostate").any()
    both = ["--where", "sex=F", "--where", "site=prostate"]
    assert main(["generate", str(tmp_path / "run"), "--rows", "3", *both, "-o", str(out)]) == 1


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_codes_in_and_out(ending: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix = sparse.csr_matrix((rng.random((300, 40)) < 0.1).astype(int))
    if ending == "npz":
        sparse.save_npz(tmp_path / "codes.npz", matrix.tocsr())
        data = {"table": str(tmp_path / "codes.npz")}
    else:
        whole = matrix.tocoo()
        frame = pd.DataFrame({"who": whole.row, "what": [f"{100 + c}.1" for c in whole.col]})
        frame.to_csv(tmp_path / "long.csv", index=False)
        data = {"table": str(tmp_path / "long.csv"), "subject": "who", "code": "what", "digits": 3}
    config = tmp_path / "codes.yaml"
    config.write_text(yaml.safe_dump({"kind": "tabular", "data": data}))
    assert main(["train", str(config), "--out", str(tmp_path / "run"), *SMALL]) == 0
    out = tmp_path / f"made.{ending}"
    name = "code_0003" if ending == "npz" else "103"
    assert main(["generate", str(tmp_path / "run"), "--rows", "50", "--where", f"{name}=1", "-o",
                 str(out)]) == 0  # fmt: skip
    made, _ = tables.read_codes(out, "subject", "code")
    assert len(made) == 50
    assert made.rates[made.names.index(name)] == 1
    if ending == "npz":
        assert sparse.load_npz(out).shape == (50, 40)


def test_privacy_by_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "private.yaml", str(tmp_path / "rows.csv")
    config.write_text(f"kind: tabular\ndata: {{table: {run.parent / 'patients.csv'}, "
                      f"schema: {tmp_path / 'schema.yaml'}}}\n")  # fmt: skip
    text = (run / "schema.yaml").read_text()
    (tmp_path / "schema.yaml").write_text(text)
    assert main(["train", str(config), "--out", str(tmp_path / "p"), "--epsilon", "3"]) == 2
    assert "delete `inferred`" in capsys.readouterr().err
    # Nobody's rows: whoever made them up may say that their levels and ranges are public.
    (tmp_path / "schema.yaml").write_text(text.replace("  inferred: true\n", ""))
    told = ["--set", "model.width=16", "--set", "train.steps=10", "--set", "train.batch=50"]
    assert main(["train", str(config), "--out", str(tmp_path / "p"), "--epsilon", "3", *told]) == 0
    words = capsys.readouterr().err
    assert "add or remove one record" in words
    assert "10 steps" in words
    assert not list((tmp_path / "p" / "previews").glob("*"))  # real shares are not published
    model = ["generate", str(tmp_path / "p"), "--rows", "20", "-o", out]
    assert main([*model, "--epsilon", "3"]) == 0
    assert json.loads(Path(out + ".json").read_text())["promise"]["steps"][0]["count"] == 10
    assert main([*model, "--epsilon", "0.5"]) == 1
    assert "ε = 0.5" in capsys.readouterr().err
    assert main(["generate", str(run), "--rows", "20", "-o", out, "--epsilon", "3"]) == 1
    assert "cannot be added afterwards" in capsys.readouterr().err
    real = ["--target", "sex=F:0.5,M:0.5", "--real", str(run.parent / "patients.csv")]
    assert main([*model, *real]) == 2
    assert "does not cover exact counts" in capsys.readouterr().err


@pytest.mark.parametrize("option", [
    ["--epsilon", "3"], ["--where", "sex=F"], ["--target", "sex=F:1"], ["--real", "x.csv"],
    ["--k", "5"], ["--quasi", "sex"]])  # fmt: skip
def test_options_of_records_without_rows(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "run", "brain.nii.gz", "-o", "x", *option]) == 2
    assert f"--rows beside options of records, found {option[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("option", [
    ["--per-case", "1"], ["--shard", "0/1"], ["--writers", "2"], ["--window", "64"],
    ["--precision", "auto"]])  # fmt: skip
def test_options_of_scans_with_rows(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "run", "--rows", "5", "-o", "x.csv", *option]) == 2
    assert f"found {option[0]}. It is for scans" in capsys.readouterr().err


def test_mistakes_are_answered_in_words(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "x.csv")
    generate = ["generate", str(run), "--rows", "10", "-o", out]
    table = run.parent / "patients.csv"
    latin, declared = tmp_path / "latin.csv", tmp_path / "declared.yaml"
    latin.write_bytes("name\nMüller\n".encode("latin1"))
    patients().assign(who=[f"p{i}" for i in range(400)]).to_csv(tmp_path / "who.csv", index=False)
    names = [f"p{i}" for i in range(400)]
    declared.write_text(yaml.safe_dump(
        {"columns": [{"name": "who", "kind": "categorical", "levels": names}]}))  # fmt: skip
    config = tmp_path / "t.yaml"
    config.write_text("kind: tabular\ndata: {table: nowhere.csv}\n")
    (tmp_path / "mine.csv").write_text("a\n1\n")
    for command, code, words in (
        ([*generate, "--where", "sex=X"], 2, "a level of sex"),
        ([*generate, "--where", "sxe=F"], 2, "Did you mean 'sex'"),
        ([*generate, "--where", "sex"], 2, "COLUMN=VALUE"),
        ([*generate, "--target", "sex=F:0.5"], 2, "sex"),
        ([*generate, "--target", "site=spleen:1"], 2, "spleen"),
        ([*generate, "--k", "5"], 2, "--quasi"),
        ([*generate, "--real", str(table)], 2, "--target beside --real"),
        ([*generate, "--k", "5", "--quasi", "patient_id"], 2, "identifier"),
        (["generate", str(run), "--rows", "0", "-o", out], 2, "at least 1"),
        (["generate", str(run), "-o", out], 2, "--rows"),
        (["generate", str(run), "--rows", "5", "-o", str(tmp_path / "x.xls")], 1, ".parquet"),
        ([*generate[:-1], str(tmp_path / "mine.csv")], 1, "another file"),
        (["train", str(config)], 1, "no such file"),
        (["train", str(config), "--set", f"data.table={latin}"], 1, "iconv"),
        (["train", str(config), "--set", f"data.table={table}", "--set", "model.kind=gan"], 2,
         "wgan"),
        (["train", str(config), "--set", f"data.table={table}", "--set", "train.batch=1000"], 2,
         "at most"),
        (["train", str(config), "--set", f"data.table={table}", "--epsilon", "3"], 2,
         "declared schema"),
    ):  # fmt: skip
        assert main(command) == code, command
        told = capsys.readouterr().err
        assert words in told, (command, told)
        assert "Traceback" not in told
    told = [f"data.table={tmp_path / 'who.csv'}", f"data.schema={declared}"]
    sets = [part for text in told for part in ("--set", text)]
    assert main(["train", str(config), "--out", str(tmp_path / "w"), *sets, *SMALL]) == 0
    assert "who: nearly every row" in capsys.readouterr().err


def test_what_the_model_seldom_makes_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["phantom", str(tmp_path / "p.csv"), "--rows", "600"]) == 0
    config, run = tmp_path / "table.yaml", str(tmp_path / "run")
    config.write_text(f"kind: tabular\ndata: {{table: {tmp_path / 'p.csv'}}}\n")
    sets = ["--set", "train.steps=60", "--set", "model.width=32"]
    assert main(["train", str(config), "--out", run, *sets]) == 0
    made = ["generate", run, "--rows", "20", "-o", str(tmp_path / "m.csv"), "--where"]
    capsys.readouterr()
    assert main([*made, "sex=F"]) == 0
    assert "by itself the model" not in capsys.readouterr().err
    assert main([*made, "sex=F", "--where", "age=18..19"]) == 0
    told = capsys.readouterr().err
    assert "warning: sex=F, age=18..19: by itself the model makes" in told
    assert "replaces the synthetic rows of before" in told
