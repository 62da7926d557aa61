"""Which held-out phantom the demo shows, and what it makes again when training goes on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from medsynth.commands import demo
from medsynth.core.labels import BRAIN
from medsynth.core.volume import LabelMap
from medsynth.io.sidecar import write_json


def _tumour(*, oedema_at: int) -> LabelMap:
    """Most tumour in slice 4; two voxels of oedema in a slice, twenty of the rest in slice 4."""
    data = np.full((8, 8, 9), BRAIN.value("WM"), np.uint8)
    data[:2, :5, 4] = BRAIN.value("NCR")
    data[2:4, :5, 4] = BRAIN.value("ET")
    data[6, :2, oedema_at] = BRAIN.value("ED")
    return LabelMap(data, np.eye(4), BRAIN)


def test_what_shows_least_is_counted_in_the_slice_of_the_figure() -> None:
    assert demo._least_shown(_tumour(oedema_at=4)) == 2
    assert demo._least_shown(_tumour(oedema_at=7)) == 0


def test_scans_of_an_earlier_model_are_made_again(tmp_path: Path) -> None:
    now = cast(Any, SimpleNamespace(fingerprint="now"))
    for folder, model in (("old", "before"), ("new", "now")):
        write_json(tmp_path / folder / "case" / "case.json", {"model": model})
        demo._forget_others(tmp_path / folder, now)
    assert not (tmp_path / "old").exists()
    assert (tmp_path / "new" / "case" / "case.json").exists()
    demo._forget_others(tmp_path / "none", now)
