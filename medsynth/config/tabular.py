"""The configuration of a model of records: tables of columns, or codes of subjects."""

import dataclasses
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from medsynth.config.tree import at_least_one, build, choose, read
from medsynth.errors import ConfigError

ON_ROWS = ("autoregressive", "wgan", "vae")
ON_CODES = ("autoregressive", "emr-wgan", "medgan")
KINDS = tuple(dict.fromkeys((*ON_ROWS, *ON_CODES)))
MOST_STEPS = 2500
"""Of a run whose steps are counted in epochs."""

PRIVATE = ("wgan", "emr-wgan")
"""Kinds whose critic alone sees records."""


@dataclass(frozen=True)
class Data:
    """`data`: which records.

    Args:
        table: CSV, Parquet, or a CSR matrix of codes (`.npz`).
        schema: Declared columns, YAML; null infers them.
        subject, code: Columns of the long form, a row per subject and code.
        digits: Group the codes of the long form by their first characters; 3 for ICD-9.
        held_out: Share of the records that tell when to stop and are not learnt from.
        numbers: `quantiles` or `modes`: intervals of numeric columns.
        rare: Levels with a smaller share of the rows share a token.
    """

    table: str
    schema: str | None = None
    subject: str | None = None
    code: str | None = None
    digits: int | None = None
    held_out: float = 0.1
    numbers: str = "quantiles"
    rare: float = 0.0


@dataclass(frozen=True)
class Model:
    """`model`: which game, and how large its networks are.

    Args:
        kind: `auto` takes the autoregressive one, or with privacy the Wasserstein GAN.
        width, depth: Features and residual blocks; null takes 384 features for autoregressive
            rows, 256 for others.
        embedding: Features of a token (autoregressive).
        drop: Dropout; null takes 0.05, and 0.2 below 2,000 records.
        latent: Numbers of noise; null takes 128 for GANs and 16 for a VAE.
        critic: Layers of the critic.
        penalty: Weight of its gradient penalty.
        turns: Its turns to one of the generator.
        pack: Rows that it sees at once (wgan); null takes 10, with privacy 1.
        conditional: Whether rows are chosen by level, rare ones more often, and the level is asked
            for (wgan); null for yes, with privacy no.
        target: Column that a classifier must tell from the others (wgan); null for none.
        agreement: Weight of the classifier.
        anchor: With privacy, weight of the distance between the shares of a batch and those that
            were counted with noise (wgan).
        beta: Weight of the divergence (vae).
        rounding: Round what the decoder says, as published, rather than draw (medgan).
        pretraining: Share of the steps for the autoencoder (medgan).
    """

    kind: str = "auto"
    width: int | None = None
    depth: int = 1
    embedding: int = 16
    drop: float | None = None
    latent: int | None = None
    critic: tuple[int, ...] = (256, 128)
    penalty: float = 10.0
    turns: int = 1
    pack: int | None = None
    conditional: bool | None = None
    target: str | None = None
    agreement: float = 1.0
    anchor: float = 30.0
    beta: float = 0.5
    rounding: bool = False
    pretraining: float = 0.2


@dataclass(frozen=True)
class Train:
    """`train`: how long and how; null takes what suits the kind of model.

    Args:
        epochs: Passes over the records that learning rates are laid out for, 4 steps each at
            least, 2,500 steps in all at most.
        steps: Where to stop; null for the end of the epochs.
        batch: Records per step, all ranks together.
        precision: `auto`, `bf16`, `fp16` or `fp32`; tables are small, fp32 is quick enough.
        rate, rate_critic: Learning rates.
        decay: Whether the learning rate falls to nothing (half a cosine).
        patience: Epochs without better held-out records until training ends by itself; null takes
            4, and 8 below 2,000 rows.
        clip: Largest gradient norm.
        ema_epochs: Half-life of the averaged weights; null takes a half, and 2 below 2,000 rows.
        save_every, preview_every, log_every: Steps.
    """

    epochs: int | None = None
    steps: int | None = None
    batch: int | None = None
    precision: str = "fp32"
    rate: float | None = None
    rate_critic: float | None = None
    decay: bool = True
    patience: int | None = None
    clip: float = 5.0
    ema_epochs: float | None = None
    save_every: int = 500
    preview_every: int = 500
    log_every: int = 10


