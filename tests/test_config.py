"""Configurations: every file is valid, slips name the nearest key, dumps read back."""

from pathlib import Path

import pytest

from medsynth import config as configs
from medsynth.build import image as build
from medsynth.edit.recipe import Recipe
from medsynth.errors import ConfigError

ROOT = Path(__file__).parents[1]
MINIMAL = "data: {cohort: c.json}\n"


@pytest.mark.parametrize("path", sorted((ROOT / "configs/image").glob("*.yaml")),
                         ids=lambda p: p.stem)  # fmt: skip
def test_every_file_is_valid_and_builds_its_players(path: Path) -> None:
    config = configs.parse(path.read_text(), path.name)
    assert configs.parse(configs.dump(config), "dump") == config
    assert set(build.game(config).players) == {"generator", "discriminator"}


def test_every_recipe_is_valid() -> None:
    for path in (ROOT / "configs/edit").glob("*.yaml"):
        assert Recipe.parse(path.read_text(), path.name).steps


@pytest.mark.parametrize(("text", "words"), [
    ("data: {cohort: c, pach: [16,16,16]}", "Did you mean 'data.patch'"),
    ("dat: {cohort: c}", "Did you mean 'data'"),
    ("seed: 1", "a value for 'data'"),
    ("data: {cohort: 3}", "to be text"),
    (MINIMAL + "train: {steps: many}", "whole number"),
    (MINIMAL + "train: {steps: 1.5}", "whole number"),
    (MINIMAL + "train: {steps: true}", "whole number"),
    (MINIMAL + "train: {steps: 0}", "at least 1"),
    (MINIMAL + "train: {precision: bf61}", "Did you mean 'bf16'"),
    (MINIMAL + "generator: {kind: unet}", "discriminator.kind: patch"),
    ("data: {cohort: c, patch: [56, 48, 48]}", "multiples of 16"),
    ("data: {cohort: c, patch: [32, 48, 48]}", "from 48 on"),
    ("data: {cohort: c, labels: tumour}", "medsynth tissue"),
    ("data: {cohort: c, source: [t1n], target: [t1n]}", "other than the source"),
    ("data: [1]", "section"), ("- 1", "keys and values"), ("data: {", "YAML")])  # fmt: skip
def test_slips(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        configs.parse(text, "my.yaml")
    assert "my.yaml" in str(caught.value)


def test_overrides_and_yaml_numbers() -> None:
    config = configs.parse(MINIMAL, "c", ["train.steps=10", "data.cohort=x.json",
                                          "train.rate_generator=1e-4"])  # fmt: skip
    assert (config.train.steps, config.data.cohort) == (10, "x.json")
    assert config.train.rate_generator == 1e-4
    with pytest.raises(ConfigError, match=r"train\.steps=10"):
        configs.parse(MINIMAL, "c", ["train.steps"])
