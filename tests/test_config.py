"""Configurations: every file is valid, slips name the nearest key, dumps read back."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from medsynth import config as configs
from medsynth.build import image as build
from medsynth.config import tabular
from medsynth.core.codes import Codes
from medsynth.edit.recipe import Recipe
from medsynth.errors import ConfigError
from medsynth.tabular.kinds import resolved
from medsynth.tabular.material import CodeMaterial

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


@pytest.mark.parametrize("path", sorted((ROOT / "configs/tabular").glob("*.yaml")),
                         ids=lambda p: p.stem)  # fmt: skip
def test_every_file_of_records_is_valid(path: Path) -> None:
    config = tabular.parse_tabular(path.read_text(), path.name)
    assert tabular.parse_tabular(configs.dump(config), "dump") == config


@pytest.mark.parametrize(("setting", "words"), [
    ("model.drop=1", "model.drop from 0 to below 1, found 1"),
    ("model.drop=-0.1", "model.drop from 0"),
    ("model.pretraining=1", "model.pretraining from 0 to below 1"),
    ("data.held_out=1", "data.held_out from 0 to below 1"),
    ("data.rare=-1", "data.rare from 0"),
    ("data.digits=0", "data.digits of at least 1"),
    ("train.clip=0", "train.clip above 0"),
    ("train.rate=-1", "train.rate above 0"),
    ("train.rate=.nan", "train.rate above 0, found nan"),
    ("train.rate_critic=-1", "train.rate_critic of at least 0"),
    ("train.ema_epochs=-1", "train.ema_epochs of at least 0"),
    ("canaries.bound=0", "canaries.bound above 0"),
    ("privacy.epsilon=0", "privacy.epsilon above 0"),
    ("privacy.clip_norm=0", "privacy.clip_norm above 0"),
    ("privacy.delta=1", "privacy.delta above 0 and below 1"),
    ("privacy.delta=0", "privacy.delta above 0 and below 1"),
])  # fmt: skip
def test_numbers_of_records_out_of_range(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tabular.parse_tabular("kind: tabular\ndata: {table: x.csv}\n", "t.yaml", [setting])


@pytest.mark.parametrize(("kind", "codes"), [
    *((kind, False) for kind in tabular.ON_ROWS), *((kind, True) for kind in tabular.ON_CODES),
])  # fmt: skip
def test_what_a_run_has_decided_is_valid(kind: str, codes: bool) -> None:
    config = resolved(tabular.with_options(0, {"kind": kind}), 500, codes=codes)
    assert tabular.parse_tabular(configs.dump(config), "config.yaml") == config


def test_options_of_records_are_fields_of_one_section() -> None:
    fields = Counter(f.name for of in tabular.SECTIONS.values() for f in dataclasses.fields(of))
    assert [name for name, count in fields.items() if count > 1] == []
    told = tabular.with_options(0, {"clip": 2.0, "clip_norm": 0.5})
    assert (told.train.clip, told.privacy.clip_norm) == (2.0, 0.5)


def test_medgan_takes_the_layers_of_its_critic() -> None:
    config = tabular.with_options(0, {"kind": "medgan", "critic": [24, 12], "steps": 1,
                                      "batch": 10, "latent": 8})  # fmt: skip
    matrix = sparse.csr_matrix(np.random.default_rng(0).random((80, 6)) < 0.5, dtype=np.int32)
    config = resolved(config, len(matrix.indptr) - 1, codes=True)
    game = CodeMaterial.of(Codes(matrix, tuple("abcdef")), config).game
    shapes = [tuple(p.shape) for p in game.players["discriminator"].rest.parameters()]
    assert shapes == [(12, 24), (12,), (1, 12), (1,)]
    with pytest.raises(ConfigError, match=r"two layers in model\.critic, found 1"):
        tabular.with_options(0, {"kind": "medgan", "critic": [24]})


def test_a_dynunet_takes_smaller_patches_than_a_folded_gan() -> None:
    text = "real: r.json\nsynthetic: s.json\npatch: [32, 32, 48]\n"
    small = configs.parse_utility(text + "segmentors: [dynunet]", "u.yaml")
    assert small.patch == (32, 32, 48)
    with pytest.raises(ConfigError, match="from 48 on"):
        configs.parse_utility(text + "segmentors: [gan, dynunet]", "u.yaml")
