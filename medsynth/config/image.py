"""The configuration of an image GAN."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from medsynth.config.tree import at_least_one, choose, read
from medsynth.errors import ConfigError

LOWEST = 3
"""Voxels along an edge at the lowest level of a network that are left of a patch at least. Less
has no inside, and with 2 oneDNN 3.13 reads unset memory in bf16 on CPUs without AMX (docs/log.md).
"""


@dataclass(frozen=True)
class Data:
    """`data`: which cases, which channels, which patches.

    Args:
        cohort: Path of a cohort.json, relative to the configuration or absolute.
        source: `[labels]`, or scans by modality.
        target: `[labels]`, or scans by modality.
        labels: Which label map: `brain` (tissue and tumour) or `tumour`.
        patch: Voxels along i, j, k.
        foreground: Share of patches centred on tumour, 0 to 1.
        cache: Folder of prepared cases; null means `RUN/cache`.
        workers: Loader threads per process.
    """

    cohort: str
    source: tuple[str, ...] = ("labels",)
    target: tuple[str, ...] = ("t1n", "t1c", "t2w", "t2f")
    labels: str = "brain"
    patch: tuple[int, int, int] = (64, 64, 64)
    foreground: float = 0.5
    cache: str | None = None
    workers: int = 2


@dataclass(frozen=True)
class Augment:
    """`augment`: how much training patches vary; see `imaging.patches.Augmentation`."""

    mirror: bool = True
    rotation_deg: float = 8.0
    scale: float = 0.08
    gamma: float = 0.15
    gain: float = 0.1


@dataclass(frozen=True)
class Generator:
    """`generator`: `folded` (default) or `unet` (pix2pix), channels per level."""

    kind: str = "folded"
    widths: tuple[int, ...] = (48, 96, 192, 256)
    head: int = 16


@dataclass(frozen=True)
class Discriminator:
    """`discriminator`: `segmentation` (labels → MRI only) or `patch`.

    Args:
        kind: Which one.
        widths: Channels per level; a patch discriminator uses the first as its width and their
            number as its strided layers.
        head: Channels of the full-resolution layers (segmentation only).
    """

    kind: str = "segmentation"
    widths: tuple[int, ...] = (32, 64, 96)
    head: int = 8


@dataclass(frozen=True)
class Loss:
    """`loss`: weights.

    Args:
        adversarial: The discriminator's verdict (segmentation discriminator only).
        distance: L1 to the real scan (Dice + cross-entropy when the target is a label map).
        texture: Difference in texture per structure (segmentation discriminator only).
        r1: Gradient penalty; 0 switches it off.
        r1_every: Steps between two penalties.
    """

    adversarial: float = 0.3
    distance: float = 10.0
    texture: float = 40.0
    r1: float = 0.1
    r1_every: int = 16


@dataclass(frozen=True)
class Train:
    """`train`: how long and how.

    Args:
        steps: Optimiser steps of the generator.
        batch: Cases per step, all ranks together.
        accumulate: Micro-batches per step and rank.
        precision: `auto`, `bf16`, `fp16` or `fp32`.
        rate_generator, rate_discriminator: Learning rates of Adam.
        betas: Adam's decay rates.
        clip: Largest gradient norm.
        ema_halflife_cases: Half-life of the averaged generator in cases seen; 0 for none.
        save_every, preview_every, log_every: Steps.
        init: Model that the generator's weights start from: a run, a model file, or the name of
            a model in the box; null for random ones.
    """

    steps: int = 20000
    batch: int = 2
    accumulate: int = 1
    precision: str = "auto"
    rate_generator: float = 4e-4
    rate_discriminator: float = 4e-4
    betas: tuple[float, float] = (0.5, 0.99)
    clip: float = 10.0
    ema_halflife_cases: float = 2000.0
    save_every: int = 500
    preview_every: int = 500
    log_every: int = 10
    init: str | None = None


@dataclass(frozen=True)
class Config:
    """A whole experiment."""

    data: Data
    kind: str = "image"
    seed: int = 0
    augment: Augment = field(default_factory=Augment)
    generator: Generator = field(default_factory=Generator)
    discriminator: Discriminator = field(default_factory=Discriminator)
    loss: Loss = field(default_factory=Loss)
    train: Train = field(default_factory=Train)


CHOICES = {
    "kind": ("image",),
    "data.labels": ("brain", "tumour"),
    "generator.kind": ("folded", "unet"),
    "discriminator.kind": ("segmentation", "patch"),
    "train.precision": ("auto", "bf16", "fp16", "fp32"),
}


def parse(text: str, where: str, settings: Sequence[str] = ()) -> Config:
    """Validate the YAML text of an experiment.

    Args:
        text: The configuration.
        where: Its file, for messages.
        settings: `key=value` overrides, for example `train.steps=10`; values are YAML.

    Raises:
        ConfigError: An unknown key (the nearest valid one is named), a value of the wrong type
            or out of range, keys that exclude each other.
    """
    config: Config = read(Config, text, where, settings, "image")
    _check(config, where)
    return config


def _check(config: Config, where: str) -> None:
    for path, choices in CHOICES.items():
        value: Any = config
        for part in path.split("."):
            value = getattr(value, part)
        choose(path, value, choices, where)
    data, train = config.data, config.train
    numbers = {
        "train.steps": train.steps,
        "train.batch": train.batch,
        "train.accumulate": train.accumulate,
        "train.save_every": train.save_every,
        "train.preview_every": train.preview_every,
        "train.log_every": train.log_every,
        "data.workers": data.workers,
        "loss.r1_every": config.loss.r1_every,
    }
    at_least_one(numbers, where)
    for key, channels in (("data.source", data.source), ("data.target", data.target)):
        if not channels or ("labels" in channels and len(channels) > 1):
            raise ConfigError(f"{key} to be [labels] or modalities", str(list(channels)), where)
    if data.source == data.target:
        raise ConfigError("a target other than the source", str(list(data.source)), where)
    from_labels, to_labels = data.source == ("labels",), data.target == ("labels",)
    if from_labels and data.labels != "brain":
        raise ConfigError(
            "data.labels: brain when scans are made from labels",
            data.labels,
            where,
            "Tumour labels alone do not say where the brain is; `medsynth tissue` adds the tissue.",
        )
    if config.discriminator.kind == "segmentation" and (not from_labels or to_labels):
        raise ConfigError(
            "discriminator.kind: patch when the source is not a label map",
            "segmentation",
            where,
            "Set discriminator.kind: patch.",
        )
    if config.discriminator.kind == "segmentation" and config.generator.kind != "folded":
        raise ConfigError(
            "generator.kind: folded with a segmentation discriminator",
            config.generator.kind,
            where,
            "Set discriminator.kind: patch.",
        )
    levels = len(config.generator.widths) - (config.generator.kind == "unet")
    stride = 2 ** max(levels, len(config.discriminator.widths))
    if any(n % stride or n < LOWEST * stride for n in data.patch):
        raise ConfigError(
            f"data.patch in multiples of {stride} (2 to the number of halvings), from "
            f"{LOWEST * stride} on",
            str(list(data.patch)),
            where,
        )
    if not 0 <= data.foreground <= 1:
        raise ConfigError("data.foreground from 0 to 1", str(data.foreground), where)
