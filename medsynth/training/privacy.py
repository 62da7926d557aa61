"""Differential privacy: what was spent, how much noise a promise needs, and what voids it.

Knows the accountant and which layers can be private; `ghost` computes the gradients, the trainer
takes the turns. `opacus` and `dp_accounting` are an optional extra, imported where they are used.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from medsynth.errors import ConfigError, UsageError

NEIGHBOURS = "add or remove one record"
"""Two tables are neighbours when one has a record that the other lacks and all else is equal."""

SIGMAS = (0.4, 200.0)
"""Noise multipliers that `noise_for` searches: less hides little and is slow to account for; with
more nothing is learned."""

GRID = 1e-4
"""Width of the grid that privacy losses are rounded up to."""


@dataclass(frozen=True)
class Steps:
    """Poisson-subsampled Gaussian steps.

    Args:
        sigma: Noise multiplier: the standard deviation of the noise over the clip norm.
        rate: Probability of each record in each step.
        count: Steps taken.
        clip: Clip norm, for the reader; the accountant does not need it. None when the turns of a
            step had different ones.
    """

    sigma: float
    rate: float
    count: int = 1
    clip: float | None = None


@dataclass(frozen=True)
class Ledger:
    """What was spent, by mechanism; the order does not matter.

    Args:
        gaussians: Noise multipliers, relative to the L2 sensitivity, of plain Gaussian mechanisms
            that saw every record: noisy histograms and other preparation.
        steps: Steps of private training.

    Example:
        >>> Ledger().gaussian(20.0).step(1.0, 0.01).step(1.0, 0.01)
        Ledger(gaussians=(20.0,), steps=(Steps(sigma=1.0, rate=0.01, count=2, clip=None),))
    """

    gaussians: tuple[float, ...] = ()
    steps: tuple[Steps, ...] = ()

    def gaussian(self, sigma: float) -> "Ledger":
        """With one more Gaussian mechanism on all records."""
        return replace(self, gaussians=(*self.gaussians, float(sigma)))

    def step(
        self, sigma: float, rate: float, count: int = 1, clip: float | None = None
    ) -> "Ledger":
        """With more steps; equal ones are counted, not listed."""
        more, others = Steps(float(sigma), float(rate), count, clip), []
        for entry in self.steps:
            if replace(entry, count=count) == more:
                more = replace(more, count=count + entry.count)
            else:
                others.append(entry)
        return replace(self, steps=(*others, more))

    def epsilon(self, delta: float, grid: float = GRID) -> float:
        """Epsilon by privacy loss distributions: an upper bound, tight to the grid.

        Raises:
            UsageError: The extra `dp` is not installed.

        Source:
            Koskela et al. (arXiv 1906.03049); Doroshenko et al. (arXiv 2207.04380), as in
            `dp_accounting`.
        """
        with _accounting() as dp:
            accountant = dp.pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE, grid)
            return self._compose(dp, accountant, delta)

    def epsilon_rdp(self, delta: float) -> float:
        """Epsilon by Rényi differential privacy: looser, by other mathematics, to check against.

        Raises:
            UsageError: The extra `dp` is not installed.

        Source:
            Mironov et al. (arXiv 1908.10530), as in `dp_accounting`.
        """
        with _accounting() as dp:
            accountant = dp.rdp.RdpAccountant(
                neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE
            )
            return self._compose(dp, accountant, delta)

    def words(self, delta: float) -> str:
        """One line that a person reads.

        Example:
            >>> print(Ledger().step(1.0, 0.01, 1000, clip=0.5).words(1e-5))
            ε = 1.83 by PLD (2.10 by RDP) at δ = 1e-05, add or remove one record: 1000 steps at \
