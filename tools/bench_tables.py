"""Ours, its floors and its peers on one table, judged alike; prints JSON.

python tools/bench_tables.py clinical --cache /tmp/peers/out \
    --ctgan-python /tmp/peers/ctgan/bin/python --argn-python /tmp/peers/argn/bin/python
python tools/bench_tables.py ucsf --data ../shared/data/tabular --splits 5
python tools/bench_tables.py diabetes130 --data ../shared/data/tabular --rows 8000

Every model is a process of its own, one thread, with the same CSV of fitted rows (`peers.py`); a
peer needs the interpreter of an environment that has it (`pip install ctgan`, `pip install
mostlyai-engine`) and is left out with a reason without one. The ceiling, `real`, is the held-out
rows themselves; for utility it is the fitted rows. What peers made is kept in the cache and made
again only when the fitted rows or the seed change: then `cached` is true and its times are of
another run. Compare times by their ratio, and by CPU time, when the machine is shared.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import medsynth
from medsynth.core.frames import from_frame
from medsynth.core.random import Key
from medsynth.core.table import Rule, Schema, Table
from medsynth.evaluation import tables as judge
from medsynth.phantom import records
from medsynth.tabular.codec import Codec

OURS = ("medsynth", "copula", "independent")
PEERS = {"ctgan": "ctgan", "argn": "argn", "argn_fixed": "argn", "argn_protected": "argn"}
"""Model → the environment that it needs."""

ONE_THREAD = {
    name: "1"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
}
VOLUMES = ("enhancing_ml", "core_ml", "whole_ml")


@dataclass(frozen=True)
class Case:
    """A table to learn from, as texts.

    Args:
        rows: All of them, shuffled.
        target: Column to predict.
        fitted: How many rows to learn from; as many are held out, or what is left.
        rules: What no row breaks.
    """

    rows: pd.DataFrame
    target: str
    fitted: int
    rules: tuple[Rule, ...] = ()


def clinical(size: int | None, split: int) -> Case:
    """The phantom of records: 15,000 rows to learn from, as many held out."""
    size = size or 15_000
    frame = records.clinical(2 * size, Key(split))
    return Case(_texts(frame), "died", size, records.RULES)


def ucsf(folder: Path, size: int | None, split: int) -> Case:
    """UCSF-PDGM, 501 patients; half of them held out."""
    frame = pd.read_csv(
        folder / "ucsf_pdgm/UCSF-PDGM-metadata_v2.csv", dtype=str, keep_default_na=False
    )
    frame = _shuffled(frame.drop(columns=["ID", "BraTS21 ID"]), split)
    return Case(frame, "1-dead 0-alive", size or len(frame) // 2)


def diabetes130(folder: Path, size: int | None, split: int) -> Case:
    """Diabetes 130-US, one stay a patient, so that held-out rows are of strangers."""
    file = folder / "diabetes130/dataset_diabetes.zip"
    frame = pd.read_csv(_member(file, "diabetic_data.csv"), dtype=str, keep_default_na=False)
    frame = _shuffled(frame, split).drop_duplicates("patient_nbr")
    frame = frame.drop(columns=["encounter_id", "patient_nbr"]).reset_index(drop=True)
    return Case(frame, "readmitted", size or 8_000)


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    """As reading the CSV of a frame gives it."""
    from io import StringIO

    return pd.read_csv(StringIO(frame.to_csv(index=False)), dtype=str, keep_default_na=False)


def _shuffled(frame: pd.DataFrame, split: int) -> pd.DataFrame:
    order = Key(split, ("bench", "split")).numpy().permutation(len(frame))
    return frame.iloc[order].reset_index(drop=True)


def _member(file: Path, name: str) -> Any:
    import zipfile

    archive = zipfile.ZipFile(file)
    return archive.open(next(n for n in archive.namelist() if n.endswith(name)))


def made(
    model: str, python: str, fitted: pd.DataFrame, rows: int, seed: int, cache: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What a model makes, and what it took.

    Raises:
        RuntimeError: It failed; the end of what it said.
    """
    text = fitted.to_csv(index=False)
    digest = hashlib.sha256(f"{model} {rows} {seed} {text}".encode()).hexdigest()[:12]
    train, out = cache / f"{digest}-fitted.csv", cache / f"{digest}-{model}.csv"
    told = out.with_suffix(".json")
    if model in OURS or not told.exists():
        train.write_text(text)
        runner = str(Path(__file__).with_name("peers.py"))
        command = [python, runner, model, str(train), str(out), "--rows", str(rows)]
        place = {"PYTHONPATH": str(Path(medsynth.__file__).parents[1])} if model in OURS else {}
        done = subprocess.run(
            [*command, "--seed", str(seed)], env=os.environ | ONE_THREAD | place, text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-300:] or f"exit code {done.returncode}")
        told.write_text(done.stdout.strip().splitlines()[-1])
        took = json.loads(told.read_text())
    else:
        took = json.loads(told.read_text()) | {"cached": True}
    return pd.read_csv(out, dtype=str, keep_default_na=False), took


