"""What never meets in real rows does not meet in made ones; what does by chance may."""

import numpy as np
import pandas as pd
import pytest

from medsynth import tabular
from medsynth.core.frames import from_frame
from medsynth.errors import DataError
from medsynth.tabular.contradictions import Contradictions


def ward(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    sex = rng.choice(["F", "M"], rows)
    own = np.where(sex == "F", "ovary", "prostate")
    site = np.where(rng.random(rows) < 0.4, own, rng.choice(["lung", "colon"], rows))
    core = np.round(rng.lognormal(3, 1, rows), 1)
    whole = np.round(core + rng.lognormal(2, 1, rows), 1)
    return pd.DataFrame({"sex": sex, "site": site, "core": core, "whole": whole,
                         "age": rng.integers(20, 90, rows)})  # fmt: skip


def test_zeros_and_orders_are_found_and_nothing_else() -> None:
    found = Contradictions.of(from_frame(ward(3000)))
    assert {(a, b) for a, _, b, _ in found.apart} == {("sex", "site")}
    assert len(found.apart) == 2
    assert found.ordered == (("core", "whole"),)
    assert Contradictions.from_json(found.to_json()) == found
    assert not found.broken(from_frame(ward(3000))).any()


def test_few_rows_and_independent_columns_prove_nothing() -> None:
    assert Contradictions.of(from_frame(ward(60))) == Contradictions()
    rng = np.random.default_rng(1)
    loose = pd.DataFrame({f"c{i}": rng.integers(0, 12, 2000).astype(str) for i in range(8)})
    assert Contradictions.of(from_frame(loose)) == Contradictions()


def test_made_rows_contradict_nothing() -> None:
    model = tabular.fit(ward(2500), width=16, steps=20)  # knows hardly anything
    made = model.sample(1500)
    assert not ((made["sex"] == "F") & (made["site"] == "prostate")).any()
    assert not (made["core"] > made["whole"]).any()
    assert (model.sample(100, where={"site": "ovary"})["sex"] == "F").all()
    with pytest.raises(DataError, match=r"found 20 of 20 that do.*Hardly a real row has"):
        model.sample(20, where={"sex": "M", "site": "ovary"})
