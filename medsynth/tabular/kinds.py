"""What suits each kind of model when nobody says otherwise, and why a kind is refused.

Figures behind the choices stand in docs/log.md.
"""

from dataclasses import dataclass, replace

from medsynth.config.tabular import MOST_STEPS, ON_CODES, ON_ROWS, Tabular
from medsynth.errors import ConfigError

LEAST_STEPS = 4
"""Steps of an epoch, when it has fewer batches."""

SMALL = 2000
"""Rows below which dropout is stronger, and a network starts from what a Gaussian copula makes."""

SMALL_EPOCHS = 40
PATIENCES = (4, 8)
"""Epochs without better held-out records, for many rows and for few."""

HALF_LIVES = (0.5, 2.0)
"""Epochs of averaged weights, for many rows and for few: these are noisy, and single columns with
them."""

DROPS = (0.2, 0.05)
"""Dropout below and above `SMALL`."""

BOUNDED = ("autoregressive", "vae")
"""Kinds with a likelihood (or a bound of it): held-out records tell when to stop."""


@dataclass(frozen=True)
class Habits:
    """Defaults of a kind.

    Args:
        epochs, batch, rate, rate_critic: See `config.tabular.Train`.
        betas: Decay rates of Adam.
        decay: Weight decay.
        latent, width: See `config.tabular.Model`.
    """

    epochs: int
    batch: int
    rate: float
    rate_critic: float
    betas: tuple[float, float]
    decay: float
    latent: int = 128
    width: int = 256


HABITS = {
    "autoregressive": Habits(20, 256, 3e-3, 0.0, (0.9, 0.99), 0.01, width=384),
    "autoregressive codes": Habits(6, 512, 4e-3, 0.0, (0.9, 0.99), 0.01),
    "vae": Habits(60, 256, 2e-3, 0.0, (0.9, 0.99), 0.01, 16),
    "wgan": Habits(60, 500, 5e-4, 5e-4, (0.5, 0.9), 0.0),
    "emr-wgan": Habits(60, 500, 5e-4, 5e-4, (0.5, 0.9), 0.0),
    "medgan": Habits(60, 1000, 1e-3, 1e-3, (0.9, 0.999), 1e-3),
}


def habits_of(kind: str, *, codes: bool) -> Habits:
    """Defaults of a kind for codes, or for rows."""
    return HABITS.get(f"{kind} codes" if codes else kind, HABITS[kind])


def kind_of(config: Tabular, *, codes: bool) -> str:
    """The kind that is meant; `auto` is decided.

    Raises:
        ConfigError: It is not one for such records.
    """
    kind = config.model.kind
    if kind == "auto":
        kind = "autoregressive"
        if config.privacy.epsilon is not None:
            kind = "emr-wgan" if codes else "wgan"
    allowed = ON_CODES if codes else ON_ROWS
    if kind not in allowed:
        what = "codes" if codes else "tables of columns"
        raise ConfigError(f"model.kind for {what} ({', '.join(allowed)})", repr(kind))
    return kind


def resolved(config: Tabular, records: int, *, codes: bool) -> Tabular:
    """The configuration with everything that was left open decided.

    Args:
        config: As validated.
        records: How many will be learnt from.
        codes: Whether they are codes, rather than rows of columns.

    Raises:
        ConfigError: The kind is not one for such records.
    """
    private, model = config.privacy.epsilon is not None, config.model
    kind = kind_of(config, codes=codes)
    small = kind == "autoregressive" and not codes and records < SMALL
    habits, train = habits_of(kind, codes=codes), config.train
    pack = model.pack or (10 if kind == "wgan" and not private else 1)
    conditional = kind == "wgan" and not private if model.conditional is None else model.conditional
    batch = train.batch or min(habits.batch, max(records // pack, 1) * pack)
    if batch % pack:
        raise ConfigError(f"train.batch as a multiple of model.pack {pack}", str(batch))
    if batch > records:
        raise ConfigError(
            f"train.batch of at most {records} records", str(batch), None,
            "Lower it, or leave it out.",
        )  # fmt: skip
    drop = DROPS[records >= SMALL] if model.drop is None else model.drop
    epochs = train.epochs or (SMALL_EPOCHS if small else habits.epochs)
    patience = train.patience or PATIENCES[small]
    average = HALF_LIVES[small] if train.ema_epochs is None else train.ema_epochs
    steps = train.steps or min(epochs * per_epoch(records, batch), MOST_STEPS)
    return replace(
        config,
        model=replace(model, kind=kind, pack=pack, conditional=conditional, drop=drop,
                      latent=model.latent or habits.latent,
            width=model.width or habits.width),
        train=replace(
            train, epochs=epochs, patience=patience, steps=steps, batch=batch, ema_epochs=average,
            rate=train.rate or habits.rate, rate_critic=train.rate_critic or habits.rate_critic,
        ),
    )  # fmt: skip


def per_epoch(records: int, batch: int) -> int:
    """Steps of an epoch."""
    return max(-(-records // batch), LEAST_STEPS)


def planned(config: Tabular, records: int) -> int:
    """Steps that learning rates and beginnings are laid out for.

    It is the number of epochs, not `train.steps`, that they depend on, so that a run that is
    stopped early and goes on later takes the same steps; unless `train.steps` lies beyond.

    Args:
        config: Resolved.
        records: That are learnt from.
    """
    train = config.train
    assert train.epochs is not None
    assert train.batch is not None
    assert train.steps is not None
    return max(min(train.epochs * per_epoch(records, train.batch), MOST_STEPS), train.steps)