@dataclass(frozen=True)
class Canaries:
    """`canaries`: made-up records hidden among the real ones, to see whether they are remembered.

    Args:
        copies: How often canaries are put in, for example `[1, 2, 4, 8]`; empty for none.
        each: Canaries for each number of copies.
        candidates: Records of the same making that are not put in, to rank against.
        every: Epochs between two measurements.
        bound: Mean exposure, bits, of the canaries that were put in least often above which
            training stops; null never. Weights are then kept only where exposure was measured.
    """

    copies: tuple[int, ...] = ()
    each: int = 4
    candidates: int = 1024
    every: int = 2
    bound: float | None = None


@dataclass(frozen=True)
class Privacy:
    """`privacy`: differential privacy of the critic; null epsilon for none.

    Args:
        epsilon: To spend in all; the noise is found.
        delta: Null takes one over ten times the number of records.
        clip_norm: Largest norm of a record's gradient.
        preprocessing: Noise multiplier of the histograms that intervals are made of.
        public: Declare that levels and ranges are public although no schema says so.
    """

    epsilon: float | None = None
    delta: float | None = None
    clip_norm: float = 1.0
    preprocessing: float = 20.0
    public: bool = False


@dataclass(frozen=True)
class Tabular:
    """A whole experiment on records."""

    data: Data
    kind: str = "tabular"
    seed: int = 0
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    canaries: Canaries = field(default_factory=Canaries)
    privacy: Privacy = field(default_factory=Privacy)


SECTIONS = {
    "data": Data, "model": Model, "train": Train, "canaries": Canaries, "privacy": Privacy,
}  # fmt: skip
"""By their names in the configuration; no two have a field of the same name."""


def parse_tabular(text: str, where: str, settings: Sequence[str] = ()) -> Tabular:
    """Validate the YAML text of an experiment on records.

    Args:
        text: The configuration.
        where: Its file, for messages.
        settings: `key=value` overrides; values are YAML.

    Raises:
        ConfigError: An unknown key, a value of the wrong type or out of range.
    """
    config: Tabular = read(Tabular, text, where, settings, "tabular")
    check(config, where)
    return config


def with_options(seed: int, options: dict[str, Any]) -> Tabular:
    """A configuration for records at hand, from the fields of its sections by their own names.

    Raises:
        ConfigError: No section has such a field, or the value does not fit.
    """
    tree: dict[str, Any] = {"seed": seed, "kind": "tabular", "data": {"table": "records at hand"}}
    pairs = [(f.name, name) for name, of in SECTIONS.items() for f in dataclasses.fields(of)]
    known = dict(pairs)
    assert len(known) == len(pairs), "a field of two sections would be ambiguous"
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.5)
            advice = f"Did you mean {near[0]!r}?" if near else f"Options: {', '.join(known)}."
            raise ConfigError("an option of tabular models", repr(key), None, advice)
        tree.setdefault(known[key], {})[key] = value
    config: Tabular = build(Tabular, tree, "options")
    check(config, "options")
    return config


