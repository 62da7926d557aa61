"""Cost of private turns of a critic, against plain turns and Opacus's materialised gradients.

    python tools/bench_dp.py [--turns 20]

Prints JSON for a critic like EMR-WGAN's (1071 → 256 → 128 → 1, layer norm) at batch 500 and for a
small critic of a mixed table: milliseconds per turn, interleaved in one process on one thread, the
medians' ratios, and the largest relative difference between a private gradient and one computed
record by record. A turn sees as many fakes as records, clips, adds noise and steps (Adam).
"""

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from medsynth.core.random import Key
from medsynth.training.game import Metrics, Noise, Phase
from medsynth.training.ghost import add_noise, clipped, listening
from medsynth.training.precision import choose_precision
from medsynth.training.privacy import Private
from medsynth.training.trainer import Trainer
from medsynth.training.world import World

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SPEC = Private(clip_norm=0.1, sigma=1.0, rate=0.01, delta=1e-5)


class Mixed(nn.Module):
    """Eight numbers, and six columns of ten categories embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Embedding(60, 8)
        self.body = mlp(8 + 48, 128, 128)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows `(B, 14)` in [0, 1) → `(B, 1)`."""
        tokens = (rows[:, 8:] * 10).long() + 10 * torch.arange(6, device=rows.device)
        return self.body(torch.cat([rows[:, :8], self.codes(tokens).flatten(1)], 1))


def mlp(*widths: int) -> nn.Module:
    """Linear layers with layer norm between them and one number at the end."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


class Critic:
    """A game with one turn: Wasserstein losses on records and on fakes that are noise."""

    phases: Sequence[Phase] = (Phase("critic", "critic"),)

    def __init__(self, critic: nn.Module, width: int) -> None:
        self.players = nn.ModuleDict({"critic": critic.to(DEVICE)})
        self.width = width

    def loss(self, phase: str, batch: Tensor, noise: Noise) -> tuple[Tensor, Metrics]:
        """Both means."""
        losses, public, metrics = self.private_loss(phase, batch, noise)
        return losses.mean() + public, metrics

    def private_loss(
        self, phase: str, batch: Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor, Metrics]:
        """Records apart from fakes."""
        critic = self.players["critic"]
        return -critic(batch).flatten(), critic(noise.uniform(self.width)).mean(), {}


def ours(game: Critic, rows: Tensor, private: bool) -> Callable[[], Any]:
    """A turn of the trainer."""
    trainer = Trainer(
        game,
        {"critic": torch.optim.Adam(game.players.parameters(), 1e-4)},
        world=World(0, 1, DEVICE),
        seed=0,
        batch=len(rows),
        precision=choose_precision("fp32", DEVICE),
        private={"critic": SPEC} if private else None,
    )
    return lambda: next(trainer.fit(iter([rows]), trainer.step + 1))


def opacus(game: Critic, rows: Tensor) -> Callable[[], Any]:
    """The same turn with `GradSampleModule`'s gradients per record, clipped and summed."""
    from opacus.grad_sample import GradSampleModule

    critic = game.players["critic"]
    hooked = GradSampleModule(critic, loss_reduction="sum")
    weights = list(critic.parameters())
    optimizer = torch.optim.Adam(weights, 1e-4)
    step = 0

    def turn() -> None:
        nonlocal step
        noise = Key(0, ("bench", step)).integer()
        generator = torch.Generator().manual_seed(noise)
        fakes = torch.rand(len(rows), game.width, generator=generator).to(DEVICE)
        hooked.zero_grad()
        (-hooked(rows)).sum().backward()
        samples = [getattr(w, "grad_sample").flatten(1) for w in weights]  # noqa: B009
        norm = torch.stack([s.norm(dim=1) for s in samples]).norm(dim=0)
        scale = (SPEC.clip_norm / (norm + 1e-6)).clamp(max=1.0) / len(rows)
        sums = [(scale @ s).view_as(w) for s, w in zip(samples, weights, strict=True)]
        add_noise(sums, SPEC.sigma * SPEC.clip_norm / len(rows), Key(1, ("bench", step)))
        critic.zero_grad()
        hooked.disable_hooks()
        critic(fakes).mean().backward()
        hooked.enable_hooks()
        for weight, gradient in zip(weights, sums, strict=True):
            if weight.grad is None:
                weight.grad = gradient
            else:
                weight.grad += gradient
        optimizer.step()
        step += 1

    return turn


def difference(critic: nn.Module, rows: Tensor) -> float:
    """Largest difference from the sum of gradients clipped one by one, over its largest entry."""
    weights = list(critic.parameters())
    total = [torch.zeros_like(w) for w in weights]
    for row in rows:
        slopes = torch.autograd.grad(-critic(row[None]).sum(), weights)
        norm = math.sqrt(sum(float(s.square().sum()) for s in slopes))
        for part, slope in zip(total, slopes, strict=True):
            part += slope * min(1.0, SPEC.clip_norm / norm)
    with listening(critic) as passes:
        losses = -critic(rows).flatten()
    found = torch.autograd.grad(clipped(losses, passes, SPEC.clip_norm), weights)
    gap = max(float((a - b).abs().max()) for a, b in zip(found, total, strict=True))
    return gap / max(float(t.abs().max()) for t in total)


def seconds(turn: Callable[[], Any]) -> float:
    """Wall time of one turn."""
    begun = time.perf_counter()
    turn()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def measure(make: Callable[[], nn.Module], width: int, batch: int, turns: int) -> dict[str, Any]:
    """Times, ratios and the difference for one critic."""
    torch.manual_seed(0)
    rows = torch.rand(batch, width, device=DEVICE)
    critics = [make() for _ in range(3)]
    games = [Critic(critic, width) for critic in critics]
    kinds = {
        "plain": ours(games[0], rows, False),
        "private": ours(games[1], rows, True),
        "opacus_hooks": opacus(games[2], rows),
    }
    for turn in kinds.values():
        for _ in range(4):  # the first three private turns are audited
            turn()
    times = {kind: list[float]() for kind in kinds}
    for _ in range(turns):
        for kind, turn in kinds.items():
            times[kind].append(seconds(turn))
    medians = {kind: statistics.median(found) for kind, found in times.items()}
    return {
        "batch": batch,
        "parameters": sum(w.numel() for w in critics[0].parameters()),
        **{f"{kind}_ms": round(1000 * median, 2) for kind, median in medians.items()},
        "private_over_plain": round(medians["private"] / medians["plain"], 2),
        "opacus_hooks_over_plain": round(medians["opacus_hooks"] / medians["plain"], 2),
        "difference": float(f"{difference(critics[1], rows):.2g}"),
    }


def main() -> None:
    """Measure both critics and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=20)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Full backward hook")  # of Opacus, on tokens and rows
    result = {
        "emr_wgan": measure(lambda: mlp(1071, 256, 128), 1071, 500, turns),
        "mixed_table": measure(Mixed, 14, 256, turns),
    }
    print(json.dumps({"device": str(DEVICE), "torch": torch.__version__, **result}, indent=1))


if __name__ == "__main__":
    main()
