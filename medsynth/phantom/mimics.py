"""What is bright in a brain and no tumour: vessels, meninges, choroid plexus, caps around the
ventricles, spots that come with age.

No label names them. A network that has never seen them takes them for tumours.
"""

import torch
from torch import Tensor

from medsynth.core.random import Key
from medsynth.phantom.anatomy import VENTRICLES_MM
from medsynth.phantom.fields import Box, blur, smooth_fields
from medsynth.phantom.signal import Protocol, substances

T1C = 1
"""Index of the scan with contrast agent."""


def add(signals: Tensor, fractions: Tensor, protocol: Protocol, key: Key, box: Box) -> Tensor:
    """Mix them into the signals of a brain.

    Args:
        signals: T1, T1c, T2, FLAIR, `(4, I, J, K)`.
        fractions: CSF, grey, white, `(3, I, J, K)`.
        protocol: Turns substances into signals.
        key: How much of what, and where.
        box: The grid.

    Source:
        Fluid in white matter: Fazekas et al., AJR 149(2), 1987.
    """
    rng = key.numpy()
    of = substances(key.fold("substances"))
    blood = torch.from_numpy(protocol.signals(*of["BLOOD"]))
    wet = torch.from_numpy(protocol.signals(*of["ED"]))
    flowing = torch.where(torch.arange(4) == T1C, blood, 0.35 * blood)
    csf, _, white = fractions
    inside = (fractions.sum(0) > 0.5).float()
    ventricles = csf * _middle(box)
    caps = 2.5 * blur(ventricles[None], 3.0 / box.spacing_mm)[0].clamp(0, 0.4) * white
    spots = smooth_fields(key.fold("spots"), 1, box, 2.6)[0]
    spots = torch.sigmoid((spots - float(rng.uniform(2.2, 5))) / 0.15) * white
    plexus = (smooth_fields(key.fold("plexus"), 1, box, 3.5)[0] > 1.3) * ventricles
    edge = inside * ((1 - blur(inside[None], 1.5 / box.spacing_mm)[0]) * 3 - 0.4).clamp(0, 1)
    dura = smooth_fields(key.fold("dura"), 1, box, 12.0)[0]
    dura = (dura - float(rng.uniform(0, 2.5))).clamp(0, 1)
    signals = _mixed(signals, wet, 0.7 * float(rng.random()) ** 2 * caps)
    signals = _mixed(signals, wet, float(rng.uniform(0.3, 0.9)) * spots)
    signals = _mixed(signals, blood, float(rng.uniform(0.2, 0.8)) * plexus)
    signals = _mixed(signals, blood, float(rng.uniform(0.2, 0.8)) * edge * dura)
    return _mixed(signals, flowing, _vessels(csf, inside, key.fold("vessels"), box))


def _mixed(signals: Tensor, with_: Tensor, share: Tensor) -> Tensor:
    return signals * (1 - share) + share * with_.view(4, 1, 1, 1)


def _vessels(csf: Tensor, inside: Tensor, key: Key, box: Box) -> Tensor:
    """Tubes where two smooth fields vanish together, most of them near CSF."""
    pair = smooth_fields(key, 2, box, 6.0)
    width = 0.09 * max(1.0, box.spacing_mm / 1.5)
    tube = torch.exp(-pair.square().sum(0) / width**2)
    near = (0.15 + 0.85 * blur(csf[None], 1.5 / box.spacing_mm)[0]).clamp(0, 1)
    return 0.55 * tube * inside * near


def _middle(box: Box) -> Tensor:
    """1 where the ventricles are, 0 at the surface of the brain."""
    x = torch.stack(torch.broadcast_tensors(*box.axes_mm()))
    away = (x - torch.tensor(VENTRICLES_MM).view(3, 1, 1, 1)) / torch.tensor(
        [34.0, 62.0, 34.0]
    ).view(3, 1, 1, 1)
    return torch.sigmoid((1 - away.square().sum(0)) / 0.1)
