"""Private turns: the gradient, the account, the noise and its secret, and what voids a promise."""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pytest
import torch
from dp_accounting import pld, rdp
from torch import Tensor, nn
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.errors import ConfigError, TrainingError, UsageError
from medsynth.training import checkpoint
from medsynth.training.game import Metrics, Noise, Phase, Share
from medsynth.training.ghost import add_noise, clipped, listening, norms
from medsynth.training.order import deal, poisson
from medsynth.training.precision import Precision, choose_precision
from medsynth.training.privacy import Ledger, Private, joint, noise_for, refuse_mixing
from medsynth.training.trainer import Trainer
from medsynth.training.weights import save_model
from medsynth.training.world import World
from tests.training.ranks import same, states
from tests.training.toys import CASES, table, trainer

SPEC = Private(clip_norm=0.3, sigma=0.8, rate=8 / CASES, delta=1e-3)
DELTA = 1e-5


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 16), nn.LayerNorm(16), nn.LeakyReLU(0.2, inplace=True), nn.Linear(16, 1)
    )


class Mixed(nn.Module):
    """Numbers and categories, 3-D linear layers, a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.lift, self.norm = nn.Embedding(5, 4), nn.Linear(2, 4), nn.LayerNorm(4)
        self.twice, self.leave = nn.Linear(4, 4), nn.Linear(4, 1, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        tokens = (rows * 2).round().long() % 5
        h = torch.cat([self.codes(tokens), self.lift(rows)[:, None]], 1)
        h = self.norm(h + functional.silu(self.twice(h)))
        return self.leave((h + self.twice(h).tanh()).mean(1))


class PrivateToy:
    """A critic that sees records, with a gradient penalty on fakes; a generator that sees none."""

    def __init__(self, critic: Callable[[], nn.Module] = mlp, lazy: bool = False) -> None:
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
        self.players = nn.ModuleDict({"generator": generator, "discriminator": critic()})
        self.phases = [Phase("critic", "discriminator"), Phase("generator", "generator")]
        if lazy:
            self.phases.insert(1, Phase("again", "discriminator", 3))

    def loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Metrics]:
        assert phase == "generator"
        assert batch is None
        fake = self.players["generator"](noise.normal(2))
        return -self.players["discriminator"](fake).mean(), {}

    def private_loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Tensor, Metrics]:
        public = self.public(noise)
        return self.records(batch["rows"]), public, {"fakes": public.detach()}

    def records(self, rows: Tensor) -> Tensor:
        return functional.softplus(-3 * self.players["discriminator"](rows)).flatten()

    def public(self, noise: Noise) -> Tensor:
        critic = self.players["discriminator"]
        with torch.no_grad():
            fake = self.players["generator"](noise.normal(2))
        fake = fake.requires_grad_()
        (slope,) = torch.autograd.grad(critic(fake).sum(), fake, create_graph=True)
        return critic(fake).mean() + (slope.norm(dim=1) - 1).square().mean()


def playing(
    game: Any = None,
    *,
    spec: Private = SPEC,
    secret: int | None = 11,
    world: World | None = None,
    plain: bool = False,
    **options: Any,
) -> Trainer:
    game = game or PrivateToy()
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.SGD(player.parameters(), 1.0)
        if plain
        else torch.optim.Adam(player.parameters(), 1e-2)
        for name, player in game.players.items()
    }
    world = world or World(0, 1, torch.device("cpu"))
    return Trainer(
        game,
        optimizers,
        world=world,
        seed=3,
        batch=8,
        **{
            "precision": choose_precision("fp32", world.device),
            "clip_norm": 1e-3,
            "ema_halflife_cases": 50,
            "private": {"discriminator": spec},
            "secret": secret,
            **options,
        },
    )


def drawn(trainer: Trainer, rate: float = SPEC.rate) -> Iterator[dict[str, Tensor]]:
    step, rows, world = trainer.step, table(), trainer.world
    assert trainer.secret is not None
    while True:
        cases = poisson(step, rate, CASES, trainer.secret)
        for micro in range(trainer.accumulate):
            yield {"rows": rows[deal(cases, world.rank, world.size, micro, trainer.accumulate)]}
        step += 1


def run(trainer: Trainer, steps: int) -> list[Metrics]:
    return list(trainer.fit(drawn(trainer), steps))


def weights(player: nn.Module) -> Tensor:
    return torch.cat([w.detach().flatten() for w in player.parameters()])


def one_by_one(losses: Callable[[Tensor], Tensor], player: nn.Module, rows: Tensor) -> Tensor:
    """The sum of clipped gradients, one record at a time."""
    total = torch.zeros(sum(w.numel() for w in player.parameters()))
    for row in rows:
        slopes = torch.autograd.grad(losses(row[None]).sum(), list(player.parameters()))
        flat = torch.cat([s.flatten() for s in slopes])
        total += flat * min(1.0, SPEC.clip_norm / float(flat.norm()))
    return total


def turn(game: PrivateToy, rows: Tensor, **options: Any) -> Tensor:
    """The gradient that one private turn descends by."""
    game.phases = [Phase("critic", "discriminator", *options.pop("every", ()))]
    one = playing(game, plain=True, ema_halflife_cases=None, **options)
    micros = rows.chunk(one.accumulate) if len(rows) else [rows] * one.accumulate
    before = weights(game.players["discriminator"])
    next(one.fit(iter([{"rows": part} for part in micros]), 1))
    return before - weights(game.players["discriminator"])


def of_public(game: PrivateToy) -> Tensor:
    noise = Noise(
        Key(3, ("train", 0, "critic", "noise")).integer(), Share(0, 8, 8), torch.device("cpu")
    )
    player = list(game.players["discriminator"].parameters())
    slopes = torch.autograd.grad(game.public(noise), player, allow_unused=True)
    return torch.cat(
        [
            torch.zeros(w.numel()) if s is None else s.flatten()
            for s, w in zip(slopes, player, strict=True)
        ]
    )


@pytest.mark.parametrize("critic", [mlp, Mixed])
@pytest.mark.parametrize("count", [0, 1, 11])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"every": (3,)}], ids=str)
def test_a_turn_is_clipped_records_noise_and_the_public_gradient(
    critic: Callable[[], nn.Module], count: int, options: dict[str, Any]
) -> None:
    game = PrivateToy(critic)
    player, rows = game.players["discriminator"], table()[:count]
    if count == 1 and "accumulate" in options:
        rows = table()[:2]
    noise = [torch.zeros_like(weights(player))]
    add_noise(noise, SPEC.sigma * SPEC.clip_norm, Key(11, ("noise", 0, "critic")))
    wanted = (one_by_one(game.records, player, rows) + noise[0]) / 8
    if "accumulate" not in options:
        wanted += of_public(game)
    else:
        game.public = lambda noise: torch.zeros(())  # type: ignore[method-assign]
    wanted *= options.get("every", (1,))[0]
    found = turn(game, rows, **dict(options))
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5


@pytest.mark.parametrize("critic", [mlp, Mixed])
def test_norms_are_those_of_autograd_and_some_are_clipped(critic: Callable[[], nn.Module]) -> None:
    game = PrivateToy(critic)
    player, rows = game.players["discriminator"], table()[:20]
    with listening(player) as passes:
        game.public(Noise(0, Share(0, 20, 20), torch.device("cpu")))
        losses = game.records(rows)
        game.public(Noise(0, Share(0, 20, 20), torch.device("cpu")))
    found = norms(losses, passes)
    for index in range(20):
        slopes = torch.autograd.grad(losses[index], list(player.parameters()), retain_graph=True)
        true = math.sqrt(sum(float(s.square().sum()) for s in slopes))
        assert float(found[index]) == pytest.approx(true, rel=1e-5)
    assert not any(layer._forward_hooks for layer in player.modules())
    assert (found > found.median()).any()
    bounded = torch.autograd.grad(
        clipped(losses, passes, float(found.median())), list(player.parameters())
    )
    assert math.sqrt(sum(float(s.square().sum()) for s in bounded)) <= 20 * float(found.median())


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d])
def test_images_can_be_private(kind: Any) -> None:
    torch.manual_seed(0)
    player = nn.Sequential(
        kind(2, 4, 3, stride=2, padding=1), nn.GroupNorm(2, 4), nn.LeakyReLU(0.2), kind(4, 1, 2)
    )
    images = torch.randn(5, 2, *[7] * (2 if kind is nn.Conv2d else 3))

    def losses(x: Tensor) -> Tensor:
        return player(x).square().flatten(1).sum(1)

    with listening(player) as passes:
        found = losses(images)
    slopes = torch.autograd.grad(
        clipped(found, passes, SPEC.clip_norm, player), list(player.parameters())
    )
    wanted = one_by_one(losses, player, images)
    assert float((torch.cat([s.flatten() for s in slopes]) - wanted).norm() / wanted.norm()) < 1e-5


def _reference(ledger: list[tuple[float, float, int]], preparation: list[float]) -> list[Any]:
    accountants = [pld.PLDAccountant(), rdp.RdpAccountant()]
    for accountant in accountants:
        for sigma in preparation:
            accountant.compose(dp_accounting.GaussianDpEvent(sigma))
        for sigma, rate, count in ledger:
            event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma))
            accountant.compose(dp_accounting.SelfComposedDpEvent(event, count))
    return [accountant.get_epsilon(DELTA) for accountant in accountants]


def test_epsilon_is_that_of_the_accountant_and_rdp_is_above() -> None:
    ledger = Ledger().step(1.1, 0.02, 300).gaussian(8.0).step(2.0, 0.1, 40).step(1.1, 0.02, 200)
    by_pld, by_rdp = _reference([(1.1, 0.02, 500), (2.0, 0.1, 40)], [8.0])
    assert ledger.epsilon(DELTA) == pytest.approx(by_pld, rel=1e-9)
    assert ledger.epsilon_rdp(DELTA) == pytest.approx(by_rdp, rel=1e-9)
    assert by_pld <= by_rdp <= 1.3 * by_pld
    assert [entry.count for entry in ledger.steps] == [40, 500]
    assert Ledger().epsilon(DELTA) == 0.0
    assert "by PLD" in ledger.words(DELTA)
    assert "add or remove one record" in ledger.words(DELTA)


def test_preparation_and_steps_compose() -> None:
    steps, preparation = Ledger().step(1.5, 0.05, 100), Ledger().gaussian(5.0)
    both = steps.gaussian(5.0).epsilon(DELTA)
    apart = [steps.epsilon(DELTA), preparation.epsilon(DELTA)]
    assert max(apart) < both < sum(apart)
    exact = dp_accounting.get_epsilon_gaussian(5.0, DELTA)
    assert preparation.epsilon(DELTA) == pytest.approx(exact, abs=1e-3)


def test_turns_on_the_same_records_count_as_one_step() -> None:
    """Counted apart, two turns would each be amplified by a sampling that happened once."""
    two = Ledger().gaussian(joint([2.0, 2.0])).epsilon(DELTA)
    assert two == pytest.approx(Ledger().gaussian(2.0).gaussian(2.0).epsilon(DELTA), abs=1e-3)
    sampled_once = Ledger().step(joint([2.0, 2.0]), 0.1).epsilon(DELTA)
    assert sampled_once > 1.2 * Ledger().step(2.0, 0.1, 2).epsilon(DELTA)
    lazy = playing(PrivateToy(lazy=True))
    run(lazy, 7)
    assert {(s.sigma, s.count) for s in lazy.ledger.steps} == {
        (SPEC.sigma, 4),
        (joint([SPEC.sigma, SPEC.sigma]), 3),
    }
    assert all(s.clip == SPEC.clip_norm and s.rate == SPEC.rate for s in lazy.ledger.steps)


def test_ledgers_are_plain_values() -> None:
    ledger = Ledger().gaussian(3.0).step(1.0, 0.1, 5, clip=0.5)
    again = Ledger.from_dict(json.loads(json.dumps(ledger.as_dict())))
    assert again == ledger
    with pytest.raises(ConfigError, match="replace one"):
        Ledger.from_dict({**ledger.as_dict(), "neighbours": "replace one"})


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps", "preparation"),
    [(1.0, 0.05, 200, ()), (3.0, 0.2, 100, (6.0,))],
)
def test_noise_for_hits_the_target(
    epsilon: float, rate: float, steps: int, preparation: tuple[float, ...]
) -> None:
    spent = Ledger(preparation)
    sigma = noise_for(epsilon, DELTA, rate, steps, spent)
    assert spent.step(sigma, rate, steps).epsilon(DELTA) <= epsilon
    assert spent.step(sigma - 0.0011, rate, steps).epsilon(DELTA) > epsilon


def test_promises_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"less than ε = 0\.5, found ε = "):
        noise_for(0.5, DELTA, 0.1, 10, Ledger().gaussian(1.0))
    with pytest.raises(ConfigError, match="noise up to σ = 200"):
        noise_for(0.01, DELTA, 0.5, 10_000)


def test_six_steps_are_three_and_three(tmp_path: Path) -> None:
    straight = playing(PrivateToy(lazy=True), secret=None, spent=Ledger().gaussian(9.0))
    first = playing(PrivateToy(lazy=True), secret=straight.secret, spent=Ledger().gaussian(9.0))
    run(straight, 6)
    run(first, 3)
    checkpoint.save(tmp_path / "last.pt", first)
    second = playing(PrivateToy(lazy=True), secret=None)
    assert second.secret != straight.secret
    checkpoint.load(tmp_path / "last.pt", second)
    assert second.secret == straight.secret
    run(second, 6)
    assert same(second.state_dict(), straight.state_dict())
    assert second.ledger == straight.ledger
    assert second.ledger.gaussians == (9.0,)
    assert sum(s.count for s in second.ledger.steps) == 6


def _play(world: World) -> Trainer:
    one = playing(world=world, secret=None)
    run(one, 5)
    return one


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    both = states(_play, tmp_path)
    assert same(both[0], both[1])
    alone = playing(secret=both[0]["secret"])
    run(alone, 5)
    assert both[0]["ledger"] == alone.ledger.as_dict()
    for part in ("players", "ema"):
        for name, value in alone.state_dict()[part].items():
            torch.testing.assert_close(both[0][part][name], value, atol=1e-5, rtol=1e-5)


def test_noise_has_the_deviation_that_was_promised() -> None:
    """Without records and without a public loss a turn is noise and nothing else."""

    def alone(secret: int, spec: Private = SPEC) -> Tensor:
        game = PrivateToy()
        game.public = lambda noise: torch.zeros(())  # type: ignore[method-assign]
        return turn(game, table()[:0], secret=secret, spec=spec)

    wanted = SPEC.sigma * SPEC.clip_norm / 8
    found = torch.stack([alone(secret) for secret in range(60)])
    assert float(found.std()) == pytest.approx(wanted, rel=0.03)
    assert abs(float(found.mean())) < 0.05 * wanted
    assert abs(float(torch.corrcoef(found[:2])[0, 1])) < 0.3
    assert float(((found / wanted) ** 4).mean()) == pytest.approx(3, rel=0.15)
    wide = alone(0, Private(3 * SPEC.clip_norm, SPEC.sigma, SPEC.rate, SPEC.delta))
    torch.testing.assert_close(wide, 3 * found[0], rtol=1e-4, atol=1e-7)


def test_noise_hangs_on_all_of_the_secret_the_step_and_the_phase() -> None:
    """`torch.Generator` on a CPU would keep 32 bits of it."""
    keys = [Key(1), Key(1 + 2**32), Key(1 + 2**64), Key(1).fold(1), Key(1).fold("critic")]
    parts = []
    for key in keys:
        parts.append(torch.zeros(50))
        add_noise([parts[-1]], 1.0, key)
    assert all(not torch.equal(a, b) for i, a in enumerate(parts) for b in parts[:i])


def test_the_secret_stays_in_the_checkpoint(tmp_path: Path) -> None:
    secret = 0x2B7E151628AED2A6ABF7158809CF4F3C >> 2
    one = playing(secret=secret)
    metrics = run(one, 2)
    save_model(
        tmp_path / "model.safetensors",
        one.averaged("generator").state_dict(),
        {"privacy": json.dumps(one.ledger.as_dict()), "words": one.ledger.words(DELTA)},
    )
    traces = [str(secret), f"{secret:x}"]
    for told in (
        str(metrics),
        repr(one),
        repr(one.private),
        repr(one.ledger),
        repr(one.game.players),
    ):
        assert not any(trace in told for trace in traces)
    written = (tmp_path / "model.safetensors").read_bytes()
    assert secret.to_bytes(16, "little") not in written
    assert not any(trace.encode() in written for trace in traces)
    state = one.state_dict()
    assert state.pop("secret") == secret
    assert str(secret) not in str(state)


def test_names_do_not_know_opacus_and_public_training_has_no_secret() -> None:
    one = playing()
    names = set(one.game.players.state_dict())
    run(one, 2)
    assert set(one.game.players.state_dict()) == names
    assert not any(hasattr(w, "grad_sample") for w in one.game.players.parameters())
    assert trainer().state_dict().keys().isdisjoint({"secret", "ledger", "private"})
    assert {*one.state_dict()} - {*trainer().state_dict()} == {"secret", "ledger", "private"}


def test_private_and_public_checkpoints_are_not_exchanged(tmp_path: Path) -> None:
    private, public = playing(), playing(private=None)
    checkpoint.save(tmp_path / "private.pt", private)
    checkpoint.save(tmp_path / "public.pt", public)
    with pytest.raises(TrainingError, match="checkpoint with privacy"):
        checkpoint.load(tmp_path / "public.pt", private)
    with pytest.raises(TrainingError, match="give the noise away"):
        checkpoint.load(tmp_path / "private.pt", playing(spec=Private(0.9, 0.8, SPEC.rate, 1e-3)))
    with pytest.raises(TrainingError, match="checkpoint without privacy"):
        checkpoint.load(tmp_path / "private.pt", public)


class _Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))


def _spectral() -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(nn.Linear(2, 1))


@pytest.mark.parametrize(
    ("critic", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)), "batch norm"),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4, affine=False)), "batch norm"),
        (_Own, "_Own with parameters scale, for which no per-record rule"),
        (_spectral, "no per-record rule"),
        (lambda: nn.utils.spectral_norm(nn.Linear(2, 1)), "weight_orig"),
        (lambda: nn.MultiheadAttention(2, 1), "MultiheadAttention"),
        (lambda: nn.EmbeddingBag(3, 2), "EmbeddingBag"),
        (lambda: nn.Embedding(3, 2, max_norm=1.0), "Embedding with max_norm"),
        (lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "padding_mode"),
        (lambda: nn.LayerNorm(2, bias=False), "without a bias"),
        (lambda: nn.InstanceNorm1d(2, affine=True, track_running_stats=True), "buffers"),
        (lambda: nn.Linear(2, 1).to(torch.bfloat16), "bfloat16"),
    ],
)
def test_players_whose_gradients_cannot_be_bounded_are_refused(
    critic: Callable[[], nn.Module], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        playing(PrivateToy(critic))


def test_half_precision_wrong_games_and_wrong_specs_are_refused() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        with pytest.raises(ConfigError, match="fp32 with privacy"):
            playing(precision=Precision(dtype, "asked for"))
    with pytest.raises(ConfigError, match="'nobody'"):
        playing(private={"nobody": SPEC})
    with pytest.raises(ConfigError, match="one sampling rate"):
        playing(private={"discriminator": SPEC, "generator": Private(1.0, 1.0, 0.5, 1e-3)})
    with pytest.raises(ConfigError, match="private losses"):
        playing(trainer().game)
    for wrong in ((0.0, 1.0, 0.1), (1.0, -1.0, 0.1), (1.0, 1.0, 1.1), (1.0, math.inf, 0.1)):
        with pytest.raises(ConfigError, match="above 0"):
            Private(*wrong, delta=1e-3)


class _Smuggled(nn.Module):
    """Uses a layer's weights past the layer, where no rule sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.leave = nn.Linear(2, 4), nn.Linear(4, 1)

    def forward(self, rows: Tensor) -> Tensor:
        return self.leave(functional.linear(rows, self.layer.weight, self.layer.bias))


