"""The frozen tree that a YAML configuration is validated into.

Knows keys, types and ranges; no classes, no networks, no data. `medsynth.build` turns the tree
into objects. Every key has a default here except the ones without which an experiment has no
meaning, so a configuration file says what it changes and `RUN/config.yaml` says everything.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from medsynth.errors import ConfigError

COLUMNS = ("real", "real+synthetic", "synthetic", "synthetic+10%real", "real+phantoms", "phantoms")
"""What segmentors of the utility table can be trained on."""

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
        texture: Difference in fine contrast per structure (segmentation discriminator only).
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


@dataclass(frozen=True)
class Fold:
    """`folds`: one partition of the real people.

    Args:
        test: Subjects of the test set; all others are trained on.
        synthetic: Generated cohort for this fold, by a generator that has not seen `test`.
        model: Run of that generator, to check what it was trained on; null for unknown.
    """

    test: tuple[str, ...]
    synthetic: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Utility:
    """The utility table: `medsynth evaluate utility CONFIG`.

    Args:
        real: Real cohort with tumour labels.
        synthetic: Generated cohort; folds may name their own.
        model: Run of the generator, to check what it was trained on; null for unknown.
        phantoms: Phantom cohort, for the columns that use it.
        folds: Rotated test sets; empty takes the test split of the real cohort.
        training: Columns.
        segmentors: `gan`, `dynunet`.
        augmentation: Rows: without, with.
        seeds: Training runs per cell.
        shares: Learning curve over the share of real cases.
        ratios: Learning curve over synthetic cases per real one.
        steps, batch, patch: Of every cell.
        precision, workers, cache: As in training.
    """

    real: str
    synthetic: str | None = None
    model: str | None = None
    phantoms: str | None = None
    folds: tuple[Fold, ...] = ()
    kind: str = "utility"
    seed: int = 0
    training: tuple[str, ...] = ("real", "real+synthetic", "synthetic", "synthetic+10%real")
    segmentors: tuple[str, ...] = ("gan", "dynunet")
    augmentation: tuple[bool, ...] = (False, True)
    seeds: int = 3
    shares: tuple[float, ...] = (1.0,)
    ratios: tuple[float, ...] = (1.0,)
    steps: int = 150
    batch: int = 2
    patch: tuple[int, int, int] = (48, 48, 48)
    precision: str = "auto"
    workers: int = 1
    cache: str | None = None


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
    config = _build(Config, _tree(text, where, settings), where, "")
    _check(config, where)
    return config


def parse_utility(text: str, where: str, settings: Sequence[str] = ()) -> Utility:
    """Validate the YAML text of a utility table; arguments and errors as for `parse`."""
    table: Utility = _build(Utility, _tree(text, where, settings), where, "")
    for key, values, choices in (
        ("kind", (table.kind,), ("utility",)),
        ("training", table.training, COLUMNS),
        ("segmentors", table.segmentors, ("gan", "dynunet")),
    ):
        strange = [value for value in values if value not in choices]
        if strange or not values:
            raise ConfigError(f"{key} among {', '.join(choices)}", repr(strange or None), where)
    if min(table.seeds, table.steps, table.batch, table.workers) < 1:
        raise ConfigError("seeds, steps, batch and workers of at least 1", "less", where)
    if any(n % 16 or n < 16 * LOWEST for n in table.patch):
        raise ConfigError(
            f"patch in multiples of 16, from {16 * LOWEST} on", str(list(table.patch)), where
        )
    if any(not 0 < share <= 1 for share in table.shares) or min(table.ratios) <= 0:
        raise ConfigError("shares in (0, 1] and ratios above 0", "others", where)
    given = table.synthetic or (table.folds and all(fold.synthetic for fold in table.folds))
    if any("synthetic" in column for column in table.training) and not given:
        raise ConfigError("synthetic: a generated cohort", "none", where)
    if any("phantoms" in column for column in table.training) and not table.phantoms:
        raise ConfigError("phantoms: a phantom cohort", "none", where)
    return table


def _tree(text: str, where: str, settings: Sequence[str]) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError("YAML", f"{error}", where) from error
    if not isinstance(tree, dict):
        raise ConfigError("keys and values", type(tree).__name__, where)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(
                "--set KEY=VALUE", repr(setting), None, "For example --set train.steps=10."
            )
        _set(tree, key.strip().split("."), yaml.safe_load(value), setting)
    return tree


def dump(config: Config) -> str:
    """The whole tree as YAML, every key spelled out."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return yaml.safe_dump(
        plain(dataclasses.asdict(config)), sort_keys=False, default_flow_style=None
    )


def _set(tree: dict[str, Any], path: Sequence[str], value: Any, setting: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError("a section", f"a value at {part!r}", f"--set {setting}")
    tree[path[-1]] = value


def _build(cls: type, tree: Any, where: str, prefix: str) -> Any:
    if not isinstance(tree, dict):
        raise ConfigError(f"a section with keys at {prefix[:-1]!r}", repr(tree), where)
    hints = typing.get_type_hints(cls)
    for key in tree:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, 1, 0.5)
            advice = (
                f"Did you mean {prefix + near[0]!r}?"
                if near
                else f"Valid keys: {', '.join(prefix + name for name in hints)}."
            )
            raise ConfigError("a known key", repr(prefix + str(key)), where, advice)
    values = {}
    for spec in dataclasses.fields(cls):
        key = prefix + spec.name
        if spec.name in tree:
            values[spec.name] = _value(hints[spec.name], tree[spec.name], where, key)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise ConfigError(
                f"a value for {key!r}", "none", where, "Set it in the file or with --set."
            )
    return cls(**values)


def _value(kind: Any, value: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type, kind), value, where, key + ".")
    wrong = ConfigError(f"{key} to be {_name(kind)}", f"{value!r} ({type(value).__name__})", where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(arguments[0], value, where, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise wrong
        if arguments[-1] is Ellipsis:
            return tuple(_value(arguments[0], item, where, key) for item in value)
        if len(value) != len(arguments):
            raise wrong
        return tuple(_value(a, v, where, key) for a, v in zip(arguments, value, strict=True))
    if isinstance(value, bool) != (kind is bool):
        raise wrong
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            value = float(value)
        except ValueError:
            raise wrong from None
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise wrong
    return value


def _name(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        arguments = typing.get_args(kind)
        return (
            f"a list of {_name(arguments[0])}"
            if arguments[-1] is Ellipsis
            else f"a list of {len(arguments)} {_name(arguments[0])}"
        )
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(kind, str(kind))


def _check(config: Config, where: str) -> None:
    for path, choices in CHOICES.items():
        value: Any = config
        for part in path.split("."):
            value = getattr(value, part)
        if value not in choices:
            near = difflib.get_close_matches(str(value), choices, 1, 0.5)
            raise ConfigError(
                f"{path} to be one of {', '.join(choices)}",
                repr(value),
                where,
                f"Did you mean {near[0]!r}?" if near else None,
            )
    data, train = config.data, config.train
    positive = {
        "train.steps": train.steps,
        "train.batch": train.batch,
        "train.accumulate": train.accumulate,
        "train.save_every": train.save_every,
        "train.preview_every": train.preview_every,
        "train.log_every": train.log_every,
        "data.workers": data.workers,
        "loss.r1_every": config.loss.r1_every,
    }
    for key, number in positive.items():
        if number < 1:
            raise ConfigError(f"{key} of at least 1", str(number), where)
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
