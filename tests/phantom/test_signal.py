"""Signal equations against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from medsynth.core.random import Key
from medsynth.phantom.signal import (
    Protocol,
    Substance,
    inversion_recovery,
    spin_echo,
    spoiled_gradient_echo,
    substances,
)

TISSUE = Substance(t1=1000.0, t2=100.0, density=0.8)


def test_spin_echo() -> None:
    # TR = T1·ln 2 recovers one half; TE = T2·ln 2 leaves one half
    assert spin_echo(TISSUE, 1000 * np.log(2), 100 * np.log(2)) == pytest.approx(0.8 / 4)


def test_spoiled_gradient_echo_peaks_at_the_ernst_angle() -> None:
    assert spoiled_gradient_echo(TISSUE, 1000 * np.log(2), 90) == pytest.approx(0.4)
    tr = 20.0
    ernst = np.rad2deg(np.arccos(np.exp(-tr / 1000)))
    signals = [spoiled_gradient_echo(TISSUE, tr, a) for a in (ernst - 1, ernst, ernst + 1)]
    assert signals[1] == max(signals)
    assert signals[1] == pytest.approx(0.8 * np.sqrt((1 - np.exp(-0.02)) / (1 + np.exp(-0.02))))


def test_inversion_recovery_nulls_at_ln_2() -> None:
    assert inversion_recovery(TISSUE, 1e9, 1000 * np.log(2), 0) == pytest.approx(0, abs=1e-12)
    assert inversion_recovery(TISSUE, 1e9, 1e9, 0) == pytest.approx(0.8)


def test_gadolinium_adds_rates() -> None:
    # 1/T1 = 1/1000 + 4.5e-3 · 1 per ms
    assert TISSUE.with_gadolinium(1).t1 == pytest.approx(1000 / 5.5)
    assert TISSUE.with_gadolinium(0) == TISSUE


def test_contrasts_are_those_of_life_in_nearly_every_protocol() -> None:
    t1, t1c, t2, flair = range(4)
    held = []
    for seed in range(300):
        protocol, of = Protocol.draw(Key(seed)), substances(Key(seed, ("s",)))
        protocol = replace(protocol, t1c=protocol.t1)  # or brightness is not comparable
        s = {name: protocol.signals(*of[name]) for name in of}
        assert s["CSF"][flair] < 0.6 * s["WM"][flair]
        assert s["CSF"][t1] < s["GM"][t1]
        assert s["CSF"][t2] > s["GM"][t2]
        assert s["ET"][t1c] > 1.1 * s["ET"][t1]
        assert s["WM"][t1c] == pytest.approx(s["WM"][t1], rel=0.05)
        held.append(
            [
                s["WM"][t1] > s["GM"][t1],
                s["GM"][t2] > s["WM"][t2],
                s["GM"][flair] > 0.9 * s["WM"][flair],
                s["ED"][flair] > s["GM"][flair],
                s["ET"][t1c] > s["NCR"][t1c],
            ]
        )
    assert np.mean(held, 0).min() > 0.94


def test_contrast_agent_is_seen_by_the_sequence_that_was_drawn_for_it() -> None:
    protocol = Protocol(
        ("spin_echo", 500.0, 10.0),
        ("gradient_echo", 20.0, 20.0),
        (4000.0, 90.0),
        (9000.0, 2500.0, 100.0),
        0.2,
    )
    before, after = protocol.signals(TISSUE, 1.0)[:2]
    assert before == pytest.approx(spin_echo(TISSUE, 500, 10))
    assert after == pytest.approx(spoiled_gradient_echo(TISSUE.with_gadolinium(0.2), 20, 20))
    own = np.mean([p.t1c != p.t1 for p in (Protocol.draw(Key(seed)) for seed in range(300))])
    assert own == pytest.approx(0.3, abs=0.08)


def test_flair_nulls_the_fluid_of_its_own_repetition_time() -> None:
    for seed in range(50):
        tr, ti, _ = Protocol.draw(Key(seed)).flair
        at_null = inversion_recovery(Substance(4100.0, 1e9, 1.0), tr, ti, 0.0)
        assert at_null < 0.05
        assert 0.92 < ti / (4100 * np.log(2 / (1 + np.exp(-tr / 4100)))) < 1.03