class _Centred(PrivateToy):
    """A loss that leans on the fakes: every record's gradient goes through all of them."""

    def private_loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Tensor, Metrics]:
        critic, rows = self.players["discriminator"], batch["rows"]
        losses = functional.softplus(critic(torch.randn_like(rows)).mean() - critic(rows))
        return losses.flatten(), torch.zeros(()), {}


class _Joined(PrivateToy):
    def private_loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Tensor, Metrics]:
        both = self.players["discriminator"](torch.cat([batch["rows"], noise.normal(2)]))
        count = len(batch["rows"])
        return both[:count, 0], both[count:].mean(), {}


class _Averaged(PrivateToy):
    def records(self, rows: Tensor) -> Tensor:
        return super().records(rows).mean()


@pytest.mark.parametrize(
    ("game", "words"),
    [
        (lambda: PrivateToy(_Smuggled), "by the rules of its layers"),
        (_Centred, "by the rules of its layers"),
        (_Joined, "calls of their own"),
        (_Averaged, "one loss for each record"),
    ],
)
def test_games_whose_clipping_would_bound_nothing_are_stopped(
    game: Callable[[], PrivateToy], words: str
) -> None:
    one = playing(game())
    before = weights(one.game.players["discriminator"])
    with pytest.raises(TrainingError, match=words):
        next(one.fit(iter([{"rows": table()[:8]}]), 1))
    assert torch.equal(weights(one.game.players["discriminator"]), before)


