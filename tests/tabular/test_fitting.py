"""Runs on records: bit for bit after a stop, one rank as two, canaries, promises."""

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medsynth import tabular
from medsynth.config.tabular import with_options
from medsynth.core.codes import Codes
from medsynth.core.frames import from_frame
from medsynth.core.random import Key
from medsynth.core.table import Column, Schema, Table
from medsynth.errors import ConfigError, DataError, TrainingError
from medsynth.tabular import canaries, private
from medsynth.tabular.codec import Codec, Tokens
from medsynth.tabular.fitting import Fitting
from medsynth.tabular.material import RowMaterial
from medsynth.tabular.supply import Rows
from medsynth.tabular.wasserstein import WassersteinGame
from medsynth.training.game import Noise, Share
from medsynth.training.privacy import Ledger
from medsynth.training.world import World
from tests.tabular.samplers import by_hand
from tests.tabular.test_models import hospital, ward

ALONE = World(0, 1, torch.device("cpu"))


def private_ward() -> pd.DataFrame:
    """With a column whose values are counted with noise."""
    rng = np.random.default_rng(2)
    return ward().assign(dose=np.round(rng.lognormal(3, 0.7, len(ward())), 1))


def noise_rows(rows: int) -> Table:
    """Rows that cannot be predicted, only learnt by heart."""
    rng = np.random.default_rng(3)
    return from_frame(
        pd.DataFrame(rng.integers(0, 20, (rows, 8)), columns=list("abcdefgh")).astype(str)
    )


def records(kind: str) -> Table | Codes:
    if kind in ("emr-wgan", "medgan", "sets"):
        return Codes(hospital(600), tuple(f"c{i}" for i in range(24)))
    return from_frame(ward(2400))  # more than a copula is asked to begin for


def fitting(kind: str, **options: Any) -> Fitting:
    told: dict[str, Any] = {"kind": "autoregressive" if kind == "sets" else kind, "width": 32,
                            "steps": 30, "batch": 40, **options}  # fmt: skip
    return Fitting(records(kind), with_options(0, told), ALONE)


