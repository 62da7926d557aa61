"""Recipes: parsing, ranges, records that replay, checks that refuse."""

import json

import numpy as np
import pytest

from medsynth.core.random import Key
from medsynth.core.volume import LabelMap
from medsynth.edit import checks, operations
from medsynth.edit.recipe import Recipe, parse_step
from medsynth.errors import ConfigError, EditError
from tests.edit.conftest import brain

RANDOM = """
steps:
  - mirror: {}
    probability: 0.5
  - scale: {volume: [0.9, 1.16]}
  - shift: {distance_mm: [0, 12]}
  - deform: {amplitude_mm: [0.5, 2]}
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_record_replays_to_the_voxel(seed: int, sick: LabelMap) -> None:
    edited = Recipe.parse(RANDOM, "r").apply(sick, Key(seed))
    record = json.loads(json.dumps(edited.record))
    again = Recipe.from_record(record).apply(sick, Key(999))
    assert (again.labels.data == edited.labels.data).all()
    scale = next(r for r in record if r["operation"] == "scale")
    assert scale["factor"] == pytest.approx(scale["arguments"]["volume"], rel=0.01)
    shift = next(r for r in record if r["operation"] == "shift")
    assert sum(v**2 for v in shift["arguments"].values()) <= 12.01**2


def test_keys_decide(sick: LabelMap) -> None:
    recipe = Recipe.parse(RANDOM, "r")
    results = [recipe.apply(sick, Key(seed)).labels.data.tobytes() for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize(
    ("text", "operation", "arguments"),
    [
        ("mirror", "mirror", {}),
        ("scale:1.16", "scale", {"volume": 1.16}),
        ("scale:diameter=1.05", "scale", {"diameter": 1.05}),
        ("shift:10,0,-5", "shift", {"x_mm": 10.0, "y_mm": 0.0, "z_mm": -5.0}),
        ("rotate:15", "rotate", {"z_deg": 15.0}),
        ("rotate:x_deg=15", "rotate", {"x_deg": 15.0}),
        ("grow:ET=3", "grow", {"name": "ET", "margin_mm": 3.0}),
        ("grow:ET=3,within=WT", "grow", {"name": "ET", "margin_mm": 3.0, "within": "WT"}),
        ("shrink:ED=2", "shrink", {"name": "ED", "margin_mm": 2.0}),
        ("deform:4", "deform", {"amplitude_mm": 4.0}),
        ("relabel:ET=NCR", "relabel", {"source": "ET", "target": "NCR"}),
    ],
)
def test_command_line_steps(text: str, operation: str, arguments: dict[str, object]) -> None:
    step = parse_step(text)
    assert (step.operation, dict(step.arguments)) == (operation, arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("miror", "Did you mean 'mirror'"),
        ("scale", "scale with volume"),
        ("scale:big", "a number"),
        ("scale:diametre=1", "Did you mean 'diameter'"),
        ("shift:1,2,3,4,5", "at most"),
        ("grow:ET", "grow with name and margin_mm"),
    ],
)
def test_slips_name_the_nearest(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_step(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps: [", "YAML"),
        ("stepps: []", "steps"),
        ("steps: [{scale: {volume: [2, 1]}}]", "low"),
        ("steps: [{mirror: {}, scale: 2}]", "one operation"),
        ("steps: [{mirror: {}, probability: 2}]", "probability"),
        ("steps: [flip]", "an operation"),
    ],
)
def test_broken_recipes(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Recipe.parse(text, "r.yaml")


def test_checks_refuse_what_is_not_as_asked(sick: LabelMap) -> None:
    grown = operations.grow(sick, "ED", 4.0)
    with pytest.raises(EditError, match="times the volume"):
        checks.check(sick, grown, "scale", factor=1.0)
    lost = operations.relabel(sick, "ET", "NCR")
    with pytest.raises(EditError, match="ET still there"):
        checks.check(sick, lost, "shift", factor=1.0)
    bare = sick.with_data(np.where(sick.mask("ED"), sick.scheme.value("WM"), sick.data))
    with pytest.raises(EditError, match="enclosed"):
        checks.check(sick, bare, "scale", factor=None, lost_ok=("ED",))
    assert checks.exposed(sick) == 0


def test_implanting_needs_a_brain(sick: LabelMap) -> None:
    with pytest.raises(EditError, match="--onto"):
        Recipe((parse_step("implant"),)).apply(sick, Key(0))
    host = brain((3.0, 3.0, 3.0), tumour=False)
    assert Recipe((parse_step("implant"),)).apply(sick, Key(0), host).labels.same_grid(host)