def test_mixing_is_refused_whatever_it_is() -> None:
    torch.manual_seed(0)
    rows, linear = torch.randn(6, 2), nn.Linear(2, 1)
    dropping = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.LayerNorm(8), nn.Linear(8, 1))
    normed = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    paired = nn.Linear(4, 1)
    refuse_mixing(lambda x: dropping(x).flatten(), rows)
    refuse_mixing(
        lambda x: linear(functional.one_hot(x, 2).float()).flatten(), torch.tensor([0, 1, 1])
    )
    mixing: dict[str, Callable[[Tensor], Tensor]] = {
        "batch norm": lambda x: normed(x).flatten(),
        "minibatch average": lambda x: (linear(x) - linear(x).mean()).flatten(),
        "statistics without gradient": lambda x: (linear(x) / x.detach().std()).flatten(),
        "neighbours": lambda x: linear(x + x.roll(1, 0)).flatten(),
        "packing": lambda x: paired(x.reshape(3, 4)).expand(3, 2).flatten(),
        # Too small to move a loss in fp32; the gradient is not zero all the same.
        "a trace": lambda x: linear(x).flatten() + 1e-12 * x.sum(),
    }
    for losses in mixing.values():
        with pytest.raises(ConfigError, match="their own record alone"):
            refuse_mixing(losses, rows)
    with pytest.raises(ConfigError, match="one loss for each of 6 records"):
        refuse_mixing(lambda x: paired(x.reshape(3, 4)).flatten(), rows)
    with pytest.raises(ConfigError, match="two different records"):
        refuse_mixing(lambda x: linear(x).flatten(), torch.zeros(3, 2))