@pytest.mark.parametrize("half_life", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["autoregressive", "vae", "wgan", "sets", "emr-wgan", "medgan"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(kind: str, half_life: float) -> None:
    told = {"copies": [1, 2], "candidates": 64, "every": 1, "batch": 120, "ema_epochs": half_life}
    whole = fitting(kind, **told)
    readings = [dict(metrics) for metrics in whole.play()]
    half = fitting(kind, **told)
    for _ in half.play():
        if half.trainer.step == 17:
            break
    state, mine = half.trainer.state_dict(), half.state_dict()
    again = fitting(kind, **told)
    again.trainer.load_state_dict(state)
    again.load_state_dict(mine)
    rest = [dict(metrics) for metrics in again.play()]
    assert len(rest) == len(readings) - 17
    for name, value in whole.trainer.game.players.state_dict().items():
        assert torch.equal(value, again.trainer.game.players.state_dict()[name]), name
    for one, two in zip(readings[17:], rest, strict=True):
        assert {k: float(v) for k, v in one.items()} == {k: float(v) for k, v in two.items()}


@pytest.mark.parametrize("decay", [True, False])
def test_learning_rates_rise_and_then_fall_by_half_a_cosine(decay: bool) -> None:
    """30 steps, three of them a rise; the critic has a rate of its own."""
    work = fitting("wgan", rate=1e-3, rate_critic=4e-3, decay=decay, epochs=1, batch=80)
    rates = []
    for _ in work.play():
        made = work.trainer.optimizers
        rates.append([made[name].param_groups[0]["lr"] for name in ("generator", "critic")])
    step = np.arange(30)
    factor = np.minimum((step + 1) / 3, 1)
    if decay:
        factor *= (1 + np.cos(np.pi * step / 30)) / 2
    np.testing.assert_allclose(rates, factor[:, None] * [1e-3, 4e-3])


@pytest.mark.parametrize("kind", ["autoregressive", "vae", "wgan", "sets", "emr-wgan"])
def test_two_halves_of_a_batch_weigh_as_much_as_the_whole(kind: str) -> None:
    """What two ranks compute: each half of the batch, averaged."""
    gradients = []
    for parts in (1, 2):
        run = fitting(kind, batch=40)
        config = run.config
        torch.manual_seed(0)
        run.trainer.accumulate = parts
        for _ in run.trainer.fit(run.material.batches(run.trainer), 3):
            pass
        gradients.append(run.trainer.game.players.state_dict())
        assert config.train.batch == 40
    for name, value in gradients[0].items():
        gap = (gradients[1][name] - value).abs().float()
        assert gap.mean() < 1e-5, name
        assert gap.max() < 1e-3, name  # where a gradient is nearly zero, Adam takes its sign


def test_few_rows_begin_with_a_copula_and_go_on_across_its_end() -> None:
    few = from_frame(ward(300))
    told = {"width": 16, "steps": 90}
    runs = [Fitting(few, with_options(0, told), ALONE) for _ in range(3)]
    material = runs[0].material
    assert isinstance(material, RowMaterial)
    edge = material.warm_steps
    assert 3 < edge < 80
    seen = [batch.tokens for batch in islice(material.batches(runs[0].trainer), 2)]
    known = {row.tobytes() for row in material.cells.tokens.astype(np.int64)}
    assert not all(row.numpy().tobytes() in known for part in seen for row in part)
    whole, half, again = runs
    for _ in whole.play():
        pass
    for _ in half.play():
        if half.trainer.step == edge - 2:
            break
    again.trainer.load_state_dict(half.trainer.state_dict())
    again.load_state_dict(half.state_dict())
    for _ in again.play():
        pass
    for name, value in whole.trainer.game.players.state_dict().items():
        assert torch.equal(value, again.trainer.game.players.state_dict()[name]), name


@pytest.mark.parametrize("rows", [300, 1000])
def test_what_no_copula_can_hold_is_learnt_from_few_rows(rows: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, rows))
    frame = pd.DataFrame({"a": a, "b": b, "c": a ^ b}).astype(str)
    made = tabular.fit(frame).sample(2000).astype(int)
    assert ((made["a"] ^ made["b"]) == made["c"]).mean() > 0.95


def test_a_run_goes_on_with_its_own_records_only() -> None:
    run = fitting("vae")
    other = Fitting(from_frame(ward(2300)), with_options(0, {"kind": "vae", "width": 32}), ALONE)
    with pytest.raises(TrainingError, match="records that the run was started with"):
        other.load_state_dict(run.state_dict())


def test_kinds_are_chosen_and_refused() -> None:
    assert fitting("auto").config.model.kind == "autoregressive"
    with pytest.raises(ConfigError, match=r"multiple of model\.pack"):
        fitting("wgan", batch=45)
    with pytest.raises(ConfigError, match="at most"):
        fitting("vae", batch=4000)
    with pytest.raises(DataError, match="at least 50"):
        Fitting(from_frame(ward(600).head(30)), with_options(0, {}), ALONE)


def uniform(rows: int, columns: int = 6) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 6, (rows, columns)).astype(np.int32)


def test_canaries_are_combinations_that_nobody_has_of_values_that_occur() -> None:
    real = uniform(300)
    planted = canaries.of_rows(real, [1, 8], 3, 40, Key(0))
    assert planted.again.tolist() == [0, 1, 2, *[3] * 8, *[4] * 8, *[5] * 8]
    made = np.concatenate([planted.canaries.tokens, planted.candidates.tokens])
    assert len(np.unique(made, axis=0)) == 46
    assert not {row.tobytes() for row in made} & {row.tobytes() for row in real}
    with pytest.raises(ConfigError, match="no row has"):
        canaries.of_rows(uniform(300, 2), [1], 3, 40, Key(0))


def test_exposure_by_hand() -> None:
    planted = canaries.of_rows(uniform(300), [1, 8], 3, 7, Key(0))
    found = canaries.exposures(
        planted, np.array([9.0, 9, 9, 0, 0, 0]), np.arange(1, 8).astype(float), Key(0)
    )
    assert [(e.copies, e.mean, e.low, e.high) for e in found] == [
        (1, 3.0, 3.0, 3.0),  # above all seven: log2(8) − log2(1)
        (8, 0.0, 0.0, 0.0),  # below all seven: log2(8) − log2(8)
    ]


def test_exposure_is_at_chance_when_nothing_is_remembered() -> None:
    planted = canaries.of_rows(uniform(4000), [1], 2000, 1023, Key(0))
    rng = np.random.default_rng(0)
    (found,) = canaries.exposures(planted, rng.random(2000), rng.random(1023), Key(1))
    assert found.mean == pytest.approx(canaries.CHANCE_BITS, abs=0.15)
    assert found.low < canaries.CHANCE_BITS < found.high


