"""Configuration → objects: the only module that knows both.

A `Run` is a folder and everything that trains in it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from medsynth import config as configs
from medsynth.config import Config
from medsynth.core.cohort import Cohort
from medsynth.core.labels import LabelScheme
from medsynth.core.paths import write_text
from medsynth.errors import ConfigError, DataError, UsageError
from medsynth.imaging import style, synthesizer
from medsynth.imaging.discriminator import PatchDiscriminator, SegmentationDiscriminator
from medsynth.imaging.examples import LABEL_MAPS, Example, prepare
from medsynth.imaging.game import PairGame, SynthesisGame
from medsynth.imaging.generator import GeneratorSpec, make_generator
from medsynth.imaging.patches import Augmentation, Channels, Patches
from medsynth.imaging.style import StylePrior
from medsynth.training.precision import choose_precision
from medsynth.training.trainer import Trainer
from medsynth.training.world import World

LABELS = ("labels",)


def modalities(config: Config) -> tuple[str, ...]:
    """Scans that an experiment reads, sources first."""
    named = [*config.data.source, *config.data.target]
    return tuple(dict.fromkeys(m for m in named if m != "labels"))


def generator_spec(config: Config) -> GeneratorSpec:
    """Channels and widths of the generator."""
    of = LABEL_MAPS[config.data.labels].abbreviations
    source = of if config.data.source == LABELS else config.data.source
    target = of if config.data.target == LABELS else config.data.target
    return GeneratorSpec(config.generator.kind, source, target, config.data.source == LABELS,
                         config.data.target == LABELS, config.generator.widths,
                         config.generator.head)


def target_scheme(config: Config) -> LabelScheme | None:
    """Scheme of the label maps that the generator makes; None when it makes scans."""
    return LABEL_MAPS[config.data.labels] if config.data.target == LABELS else None


def game(config: Config) -> SynthesisGame | PairGame:
    """Players and losses, initialised from the seed."""
    torch.manual_seed(config.seed)
    spec = generator_spec(config)
    generator, of = make_generator(spec), config.discriminator
    if of.kind == "segmentation":
        judge = SegmentationDiscriminator(len(spec.target), len(spec.source) - 1, of.widths,
                                          of.head)
        return SynthesisGame(generator, judge, l1=config.loss.distance,
                             texture=config.loss.texture, r1=config.loss.r1,
                             r1_every=config.loss.r1_every)
    patch = PatchDiscriminator(len(spec.source) + len(spec.target), of.widths[0], len(of.widths))
    return PairGame(generator, patch, distance=config.loss.distance)


def trainer(config: Config, world: World) -> Trainer:
    """The trainer with its players on their device."""
    playing = game(config)
    playing.players.to(world.device, memory_format=torch.channels_last_3d)
    rates = {"generator": config.train.rate_generator,
             "discriminator": config.train.rate_discriminator}
    optimizers = {name: torch.optim.Adam(player.parameters(), rates[name], config.train.betas)
                  for name, player in playing.players.items()}
    return Trainer(playing, optimizers, world=world, seed=config.seed, batch=config.train.batch,
                   precision=choose_precision(config.train.precision, world.device),
                   accumulate=config.train.accumulate, clip_norm=config.train.clip,
                   ema_halflife_cases=config.train.ema_halflife_cases or None)


def patches(config: Config, examples: list[Example], prior: StylePrior | None) -> Patches:
    """The supply of training batches."""
    order = modalities(config)

    def indices(names: tuple[str, ...]) -> tuple[int, ...] | None:
        return None if names == LABELS else tuple(order.index(m) for m in names)

    channels = Channels(indices(config.data.source), indices(config.data.target),
                        len(LABEL_MAPS[config.data.labels].labels))
    how = config.augment
    return Patches(examples, channels, prior, patch=config.data.patch, batch=config.train.batch,
                   foreground=config.data.foreground, seed=config.seed,
                   augmentation=Augmentation(how.mirror, how.rotation_deg, how.scale, how.gamma,
                                             how.gain))


def style_prior(config: Config, examples: list[Example]) -> StylePrior | None:
    """The Gaussian over the styles of the training cases; None when no style is needed."""
    if not generator_spec(config).styled:
        return None
    of = [modalities(config).index(m) for m in config.data.target]
    count = len(LABEL_MAPS[config.data.labels].labels)
    return StylePrior.fit(np.stack([
        style.measure({k: v[:, of] for k, v in example.samples.items()}, count, len(of))
        for example in examples]))
