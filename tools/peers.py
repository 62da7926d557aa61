"""One model of tables: reads rows, learns, writes new rows, and says what it took.

python tools/peers.py MODEL fitted.csv made.csv --rows 15000 [--seed 0]

`bench_tables.py` runs this with the interpreter of the model's own environment, so nothing but
pandas is imported before the model is known. Peers are black boxes behind their public interface;
they get typed columns and the help that their users would give them:

- CTGAN does not take missing numbers: they become the median beside a column that says so. Numbers
  with few different values are declared discrete.
- TabularARGN replaces rare values by default (`argn_protected`); `argn` does not, as nobody else
  here does; `argn_fixed` gives up any order of columns for one.
"""

import argparse
import importlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

MARKS = ("", "?")
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
FEW = 32
"""Different values up to which CTGAN is told that numbers are discrete."""

EPOCHS = 100
GONE = ".gone"

Sampler = Callable[[int], pd.DataFrame]


@dataclass(frozen=True)
class Typed:
    """A frame of texts with its numbers as numbers, and what it takes to write them again.

    Args:
        frame: float64 with NaN, or texts in which a missing mark is a text as any other.
        decimals: Digits after the point of the columns of numbers.
        marks: What stood at missing places of these.
    """

    frame: pd.DataFrame
    decimals: dict[str, int]
    marks: dict[str, str]

    @classmethod
    def of(cls, texts: pd.DataFrame) -> "Typed":
        """Find the columns of numbers."""
        frame, decimals, marks = texts.copy(), {}, {}
        for name in texts.columns:
            gone = texts[name].isin(MARKS)
            known = texts[name][~gone]
            if not len(known) or not all(NUMBER.fullmatch(text) for text in known):
                continue
            frame[name] = pd.to_numeric(texts[name].where(~gone), errors="coerce").astype(float)
            decimals[name] = max(len(text.partition(".")[2]) for text in known)
            if gone.any():
                marks[name] = str(texts[name][gone].mode()[0])
        return cls(frame, decimals, marks)

    def written(self, made: pd.DataFrame) -> pd.DataFrame:
        """New rows as texts; numbers have as many digits as the fitted ones."""
        texts = {}
        for name in self.frame.columns:
            column = made[name]
            if name in self.decimals:
                numbers = pd.to_numeric(column, errors="coerce").astype(float)
                digits, mark = self.decimals[name], self.marks.get(name, "")
                texts[name] = [mark if np.isnan(v) else f"{v:.{digits}f}" for v in numbers]
            else:
                texts[name] = ["" if pd.isna(v) else str(v) for v in column]
        return pd.DataFrame(texts)


def medsynth(texts: pd.DataFrame, seed: int) -> Sampler:
    """Ours, with its defaults."""
    from medsynth.tabular import fit

    model = fit(texts, seed=seed)
    return lambda rows: model.sample(rows, seed)


def copula(texts: pd.DataFrame, seed: int) -> Sampler:
    """A Gaussian copula."""
    from medsynth.core.frames import from_frame, to_frame
    from medsynth.core.random import Key
    from medsynth.tabular.baselines import Copula

    model = Copula.fit(from_frame(texts))
    return lambda rows: to_frame(model.sample(rows, Key(seed)))


def independent(texts: pd.DataFrame, seed: int) -> Sampler:
    """Columns that know nothing of each other."""
    from medsynth.core.frames import from_frame, to_frame
    from medsynth.core.random import Key
    from medsynth.tabular.baselines import Independent

    model = Independent.fit(from_frame(texts))
    return lambda rows: to_frame(model.sample(rows, Key(seed)))


def ctgan(texts: pd.DataFrame, seed: int) -> Sampler:
    """CTGAN for 100 epochs.

    Source:
        Xu et al., *Modeling tabular data using conditional GAN*, NeurIPS 2019.
    """
    from ctgan import CTGAN  # type: ignore[import-not-found]

    typed = Typed.of(texts)
    frame = typed.frame.copy()
    discrete = [name for name in frame.columns if name not in typed.decimals]
    for name in typed.decimals:
        if frame[name].nunique() <= FEW:
            discrete.append(name)
            frame[name] = frame[name].map(lambda v: "" if np.isnan(v) else repr(v))
        elif name in typed.marks:
            frame[name + GONE] = frame[name].isna().map({True: "yes", False: "no"})
            discrete.append(name + GONE)
            frame[name] = frame[name].fillna(frame[name].median())
    model = CTGAN(epochs=EPOCHS, enable_gpu=False)
    model.set_random_state(seed)
    model.fit(frame, discrete)

    def sample(rows: int) -> pd.DataFrame:
        made = model.sample(rows)
        for name in typed.decimals:
            if name + GONE in made:
                made[name] = made[name].where(made[name + GONE] == "no")
        return typed.written(made)

    return sample


def argn(
    texts: pd.DataFrame, seed: int, *, protect: bool = False, flexible: bool = True
) -> Sampler:
    """TabularARGN, its other defaults kept: stops by itself, at most 100 epochs.

    Source:
        Tiwald et al., *TabularARGN* (arXiv 2501.12012).
    """
    from mostlyai.engine import TabularARGN  # type: ignore[import-not-found]

    typed = Typed.of(texts)
    model = TabularARGN(
        value_protection=protect,
        enable_flexible_generation=flexible,
        max_epochs=EPOCHS,
        random_state=seed,
        device="cpu",
    )
    model.fit(typed.frame)
    return lambda rows: typed.written(
        model.sample(n_samples=rows, device="cpu", rare_category_replacement_method="SAMPLE")
    )


HOMES = {
    "medsynth": "medsynth.tabular",
    "copula": "medsynth.tabular.baselines",
    "independent": "medsynth.tabular.baselines",
    "ctgan": "ctgan",
}
"""What is imported before the clock starts; `mostlyai.engine` for the others."""

MODELS: dict[str, Callable[[pd.DataFrame, int], Sampler]] = {
    "medsynth": medsynth,
    "copula": copula,
    "independent": independent,
    "ctgan": ctgan,
    "argn": argn,
    "argn_fixed": lambda texts, seed: argn(texts, seed, flexible=False),
    "argn_protected": lambda texts, seed: argn(texts, seed, protect=True),
}


def clock() -> tuple[float, float]:
    """Wall and CPU seconds, those of children that have ended with them."""
    return time.perf_counter(), sum(os.times()[:4])


def peak_mb() -> int:
    """The most memory that this process has had; unlike `ru_maxrss` nothing of its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def main() -> None:
    """Fit, sample, write; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("fitted", type=Path)
    parser.add_argument("made", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    texts = pd.read_csv(a.fitted, dtype=str, keep_default_na=False)
    importlib.import_module(HOMES.get(a.model, "mostlyai.engine"))
    clocks = [clock()]
    sample = MODELS[a.model](texts, a.seed)
    clocks.append(clock())
    made = sample(a.rows)
    clocks.append(clock())
    made[list(texts.columns)].to_csv(a.made, index=False)
    took = {
        f"{name}_{what}": round(after[i] - before[i], 2)
        for name, before, after in zip(("fit", "sample"), clocks, clocks[1:], strict=False)
        for i, what in enumerate(("s", "cpu_s"))
    }
    print(json.dumps(took | {"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
