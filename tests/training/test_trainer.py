"""The trainer's promises: bit-exact resume, ranks, accumulation, no poisoned step, learning."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medsynth.errors import ConfigError, TrainingError
from medsynth.training import checkpoint
from medsynth.training.order import positions, share
from medsynth.training.precision import choose_precision
from medsynth.training.trainer import Trainer
from medsynth.training.world import World
from tests.training.ranks import same, states
from tests.training.toys import Toy, batches, run, trainer


@pytest.mark.parametrize("accumulate", [1, 2])
def test_six_steps_are_three_and_three(accumulate: int, tmp_path: Path) -> None:
    straight = trainer(accumulate=accumulate)
    run(straight, 6)
    first = trainer(accumulate=accumulate)
    run(first, 3)
    checkpoint.save(tmp_path / "last.pt", first)
    torch.manual_seed(12345)
    second = trainer(accumulate=accumulate)
    checkpoint.load(tmp_path / "last.pt", second)
    run(second, 6)
    assert same(second.state_dict(), straight.state_dict())
    assert not same(first.state_dict(), straight.state_dict())


def test_learning_rates_are_scaled_from_what_they_were_made_with_also_after_a_resumption() -> None:
    playing, again = trainer(), trainer()
    for one in (playing, again):
        parameters = one.game.players["generator"].parameters()
        one.optimizers["generator"] = torch.optim.Adam(parameters, 4e-3)
    for factor in (0.5, 0.25):
        playing.scale_learning_rates(factor)
    again.load_state_dict(playing.state_dict())
    rates = [_rates(playing), _rates(again)]
    again.scale_learning_rates(1)
    assert rates == [{"generator": 1e-3, "discriminator": 2.5e-3}] * 2
    assert _rates(again) == {"generator": 4e-3, "discriminator": 1e-2}


def _rates(playing: Trainer) -> dict[str, float]:
    return {name: o.param_groups[0]["lr"] for name, o in playing.optimizers.items()}


def test_dropout_is_active_and_repeats() -> None:
    with_dropout, again, without = trainer(), trainer(), trainer(dropout=0.0)
    for playing in (with_dropout, again, without):
        run(playing, 2)
    assert same(with_dropout.state_dict(), again.state_dict())
    assert not same(with_dropout.state_dict()["players"], without.state_dict()["players"])


def test_micro_batches_equal_one_batch() -> None:
    whole, parts = trainer(dropout=0.0), trainer(dropout=0.0, accumulate=4)
    run(whole, 5)
    run(parts, 5)
    for a, b in zip(whole.game.players.parameters(), parts.game.players.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def _play(world: World) -> Trainer:
    playing = trainer(world=world, dropout=0.0)
    run(playing, 5)
    return playing


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    both = states(_play, tmp_path)
    alone = trainer(dropout=0.0)
    run(alone, 5)
    assert same(both[0]["players"], both[1]["players"])
    for part in ("players", "ema"):
        for name, value in alone.state_dict()[part].items():
            torch.testing.assert_close(both[0][part][name], value, atol=1e-5, rtol=1e-5)


def test_every_epoch_is_a_permutation() -> None:
    seen = [c for step in range(9) for c in positions(step, 4, 12, seed=1)]
    for epoch in range(3):
        assert sorted(seen[12 * epoch : 12 * epoch + 12]) == list(range(12))
    assert seen[:12] != seen[12:24]


def test_shares_tile_the_batch() -> None:
    parts = [share(12, rank, 3, micro, 2) for micro in range(2) for rank in range(3)]
    assert sorted(p.first for p in parts) == [0, 2, 4, 6, 8, 10]
    with pytest.raises(TrainingError, match="share evenly"):
        trainer(batch=8, accumulate=3)


class _Poisoned(Toy):
    def loss(self, phase: str, batch: object, noise: object) -> tuple[Tensor, dict]:  # type: ignore[override]
        loss, metrics = super().loss(phase, batch, noise)  # type: ignore[arg-type]
        self.calls = getattr(self, "calls", 0) + 1
        return (loss * float("nan") if self.calls == 6 else loss), metrics


def test_not_a_number_stops_before_the_step() -> None:
    playing = trainer(_Poisoned())
    with pytest.raises(TrainingError, match=r"step 2, phase 'critic'"):
        run(playing, 10)
    assert all(torch.isfinite(p).all() for p in playing.game.players.parameters())
    assert playing.step == 2


def test_averaged_weights_have_the_half_life() -> None:
    playing = trainer()
    before = [p.clone() for p in playing.ema["generator"].parameters()]
    run(playing, 1)
    keep = 0.5 ** (playing.batch / 50)
    for old, now, averaged in zip(
        before,
        playing.game.players["generator"].parameters(),
        playing.ema["generator"].parameters(),
        strict=True,
    ):
        torch.testing.assert_close(averaged, keep * old + (1 - keep) * now)


def test_checkpoints_hold_only_plain_values_and_say_what_is_wrong(tmp_path: Path) -> None:
    playing = trainer()
    run(playing, 1)
    checkpoint.save(tmp_path / "last.pt", playing)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["step"] == 1
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    for name, words in (("cut.pt", "damaged"), ("none.pt", "without --resume")):
        with pytest.raises(TrainingError, match=words):
            checkpoint.load(tmp_path / name, trainer())
    with pytest.raises(TrainingError, match="of this game"):
        checkpoint.load(tmp_path / "last.pt", trainer(Toy(width=8)))
    with pytest.raises(TrainingError, match="batch 4"):
        checkpoint.load(tmp_path / "last.pt", trainer(batch=4))


SAVER = """
import sys
from pathlib import Path
from tests.training.toys import Toy, trainer
from medsynth.training import checkpoint
playing = trainer(Toy(width=400))
print("ready", flush=True)
while True:
    checkpoint.save(Path(sys.argv[1]) / "last.pt", playing)
    playing.step += 1
"""


def test_killed_while_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    rng = np.random.default_rng(0)
    deadline = time.monotonic() + 20
    while not (tmp_path / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2 + 0.1 * rng.random())
    process.send_signal(signal.SIGKILL)
    process.wait()
    checkpoint.load(tmp_path / "last.pt", trainer(Toy(width=400)))


def test_a_ring_of_gaussians_is_covered() -> None:
    """The trainer trains: 8 modes, and at least 7 of them are found."""
    game = Toy(width=64, dropout=0.0)
    playing = trainer(game, batch=40)
    for optimizer in playing.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = 2e-3
    for _ in playing.fit(batches(0, 40, playing.world, 1), 1500):
        pass
    made = playing.averaged("generator").eval()(torch.randn(800, 2)).detach().numpy()
    modes = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
    near = np.linalg.norm(made[:, None] - modes, axis=2)
    hit = np.bincount(near.argmin(1)[near.min(1) < 0.3], minlength=8)
    assert (hit > 8).sum() >= 7, hit


def test_precision_is_chosen_and_said() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("fp32", cpu).dtype == torch.float32
    assert choose_precision("auto", cpu).reason
    with pytest.raises(ConfigError, match="bf16, fp32 or auto"):
        choose_precision("fp16", cpu)