rate 0.01, σ 1, clip 0.5
        """
        parts = [f"{len(self.gaussians)} noisy statistics, σ {_list(self.gaussians)}"]
        for s in self.steps:
            clip = "" if s.clip is None else f", clip {s.clip:.4g}"
            parts.append(f"{s.count} steps at rate {s.rate:.4g}, σ {s.sigma:.4g}{clip}")
        spent = "; ".join(parts if self.gaussians else parts[1:]) or "nothing"
        return (
            f"ε = {self.epsilon(delta):.2f} by PLD ({self.epsilon_rdp(delta):.2f} by RDP) "
            f"at δ = {delta:g}, {NEIGHBOURS}: {spent}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and JSON."""
        return {
            "neighbours": NEIGHBOURS,
            "gaussians": list(self.gaussians),
            "steps": [dict(vars(entry)) for entry in self.steps],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Ledger":
        """The ledger that `as_dict` wrote.

        Raises:
            ConfigError: It counts for another relation.
        """
        if values["neighbours"] != NEIGHBOURS:
            raise ConfigError(f"a ledger for {NEIGHBOURS!r}", repr(values["neighbours"]))
        return cls(tuple(values["gaussians"]), tuple(Steps(**entry) for entry in values["steps"]))

    def _compose(self, dp: Any, accountant: Any, delta: float) -> float:
        for sigma in self.gaussians:
            accountant.compose(dp.GaussianDpEvent(sigma))
        for s in self.steps:
            event = dp.PoissonSampledDpEvent(s.rate, dp.GaussianDpEvent(s.sigma))
            accountant.compose(event, s.count)
        return float(accountant.get_epsilon(delta)) if self.gaussians or self.steps else 0.0


def joint(sigmas: Sequence[float]) -> float:
    """The noise multiplier of several Gaussian turns on the same sampled records.

    Turns of one step see one sample, so they are one subsampled mechanism with more loss, not
    several that are each subsampled anew: counting them apart would promise too much.

    Source:
        Dong et al., *Gaussian differential privacy* (arXiv 1905.02383), corollary 3.3.
    """
    return sum(sigma**-2 for sigma in sigmas) ** -0.5 if len(sigmas) > 1 else sigmas[0]


@cache
def noise_for(
    epsilon: float, delta: float, rate: float, steps: int, spent: Ledger | None = None
) -> float:
    """The least noise that keeps a promise.

    Args:
        epsilon: What may be spent in all, by PLD.
        delta: Probability that is left out.
        rate: Probability of each record in each step.
        steps: Steps that will be taken.
        spent: What preparation has spent before.

    Returns:
        A multiple of 0.001 from 0.4 to 200; one thousandth less would spend more than `epsilon`,
        except at 0.4. It is the noise of a step: each of `k` turns on the same records needs √k
        times as much (`joint`).

    Raises:
        ConfigError: Preparation alone spends as much, or no noise up to 200 is enough.
        UsageError: The extra `dp` is not installed.
    """
    spent = spent or Ledger()
    if (already := spent.epsilon(delta)) >= epsilon:
        raise ConfigError(
            f"preparation that spends less than ε = {epsilon:g}",
            f"ε = {already:.4g} at δ = {delta:g} before the first step",
            None,
            "Raise epsilon, or put more noise on the statistics taken from the table.",
        )

    @cache
    def excess(log_sigma: float, grid: float = GRID) -> float:
        ledger = spent.step(math.exp(log_sigma), rate, steps)
        return math.log(max(ledger.epsilon(delta, grid), 1e-12) / epsilon)

    if (left := excess(math.log(SIGMAS[1]))) > 0:
        raise ConfigError(
            f"a promise that noise up to σ = {SIGMAS[1]:g} can keep",
            f"ε = {epsilon * math.exp(left):.4g} even then, ε = {epsilon:g} wanted",
            f"{steps} steps at rate {rate:g}, δ = {delta:g}",
            "Raise epsilon, take fewer steps, or a smaller batch.",
        )
    rough = _root(lambda x: excess(x, 10 * GRID), 0.0, 0.5, 1e-4)
    root = math.exp(_root(excess, rough, 0.002, 2e-4 * math.exp(-rough)))
    found = max(math.ceil(root * 1000 - 0.5) / 1000, SIGMAS[0])
    while excess(math.log(found)) > 0:
        found = round(found + 0.001, 3)
    return found


def _root(excess: Callable[[float], float], guess: float, width: float, xtol: float) -> float:
    """Where a falling function of log σ is zero, by widening a bracket around a guess."""
    from scipy.optimize import brentq

    low, high = map(math.log, SIGMAS)
    lower = upper = guess
    while excess(upper) > 0 and upper < high:
        lower, upper = upper, min(upper + width, high)
    while excess(lower) <= 0 and lower > low:
        lower, upper = max(lower - width, low), lower
    if excess(lower) <= 0 or excess(upper) > 0:
        return lower if excess(lower) <= 0 else upper
    return float(brentq(excess, lower, upper, xtol=xtol))


@dataclass(frozen=True)
class Private:
    """How a player that sees records is trained: clipped per record, with noise.

    Args:
        clip_norm: Largest L2 norm of one record's gradient.
        sigma: Noise multiplier: the standard deviation of the noise over `clip_norm`.
        rate: Probability of each record in each step; `rate` times the number of records is the
            trainer's batch.
        delta: At which epsilon is told.

    Raises:
        ConfigError: A number out of its range.
    """

    clip_norm: float
    sigma: float
    rate: float
    delta: float

    def __post_init__(self) -> None:
        for name, most in (("clip_norm", math.inf), ("sigma", math.inf), ("rate", 1), ("delta", 1)):
            value = getattr(self, name)
            if not 0 < value <= most or math.isinf(value):
                raise ConfigError(f"{name} above 0 and at most {most:g}", f"{value:g}", "privacy")


def refuse_player(name: str, player: nn.Module) -> None:
    """Stop where the gradient of a record cannot be bounded.

    Args:
        name: Of the player, for the message.
        player: Network that sees records.

    Raises:
        ConfigError: Batch norm, a parameter that no per-record rule exists for, a layer option
            that the rule does not know, or weights that are not fp32.
        UsageError: The extra `dp` is not installed.
    """
    grad_rules, _ = rules()
    for place, layer in player.named_modules():
        fault, todo = _fault(layer, grad_rules), None
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            fault = "batch norm, which mixes the records of a batch: none has a gradient of its own"
            todo = "Use layer norm or group norm."
        if fault:
            where = f"{name}.{place}" if place else name
            raise ConfigError("layers that clip per record", fault, where, todo)


def _fault(layer: nn.Module, grad_rules: Mapping[type[nn.Module], Any]) -> str | None:
    own = dict(layer.named_parameters(recurse=False))
    if not own:
        return None
    kind = type(layer).__name__
    if wrong := [str(p.dtype) for p in own.values() if p.dtype != torch.float32]:
        return f"{wrong[0]} weights: rounding breaks the bound that the noise is measured by; fp32"
    if type(layer) not in grad_rules or isinstance(layer, nn.EmbeddingBag):
        return f"{kind} with parameters {', '.join(own)}, for which no per-record rule exists"
    if strange := own.keys() - {"weight", "bias"}:
        return f"{kind} with {', '.join(strange)}: reparametrised weights have no per-record rule"
    if [*layer.buffers(recurse=False)]:
        return f"{kind} with buffers, which take in records without noise"
    if isinstance(layer, nn.Embedding) and (
        layer.max_norm is not None
        or layer.padding_idx is not None
        or layer.scale_grad_by_freq
        or layer.sparse
    ):
        return "Embedding with max_norm, padding_idx, scale_grad_by_freq or sparse"
    if isinstance(layer, nn.modules.conv._ConvNd) and layer.padding_mode != "zeros":
        return f"{kind} with padding_mode {layer.padding_mode!r}, which its rule does not know"
    if isinstance(layer, nn.LayerNorm) and layer.bias is None:
        return "LayerNorm without a bias, which its rule does not know"
    return None


def refuse_mixing(losses: Callable[[Tensor], Tensor], records: Tensor) -> None:
    """Stop when the loss of one record depends on another.

    Averages over the batch, packing and batch norm do this, and per-record clipping then bounds
    nothing, silently. Each record in turn is exchanged for another one, with the same random
    numbers: all other losses must stay as they are, to the last bit; and the gradient of each
    loss must be exactly zero at all other records.

    Args:
        losses: From records `(B, …)` to `(B,)`.
        records: At least two different ones, better a dozen than thousands: `losses` is called
            once for each. Integers are checked by exchange alone.

    Raises:
        ConfigError: Losses of another shape, records that depend on each other, or all equal.
    """
    count = len(records)
    partner = {}
    for i in range(count):
        others = ((i + k) % count for k in range(1, count))
        other = next((j for j in others if not torch.equal(records[i], records[j])), None)
        if other is not None:
            partner[i] = other
    if not partner:
        raise ConfigError("at least two different records", f"{count} equal ones")

    def at(changed: Tensor) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found = losses(changed)
        if found.shape != (count,):
            raise ConfigError(
                f"one loss for each of {count} records",
                f"shape {tuple(found.shape)}",
                None,
                "Leave out means over the batch and packing.",
            )
        return found

    with torch.no_grad():
        before = at(records)
        for i, j in partner.items():
            changed = records.clone()
            changed[i] = records[j]
            moved = (at(changed) != before).nonzero().flatten().tolist()
            _refuse_moved([k for k in moved if k != i], i)
    if records.is_floating_point():
        leaf = records.detach().clone().requires_grad_()
        found = at(leaf)
        for i in range(count):
            if found[i].requires_grad:
                (slope,) = torch.autograd.grad(found[i], leaf, retain_graph=True, allow_unused=True)
                if slope is not None:
                    touched = slope.flatten(1).any(1).nonzero().flatten().tolist()
                    for other in touched:
                        _refuse_moved([i] if other != i else [], other)


def _refuse_moved(moved: Sequence[int], record: int) -> None:
    if moved:
        raise ConfigError(
            "losses that depend on their own record alone",
            f"losses {_list(moved[:8])} change with record {record}",
            None,
            "Remove what looks across the batch (batch norm, minibatch statistics, packing): "
            "clipping per record bounds nothing there.",
        )


def rules() -> tuple[Mapping[type[nn.Module], Any], Mapping[type[nn.Module], Any]]:
    """Opacus's rules by layer: gradients per record, and norms without gradients.

    Raises:
        UsageError: The extra `dp` is not installed.

    Source:
        Yousefpour et al., *Opacus* (arXiv 2109.12298).
    """
    try:
        from opacus.grad_sample import GradSampleModuleFastGradientClipping as Opacus
    except ImportError as error:
        raise _missing("opacus") from error
    return Opacus.GRAD_SAMPLERS, Opacus.NORM_SAMPLERS


@contextmanager
def _accounting() -> Iterator[Any]:
    """`dp_accounting` with its sub-packages, quiet about the orders that it leaves out."""
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
    except ImportError as error:
        raise _missing("dp-accounting") from error
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield dp_accounting
    finally:
        logger.setLevel(level)


def _missing(package: str) -> UsageError:
    return UsageError(
        f"the package {package}",
        "none",
        "this Python",
        "Install it, in the checkout: pip install '.[dp]'.",
    )


def _list(numbers: Sequence[float]) -> str:
    return ", ".join(f"{n:.4g}" for n in numbers)