@pytest.mark.parametrize("kind", ["autoregressive", "sets"])
def test_a_model_that_learns_by_heart_is_stopped(kind: str) -> None:
    told = {"kind": "autoregressive", "width": 256, "steps": 1500, "batch": 60, "rate": 4e-3,
            "patience": 1000, "drop": 0.0, "copies": [1, 8], "bound": 4.0, "held_out": 0.0,
            "ema_epochs": 0.1}  # fmt: skip
    few = noise_rows(60) if kind == "autoregressive" else records(kind).take(np.arange(60))
    run = Fitting(few, with_options(0, told), ALONE)
    readings = [dict(metrics) for metrics in run.play()]
    assert run.ended is not None
    assert "exposure" in run.ended
    assert run.trainer.step < 1500
    last = [r for r in readings if "exposure_1" in r]
    network = run.trainer.averaged("generator")
    network.load_state_dict(run.synthesizer().network.state_dict())
    assert run.material.planted is not None
    scores = (run.material.scores(network, w, ALONE.device) for w in ("canaries", "candidates"))
    released = canaries.exposures(run.material.planted, *scores, Key(0))
    assert released[0].mean < 4  # what is released is from before
    assert run.exposed is not None
    assert f" {released[0].mean:.1f} [" in run.exposed
    assert float(last[0]["exposure_1"]) < 4 < float(last[-1]["exposure_1"])
    assert float(last[-1]["exposure_8"]) >= float(last[-1]["exposure_1"]) - 1
    before = readings[-1]
    assert "exposure_1_low" in before


def test_canaries_are_not_released() -> None:
    told = {"width": 256, "steps": 600, "batch": 60, "patience": 1000, "drop": 0.0,
            "copies": [30], "each": 2, "candidates": 32, "held_out": 0.0, "rate": 4e-3}  # fmt: skip
    wide = pd.DataFrame(uniform(80) % 3, columns=list("abcdef")).astype(str)
    run = Fitting(from_frame(wide), with_options(0, told), ALONE)
    for _ in run.play():
        pass
    model = run.synthesizer()
    assert isinstance(model, tabular.TableSynthesizer)
    cells = model.network.draw(3000, Key(0), {})
    hidden = {row.tobytes() for row in model.canaries}
    assert any(row.tobytes() in hidden for row in cells.tokens)  # the network knows them
    made = model.encode(model.sample(3000, 0))
    assert not any(row.tobytes() in hidden for row in made)  # and keeps them to itself


def test_a_promise_is_kept_and_told() -> None:
    declared = by_hand(from_frame(private_ward()).schema)
    told = {"epsilon": 3.0, "steps": 40, "batch": 100, "width": 32, "preprocessing": 30.0}
    model = tabular.fit(private_ward(), schema=declared, **told).model
    assert model.promise is not None
    ledger = Ledger.from_dict(model.promise)
    assert ledger.epsilon(model.promise["delta"]) <= 3.0
    assert ledger.epsilon(model.promise["delta"]) > 2.5
    assert ledger.steps[0].count == 40
    assert ledger.gaussians == (30.0, 30.0)  # intervals, and shares
    assert "secret" not in model.promise
    codes = Codes(hospital(), tuple(f"c{i}" for i in range(24)))
    other = tabular.fit(codes, epsilon=3.0, steps=20, batch=100, width=32, public=True).model
    assert other.model.kind == "emr-wgan"
    assert other.promise is not None


