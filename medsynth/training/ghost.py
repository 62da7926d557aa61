"""Gradients that hold no more than a bounded share of each record: clipping, and noise.

The per-record norms come from Opacus's rules for layers. Its wrapper is not used: it renames
parameters, and its hooks take every pass of a turn for a pass of records. Here forward hooks that
live as long as one turn remember what went through each layer, and one backward pass down to the
layers' outputs, which computes no weight gradients, tells which passes belong to the records and
what their norms are. The module keeps its names, and what touches no record is differentiated
plainly, twice if it must be.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from medsynth.core.random import Key
from medsynth.errors import TrainingError
from medsynth.training.privacy import rules

TINY = 1e-6
"""Added to a norm before dividing by it, as in Opacus."""


class Pass(NamedTuple):
    """One pass through one layer with parameters.

    Args:
        layer: Which.
        inputs: What came in, detached.
        output: Where the gradient of what came out is found; it survives in-place activations.
    """

    layer: nn.Module
    inputs: list[Tensor]
    output: GradientEdge


@contextmanager
def listening(player: nn.Module) -> Iterator[list[Pass]]:
    """Remember what goes through the layers of a player while the context lasts."""
    passes: list[Pass] = []

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            passes.append(Pass(layer, [x.detach() for x in inputs], get_gradient_edge(output)))

    handles = [
        layer.register_forward_hook(remember) for layer in player.modules() if _trainable(layer)
    ]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def norms(losses: Tensor, passes: Sequence[Pass]) -> Tensor:
    """Norm of the gradient of each record's loss over all parameters of the player.

    Linear layers and embeddings tell the norm without forming the gradient. For other layers, and
    for parameters that are used more than once, gradients per record are formed and summed first.

    Args:
        losses: `(R,)`, with their graph, which is kept.
        passes: From `listening`; those that no loss depends on are left out.

    Returns:
        `(R,)`.

    Raises:
        TrainingError: A pass mixes records with other rows.

    Source:
        Goodfellow (arXiv 1510.01799); Lee and Kifer (arXiv 2009.03106); Li et al.
        (arXiv 2110.05679).
    """
    squares = losses.new_zeros(len(losses))
    if not passes:
        return squares
    slopes = torch.autograd.grad(
        losses.sum(), [p.output for p in passes], retain_graph=True, allow_unused=True
    )
    heard = [(p.layer, p.inputs, s) for p, s in zip(passes, slopes, strict=True) if s is not None]
    times = Counter(weight for layer, _, _ in heard for weight in _trainable(layer))
    grad_rules, norm_rules = rules()
    formed: dict[nn.Parameter, Tensor] = {}
    for layer, inputs, slope in heard:
        if len(slope) != len(losses):
            raise TrainingError(
                f"a pass for the {len(losses)} records alone",
                f"{type(layer).__name__} that saw {len(slope)} rows",
                "the private turn",
                "Give fakes and records to the network in calls of their own.",
            )
        if type(layer) in norm_rules and all(times[w] == 1 for w in _trainable(layer)):
            found = norm_rules[type(layer)](layer, inputs, slope)
            if len(found) == len(_trainable(layer)):
                for norm in found.values():
                    squares += norm.square()
                continue
        for weight, gradient in grad_rules[type(layer)](layer, inputs, slope).items():
            formed[weight] = formed[weight] + gradient if weight in formed else gradient
    for gradient in formed.values():
        squares += gradient.flatten(1).square().sum(1)
    return squares.sqrt()


def clipped(
    losses: Tensor, passes: Sequence[Pass], clip_norm: float, audited: nn.Module | None = None
) -> Tensor:
    """A scalar whose gradient is the sum of the records' gradients, each clipped.

    Args:
        losses: `(R,)`; none is allowed.
        passes: From `listening`.
        clip_norm: Largest norm of one record's gradient.
        audited: Player whose norms are compared with autograd's for the first two records.

    Raises:
        TrainingError: Losses of another shape, or norms that are not those of the records.
    """
    if losses.ndim != 1:
        raise TrainingError("one loss for each record", f"shape {tuple(losses.shape)}")
    if not len(losses) or not losses.requires_grad:
        return losses.sum()
    found = norms(losses, passes)
    if audited is not None:
        _audit(losses, found, audited)
    return ((clip_norm / (found + TINY)).clamp(max=1.0) * losses).sum()


def _audit(losses: Tensor, found: Tensor, player: nn.Module) -> None:
    """Rules cannot see weights used past their layer, nor losses that lean on other rows."""
    weights = [w for w in player.parameters() if w.requires_grad]
    for index in range(min(2, len(losses))):
        slopes = torch.autograd.grad(losses[index], weights, retain_graph=True, allow_unused=True)
        true = torch.stack([s.norm() for s in slopes if s is not None]).norm()
        if not torch.isclose(found[index], true, rtol=1e-3, atol=1e-4 * float(found.max())):
            raise TrainingError(
                f"a record whose gradient has norm {float(true):.6g}, by autograd",
                f"{float(found[index]):.6g} by the rules of its layers, so that clipping bounds "
                "nothing",
                "the private turn",
                "Use weights through their layers only, and losses of one record each.",
            )


def add_noise(gradients: Sequence[Tensor], deviation: float, key: Key) -> None:
    """Add normal numbers to gradients, in place, the same on every rank.

    They are drawn on the CPU by Philox with 128 bits of the key: `torch.Generator` on a CPU keeps
    only 32 bits of its seed, few enough to try them all and take the noise off again. Philox is
    not a cipher, and floating-point noise has gaps (Mironov 2012): the promise is about numbers
    drawn from a normal distribution.

    Args:
        gradients: Of all parameters, in their order.
        deviation: Standard deviation.
        key: Of this turn, from the secret.
    """
    drawn = np.random.Generator(np.random.Philox(key=key.integer(128))).standard_normal(
        sum(g.numel() for g in gradients), dtype=np.float32
    )
    at = 0
    flat = torch.from_numpy(drawn).to(gradients[0].device)
    for gradient in gradients:
        part = flat[at : at + gradient.numel()].view_as(gradient)
        gradient.add_(part, alpha=deviation)
        at += gradient.numel()


def _trainable(layer: nn.Module) -> list[nn.Parameter]:
    return [w for w in layer.parameters(recurse=False) if w.requires_grad]
