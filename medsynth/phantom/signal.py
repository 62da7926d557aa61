"""Signal equations and relaxation times: from tissue to brightness.

Signals are mixed, never relaxation times: in a voxel that is half CSF and half grey matter the
two signals add. Times are in ms, angles in degrees, concentrations in mmol/l.
"""

from dataclasses import dataclass

import numpy as np

from medsynth.core.random import Key

CSF_T1 = 4100.0
"""ms; FLAIR is set up to null it."""


@dataclass(frozen=True)
class Substance:
    """What a structure is made of, to a scanner.

    Args:
        t1, t2: Relaxation times in ms.
        density: Proton density, water 1.
    """

    t1: float
    t2: float
    density: float

    def with_gadolinium(self, mmol: float) -> "Substance":
        """The same with contrast agent: rates grow with concentration.

        Source:
            Relaxivities r1 4.5 and r2 5.5 l/(mmol·s) of gadobutrol and its like in plasma at
            1.5 to 3 T: Rohrer et al., Investigative Radiology 40(11), 2005.
        """
        return Substance(
            1 / (1 / self.t1 + 4.5e-3 * mmol), 1 / (1 / self.t2 + 5.5e-3 * mmol), self.density
        )


def spoiled_gradient_echo(of: Substance, tr: float, flip_deg: float) -> float:
    """Steady state of a spoiled gradient echo, echo time short.

    Source:
        Ernst and Anderson, Rev. Sci. Instrum. 37, 1966.
    """
    flip, e1 = np.deg2rad(flip_deg), np.exp(-tr / of.t1)
    return float(of.density * np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1))


def spin_echo(of: Substance, tr: float, te: float) -> float:
    """Spin echo, and turbo spin echo at its effective echo time.

    Source:
        Hahn, Phys. Rev. 80, 1950; Haacke et al., *Magnetic Resonance Imaging*, 1999, ch. 8.
    """
    return float(of.density * (1 - np.exp(-tr / of.t1)) * np.exp(-te / of.t2))


def inversion_recovery(of: Substance, tr: float, ti: float, te: float) -> float:
    """Magnitude of an inversion-recovery (turbo) spin echo: FLAIR, when `ti` nulls CSF.

    Source:
        Hajnal et al., J. Comput. Assist. Tomogr. 16(6), 1992.
    """
    recovered = 1 - 2 * np.exp(-ti / of.t1) + np.exp(-tr / of.t1)
    return float(of.density * abs(recovered) * np.exp(-te / of.t2))


@dataclass(frozen=True)
class Protocol:
    """Sequences of one examination.

    Args:
        t1: `("spin_echo", TR, TE)` or `("gradient_echo", TR, flip)`.
        t1c: The same after contrast agent: in three of ten protocols a sequence of its own.
        t2: TR, TE.
        flair: TR, TI, TE.
        gadolinium: Concentration in enhancing tumour in mmol/l.
    """

    t1: tuple[str, float, float]
    t1c: tuple[str, float, float]
    t2: tuple[float, float]
    flair: tuple[float, float, float]
    gadolinium: float

    @classmethod
    def draw(cls, key: Key) -> "Protocol":
        """A clinical protocol: ranges of the consensus protocol for brain tumours, and wider; the
        consensus asks for one T1 sequence before and after contrast agent, which not all keep.

        Source:
            Ellingson et al., Neuro-Oncology 17(9), 2015.
        """
        rng = key.numpy()
        t1, other = _t1_weighted(rng), _t1_weighted(rng)
        tr = float(rng.uniform(8500, 11000))
        null = CSF_T1 * np.log(2 / (1 + np.exp(-tr / CSF_T1)))
        return cls(
            t1,
            other if rng.random() < 0.3 else t1,
            (float(rng.uniform(3500, 6000)), float(rng.uniform(75, 110))),
            (
                tr,
                float(null * rng.uniform(0.93, 1.02)),
                float(rng.uniform(75, 125)),
            ),
            float(rng.uniform(0.15, 0.35)),
        )

    def signals(self, of: Substance, uptake: float) -> np.ndarray:
        """Brightness on T1, T1c, T2 and FLAIR.

        Args:
            of: The substance without contrast agent.
            uptake: How many times the enhancing tumour's gadolinium it takes up.
        """
        after = of.with_gadolinium(self.gadolinium * uptake)
        return np.array(
            [
                _t1_signal(of, self.t1),
                _t1_signal(after, self.t1c),
                spin_echo(of, *self.t2),
                inversion_recovery(of, *self.flair),
            ],
            np.float32,
        )


def _t1_weighted(rng: np.random.Generator) -> tuple[str, float, float]:
    if rng.random() < 0.6:
        return "spin_echo", float(rng.uniform(400, 700)), float(rng.uniform(8, 16))
    return "gradient_echo", float(rng.uniform(9, 25)), float(rng.uniform(14, 28))


def _t1_signal(of: Substance, sequence: tuple[str, float, float]) -> float:
    kind, tr, second = sequence
    return (spin_echo if kind == "spin_echo" else spoiled_gradient_echo)(of, tr, second)


def substances(key: Key) -> dict[str, tuple[Substance, float]]:
    """Relaxation of every structure in one subject, and its uptake of contrast agent.

    Healthy tissue between 1.5 and 3 T; tumour around what relaxometry of gliomas reports. People
    differ by less than sequences do: with wider spreads and a quarter of cores filled with fluid, a
    segmentor that learnt from phantoms did worse on real scans (docs/log.md, 2026-11-28). Necrosis
    and oedema are more watery than solid tumour.

    Returns:
        Abbreviation → substance and uptake; `BLOOD` for vessels.

    Source:
        Stanisz et al., Magn. Reson. Med. 54(3), 2005; Bottomley et al., Medical Physics 14(1),
        1987; Badve et al., Neuro-Oncology 19(2), 2017.
    """
    rng = key.numpy()

    def vary(value: float, spread: float) -> float:
        return float(value * np.exp(spread * rng.standard_normal()))

    field = rng.uniform(0.95, 1.05)
    return {
        "CSF": (Substance(vary(CSF_T1, 0.02), vary(1700, 0.05), 1.0), 0.0),
        "GM": (Substance(vary(1240 * field, 0.02), vary(89, 0.02), 0.82), 0.01),
        "WM": (Substance(vary(940 * field, 0.02), vary(79, 0.02), 0.75), 0.005),
        "NCR": (Substance(vary(1900, 0.12), vary(270, 0.15), 0.92), float(rng.uniform(0.01, 0.05))),
        "ED": (Substance(vary(1450, 0.03), vary(180, 0.08), 0.84), 0.01),
        "ET": (Substance(vary(1250, 0.04), vary(165, 0.08), 0.85), 1.0),
        "RC": (Substance(vary(3600, 0.06), vary(1200, 0.15), 0.98), 0.02),
        "BLOOD": (Substance(vary(1600, 0.03), 40.0, 0.75), float(rng.uniform(1.5, 3.5))),
    }