def test_private_sampling_is_not_reproducible_from_the_seed() -> None:
    declared = by_hand(from_frame(private_ward()).schema)
    told = {"epsilon": 3.0, "steps": 10, "batch": 100, "width": 32}
    states = [
        tabular.fit(private_ward(), schema=declared, seed=0, **told).model.network.state_dict()
        for _ in range(2)
    ]
    assert any(not torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize(("options", "words"), [
    ({"pack": 10}, "one record's"), ({"conditional": True}, "more often"),
    ({"kind": "autoregressive"}, "model.kind among"), ({"target": "sex"}, "classifier"),
    ({"copies": [1]}, "canaries"), ({"precision": "bf16"}, "fp32"), ({"epsilon": -1.0}, "above 0"),
    ({"epsilon": 0.001, "preprocessing": 1.0}, "preparation")])  # fmt: skip
def test_what_voids_a_promise_is_refused(options: dict[str, Any], words: str) -> None:
    told = {"epsilon": 3.0, "steps": 10, "batch": 100, "width": 32, **options}
    with pytest.raises(ConfigError, match=words):
        tabular.fit(private_ward(), schema=by_hand(from_frame(private_ward()).schema), **told)


def test_the_noise_of_histograms_is_that_of_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    plain = private._counted

    def listening(column: Column, values: np.ndarray, deviation: float, key: Key) -> Tokens:
        told.append(deviation)
        return plain(column, values, deviation, key)

    monkeypatch.setattr(private, "_counted", listening)
    frame = private_ward()
    frame = frame.assign(other=frame["dose"] * 2, third=frame["dose"] * 3)
    private.codec(from_frame(frame), 30.0, Key(1))
    assert told == [pytest.approx(30 * 3**0.5)] * 3
    counts = private.noisy_counts(np.zeros(0), np.linspace(0, 1, 20_001), 7.0, Key(2).numpy())
    assert counts.std() == pytest.approx(7, rel=0.03)


def test_a_private_batch_may_be_empty_and_halves_add_up() -> None:
    run = fitting("wgan", epsilon=5.0, public=True, conditional=False, pack=1)
    game, rows = run.material.game, run.material
    assert isinstance(game, WassersteinGame)
    assert isinstance(rows, RowMaterial)
    supply = Rows(rows.cells, 0)
    publics = []
    for share in (Share(0, 8, 8), Share(0, 4, 8), Share(4, 4, 8)):
        batch = supply.batch(np.arange(0), ALONE.device)
        losses, public, _ = game.private_loss("critic", batch, Noise(3, share, ALONE.device))
        assert losses.shape == (0,)
        publics.append(float(public.detach()))
    assert publics[0] == pytest.approx((publics[1] + publics[2]) / 2, rel=1e-5)


@pytest.mark.parametrize("delta", [0.5, 0.0, 7.0])
def test_a_delta_that_gives_records_away_is_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match="delta"):
        fitting("wgan", epsilon=5.0, public=True, delta=delta)


def test_that_a_code_is_counted_twice_is_not_told_privately() -> None:
    data = hospital(300).copy()
    data.data[0] = 2
    models = [
        tabular.fit(Codes(m, tuple(f"c{i}" for i in range(24))), epsilon=3.0, public=True,
                    steps=2, batch=50, width=8).model
        for m in (data, hospital(300))
    ]  # fmt: skip
    assert [m.binary for m in models] == [True, True]  # type: ignore[union-attr]


def test_inferred_levels_are_no_public_ones() -> None:
    with pytest.raises(ConfigError, match="declared schema"):
        tabular.fit(private_ward(), epsilon=3.0)
    with pytest.raises(ConfigError, match=r"privacy\.public"):
        tabular.fit(hospital(), epsilon=3.0)
    whole = by_hand(from_frame(private_ward()).schema)
    with pytest.raises(ConfigError, match="age"):
        tabular.fit(private_ward(), schema=Schema(whole.columns[:2]), epsilon=3.0)
    with pytest.raises(ConfigError, match="delete `inferred`"):
        tabular.fit(private_ward(), schema=from_frame(private_ward()).schema, epsilon=3.0)
    with pytest.raises(ConfigError, match="delete `inferred`"):  # the rows' own, whatever is told
        tabular.fit_records(from_frame(private_ward()), schema=whole, epsilon=3.0)
    for end in ("low", "high"):
        columns = tuple(replace(c, **{end: None}) if c.name == "dose" else c for c in whole.columns)
        with pytest.raises(ConfigError, match=r"a declared range.*none of dose"):
            tabular.fit(private_ward(), schema=replace(whole, columns=columns), epsilon=3.0)


def test_private_cells_depend_on_declarations_and_noisy_counts_only() -> None:
    table = from_frame(private_ward())
    one, spent = private.codec(table, 30.0, Key(1))
    two, _ = private.codec(table.take(np.arange(1, table.rows)), 30.0, Key(1))
    assert spent.gaussians == (30.0,)
    assert one.sizes[:2] == two.sizes[:2] == Codec.fit(table).sizes[:2]
    dose, other = (c.columns[3].knots for c in (one, two))
    column = table.schema.column("dose")
    assert column.ends[0] - 0.06 < dose[0] < dose[-1]  # half a step of the grid
    assert np.abs(dose - other).max() < 2  # one row more, the same noise: hardly moved
    quiet, _ = private.codec(table, 0.01, Key(1))
    loud, _ = private.codec(table, 300.0, Key(1))
    own = np.quantile(table.values["dose"], 0.5)
    middle = [np.interp(0.5, np.linspace(0, 1, len(c.columns[3].knots)), c.columns[3].knots)
              for c in (quiet, loud)]  # fmt: skip
    assert middle[0] == pytest.approx(own, abs=1.5)
    assert not np.allclose(quiet.columns[3].knots[5], loud.columns[3].knots[5], atol=0.5)