def judged(real: Table, rows: Table, held_out: Table, target: str, trained: Table) -> Any:
    """All figures of one table.

    Args:
        real: Fitted rows.
        rows: Synthetic ones.
        held_out: Rows to test on.
        target: Column to predict.
        trained: What learners of the target are trained on.
    """
    key = Key(0, ("bench",))
    codec = Codec.fit(real)
    levels, combinations = judge.coverage(codec, real, rows, key.fold("coverage"))
    useful = judge.predicted([trained], held_out, target)
    figures = {
        "marginals": float(np.mean(list(judge.marginals(real, rows).values()))),
        "pairs": judge.pairs(codec, real, rows, key.fold("pairs")),
        "detection_auc": judge.detection(real, rows, key.fold("detection")),
        "utility_boosting": useful["gradient boosting"],
        "utility_logistic": useful["logistic"],
        "coverage_levels": levels,
        "coverage_combinations": combinations,
    }
    if real.schema.rules:
        figures["rules_broken"] = float((rows.broken() > 0).mean())
        figures["volumes_broken"] = float(_disordered(rows).mean())
    return {name: round(value, 4) for name, value in figures.items()}


def _disordered(table: Table) -> np.ndarray:
    """Rows in which not enhancing ≤ core < whole."""
    enhancing, core, whole = (table.values[name] for name in VOLUMES)
    lit = table.absent("enhancing_ml") == 0
    return (core >= whole) | (lit & (enhancing > core))


def compared(case: Case, pythons: dict[str, str | None], seed: int, cache: Path) -> dict[str, Any]:
    """Every model on one split."""
    schema = replace(from_frame(case.rows.iloc[: 2 * case.fitted]).schema, rules=case.rules)
    fitted = case.rows.iloc[: case.fitted]
    held_out = _table(case.rows.iloc[case.fitted : 2 * case.fitted], schema)
    real = _table(fitted, schema)
    found: dict[str, Any] = {"real": judged(real, held_out, held_out, case.target, real)}
    for model in (*OURS, *PEERS):
        environment = PEERS.get(model)
        python = sys.executable if environment is None else pythons[environment]
        if python is None:
            found[model] = {"skipped": f"no --{environment}-python"}
            continue
        print(f"{model} on {len(fitted):,} rows …", file=sys.stderr, flush=True)
        try:
            frame, took = made(model, python, fitted, case.fitted, seed, cache)
        except RuntimeError as error:
            found[model] = {"skipped": str(error)}
            continue
        rows = _table(frame, schema)
        found[model] = judged(real, rows, held_out, case.target, rows) | took
    return {
        "fitted": real.rows, "held_out": held_out.rows, "columns": len(schema.columns),
        "target": case.target, "models": found,
    }  # fmt: skip


def _table(frame: pd.DataFrame, schema: Schema) -> Table:
    return from_frame(frame.reset_index(drop=True), schema)


def summary(splits: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Mean and standard deviation over splits of each model's figures."""

    def rows(model: str) -> Iterator[dict[str, Any]]:
        return (split["models"][model] for split in splits)

    return {
        model: {
            name: [
                round(float(f([row[name] for row in rows(model) if name in row])), 4)
                for f in (np.mean, np.std)
            ]
            for name in first
            if name not in ("cached", "skipped")
        }
        for model, first in splits[0]["models"].items()
        if "skipped" not in first
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=("clinical", "ucsf", "diabetes130"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tabular"))
    parser.add_argument("--rows", type=int, help="to learn from; as many are held out")
    parser.add_argument("--splits", type=int, default=1, help="how many, each with its own rows")
    parser.add_argument("--cache", type=Path, help="where peers' rows are kept")
    parser.add_argument("--ctgan-python", help="interpreter that can import ctgan")
    parser.add_argument("--argn-python", help="interpreter that can import mostlyai.engine")
    a = parser.parse_args()
    pythons = {"ctgan": a.ctgan_python, "argn": a.argn_python}
    splits = []
    with tempfile.TemporaryDirectory() as place:
        cache = a.cache or Path(place)
        cache.mkdir(parents=True, exist_ok=True)
        for split in range(a.splits):
            case = {
                "clinical": lambda s: clinical(a.rows, s),
                "ucsf": lambda s: ucsf(a.data, a.rows, s),
                "diabetes130": lambda s: diabetes130(a.data, a.rows, s),
            }[a.table](split)
            splits.append(compared(case, pythons, split, cache))
    result: dict[str, Any] = {"table": a.table, "threads": 1, "splits": splits}
    if len(splits) > 1:
        result["mean_and_deviation"] = summary(splits)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