def check(config: Tabular, where: str) -> None:
    """Refuse what makes no sense.

    Raises:
        ConfigError: Out of range, or keys that exclude each other.
    """
    model, train, private = config.model, config.train, config.privacy
    choose("kind", config.kind, ("tabular",), where)
    choose("model.kind", model.kind, ("auto", *KINDS), where)
    choose("data.numbers", config.data.numbers, ("quantiles", "modes"), where)
    choose("train.precision", train.precision, ("auto", "bf16", "fp16", "fp32"), where)
    at_least_one(
        {
            "model.width": 1 if model.width is None else model.width, "model.depth": model.depth,
            "model.latent": 1 if model.latent is None else model.latent,
            "model.embedding": model.embedding, "model.turns": model.turns,
            "model.pack": model.pack or 1,
            "train.epochs": 1 if train.epochs is None else train.epochs,
            "train.batch": 1 if train.batch is None else train.batch,
            "train.patience": 1 if train.patience is None else train.patience,
            "train.save_every": train.save_every,
            "train.log_every": train.log_every, "train.preview_every": train.preview_every,
            "train.steps": 1 if train.steps is None else train.steps,
            "canaries.each": config.canaries.each, "canaries.every": config.canaries.every,
            "canaries.copies": min(config.canaries.copies, default=1),
            "canaries.candidates": config.canaries.candidates,
            "data.digits": 1 if config.data.digits is None else config.data.digits,
            "model.critic": min(model.critic, default=1),
        },
        where,
    )  # fmt: skip
    _check_numbers(config, where)
    if (config.data.subject is None) != (config.data.code is None):
        raise ConfigError("both data.subject and data.code, or none", "one", where)
    if model.kind == "medgan" and len(model.critic) != 2:
        raise ConfigError("two layers in model.critic", str(len(model.critic)), where)
    if private.epsilon is not None:
        _check_private(config, where)


def _check_numbers(config: Tabular, where: str) -> None:
    """Refuse numbers out of range, naming the key; null says nothing."""
    data, model, train, private = config.data, config.model, config.train, config.privacy
    shares = {
        "data.held_out": data.held_out, "data.rare": data.rare, "model.drop": model.drop,
        "model.pretraining": model.pretraining,
    }  # fmt: skip
    positive = {
        "train.clip": train.clip, "train.rate": train.rate, "canaries.bound": config.canaries.bound,
        "privacy.epsilon": private.epsilon,
        "privacy.clip_norm": private.clip_norm, "privacy.preprocessing": private.preprocessing,
    }  # fmt: skip
    for key, share in shares.items():
        if share is not None and not 0 <= share < 1:
            raise ConfigError(f"{key} from 0 to below 1", f"{share:g}", where)
    for key, number in positive.items():
        if number is not None and not (number > 0 and math.isfinite(number)):
            raise ConfigError(f"{key} above 0", f"{number:g}", where)
    # a run without a critic has written 0
    for key, number in (
        ("train.rate_critic", train.rate_critic), ("train.ema_epochs", train.ema_epochs),
    ):  # fmt: skip
        if number is not None and not (number >= 0 and math.isfinite(number)):
            raise ConfigError(f"{key} of at least 0", f"{number:g}", where)
    if private.delta is not None and not 0 < private.delta < 1:
        raise ConfigError("privacy.delta above 0 and below 1", f"{private.delta:g}", where)


def _check_private(config: Tabular, where: str) -> None:
    """Refuse what would void the guarantee, and say why."""
    model, private = config.model, config.privacy
    assert private.epsilon is not None
    if model.kind not in ("auto", *PRIVATE):
        raise ConfigError(
            f"model.kind among {', '.join(PRIVATE)} with privacy.epsilon", repr(model.kind), where,
            "Only there is the critic the one player that sees records.",
        )  # fmt: skip
    for wrong, key, why in (
        ((model.pack or 1) > 1, "model.pack: 1", "A verdict on several rows is not one record's."),
        (
            bool(model.conditional), "model.conditional: false",
            "Rare levels would be drawn more often than the accountant assumes.",
        ),
    ):  # fmt: skip
        if wrong:
            raise ConfigError(f"{key} with privacy.epsilon", "another value", where, why)
    if model.target is not None:
        raise ConfigError(
            "no model.target with privacy.epsilon", repr(model.target), where,
            "The classifier sees records, and its steps are not accounted for.",
        )  # fmt: skip
    if config.canaries.copies:
        raise ConfigError(
            "no canaries with privacy.epsilon", "some", where,
            "Stopping by exposure looks at records; differential privacy bounds it already.",
        )  # fmt: skip
    if config.train.precision not in ("auto", "fp32"):
        raise ConfigError("train.precision: fp32 with privacy", config.train.precision, where)
