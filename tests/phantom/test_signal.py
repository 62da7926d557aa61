"""Signal equations against numbers worked out by hand."""

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


@pytest.mark.parametrize("seed", range(12))
def test_contrasts_are_those_of_life_in_every_protocol(seed: int) -> None:
    protocol, of = Protocol.draw(Key(seed)), substances(Key(seed, ("s",)))
    s = {name: protocol.signals(*of[name]) for name in of}
    t1, t1c, t2, flair = range(4)
    assert s["WM"][t1] > s["GM"][t1] > s["CSF"][t1]
    assert s["CSF"][t2] > s["GM"][t2] > s["WM"][t2]
    assert s["CSF"][flair] < 0.6 * s["WM"][flair]
    assert s["ED"][flair] > s["GM"][flair] > 0.9 * s["WM"][flair]
    assert s["ET"][t1c] > 1.15 * s["ET"][t1]
    assert s["ET"][t1c] > s["NCR"][t1c]
    assert s["WM"][t1c] == pytest.approx(s["WM"][t1], rel=0.05)