def test_poisson_takes_each_record_by_its_own_coin() -> None:
    drawings = [poisson(step, 0.2, 50, 5) for step in range(3000)]
    assert drawings[7] == poisson(7, 0.2, 50, 5) != poisson(7, 0.2, 50, 6)
    counts = Counter(case for cases in drawings for case in cases)
    deviation = math.sqrt(3000 * 0.2 * 0.8)
    assert all(abs(counts[case] - 600) < 4.5 * deviation for case in range(50))
    sizes = np.array([len(cases) for cases in drawings])
    assert sizes.var() == pytest.approx(50 * 0.2 * 0.8, rel=0.1)
    together = sum(3 in cases and 4 in cases for cases in drawings)
    assert together == pytest.approx(3000 * 0.04, abs=4.5 * math.sqrt(3000 * 0.04))
    assert poisson(0, 1.0, 4, 5) == [0, 1, 2, 3]


def test_dealing_gives_every_record_once() -> None:
    for count in (0, 1, 7, 30):
        parts = [deal(range(count), rank, 3, micro, 2) for rank in range(3) for micro in range(2)]
        assert sorted(case for part in parts for case in part) == list(range(count))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.grad_sample", None)
    with pytest.raises(UsageError, match=r"opacus.*pip install '.\[dp\]'"):
        playing()
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(UsageError, match=r"package dp-accounting.*'.\[dp\]'"):
        Ledger().epsilon(DELTA)
    assert trainer().secret is None
