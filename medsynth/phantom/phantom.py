"""A phantom: from a key to four scans, a label map, and the parameters that were drawn."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medsynth.core.cohort import MODALITIES
from medsynth.core.labels import BRAIN, FINE, TISSUE
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap, Source, Volume
from medsynth.phantom import anatomy, mimics, scanner, tumour
from medsynth.phantom.atlas import atlas
from medsynth.phantom.fields import Box, blur, resample, smooth_fields
from medsynth.phantom.signal import Protocol, substances

REVISION = 7
"""Counts up with each change after which the same key makes another phantom."""

BRAIN_MM = ((-87.0, 87.0), (-121.0, 87.0), (-74.0, 81.0))
"""The part of MNI space that holds every brain but for the crown of the tallest, which the field of
view of BraTS cuts too; all work is done inside it."""

FRAME_MM = (240, 240, 155)
"""The field of view of BraTS."""

FRAME_START_MM = (-120.0, -134.0, -73.0)

PURITY = {"ED": 0.5, "NCR": 0.4, "ET": 0.65}
"""Least share of a voxel that is oedema or tumour; the rest is the tissue that they infiltrate."""

BLED = 0.3
"""Share of tumours whose core shows blood, which is dark on T2."""

FLAIR = 3
"""Index of the scan."""

WHITE_ON_FLAIR = 0.91
"""White matter is darker there than relaxation times say, by magnetisation transfer between slices
(Dixon et al., Magn. Reson. Imaging 8, 1990); the number was fitted to real scans."""

NAMED = 1 / 5
"""Share of a voxel from which on it is called a vessel, plexus or meninges: with contrast agent
they outshine what else is in it."""

COVER_MM = 3.0
"""Standard deviation of the blur that tells how far a voxel lies outside of the brain; clefts of up
to 4 mm are filled by it, of up to 7 mm in the widest margins."""

COARSE_MM = 2.0
"""Voxels of what needs no finer ones, where those of the phantom are not larger: the anatomy for
the tumour to grow in, before it is displaced, and how deep in it a voxel lies."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A brain that nobody has.

    Args:
        scans: `MODALITIES`, float32, arbitrary units, background exactly 0.
        labels: Tissue and tumour, *brain* scheme, on the same grid.
        parameters: What was drawn of anatomy, tumour, protocol and scanner, JSON-able; textures,
            blood, mimics, what the mask leaves and what signals differ from their equations by
            follow from the key.
    """

    scans: Volume
    labels: LabelMap
    parameters: dict[str, Any]


def make(key: Key, *, spacing_mm: float = 1.0, tumour: bool = True) -> Phantom:
    """Make a phantom; a pure function of its arguments.

    Args:
        key: Which one.
        spacing_mm: Edge of a voxel; the field of view is that of BraTS, 240 × 240 × 155 mm, and
            files are written LPS as BraTS does.
        tumour: Whether it has one.
    """
    box = _work_box(spacing_mm)
    person = anatomy.draw(key.fold("person"))
    parameters: dict[str, Any] = {"spacing_mm": spacing_mm, "anatomy": person, "tumour": None}
    if tumour:
        fractions, named, where, parameters["tumour"] = _with_tumour(person, key, box)
    else:
        fractions = anatomy.tissue(atlas(), person, key.fold("anatomy"), box)
        where = anatomy.pulled_back(person, key.fold("anatomy"), box)
        named = torch.zeros(box.shape, dtype=torch.uint8)
    fractions = _wrapped(fractions, person["margin_mm"], key.fold("cover"), box)
    sinuses = mimics.tubes(mimics.VEINS, where, key.fold("vessels", "sinuses"), box)
    mask = _stripped(fractions.sum(0) > 0.5, sinuses, key.fold("strip"), box)
    csf, grey, white = fractions
    csf = csf + mask * (1 - fractions.sum(0)).clamp_min(0)
    fractions = torch.stack([csf, grey, white])
    tissue = torch.where(white >= grey, 3, 2).to(torch.uint8)
    tissue[csf > torch.maximum(grey, white)] = 1
    labels = torch.where(named > 0, named, tissue) * mask
    protocol = Protocol.draw(key.fold("protocol"))
    signals, shares = _signals(fractions * mask, labels, where, sinuses, protocol, key, box)
    healthy = (labels > 0) & (named == 0)
    for name in reversed(FINE):  # a vessel is a vessel in plexus and meninges, too
        labels[healthy & (shares[name] > NAMED)] = BRAIN.value(name)
    parameters["protocol"] = asdict(protocol)
    parameters["scans"] = {}
    scans = []
    parameters["coil_shading"] = strength = scanner.draw_coil(key.fold("coil"))
    coil = scanner.shading(key.fold("coil", "field"), strength, box)
    for index, name in enumerate(MODALITIES):
        scan = scanner.draw(key.fold("scanner", name))
        parameters["scans"][name] = scan
        scans.append(scanner.acquire(signals[index], mask, scan, coil, key.fold("scan", name), box))
    parameters["substances"] = {
        name: asdict(substance) | {"uptake": uptake}
        for name, (substance, uptake) in substances(key.fold("tissue")).items()
    }
    return _framed(torch.stack(scans), labels, box, parameters)


def _work_box(spacing_mm: float) -> Box:
    """The brain's box on voxels of the frame."""
    start = [
        _on_grid(low, o, spacing_mm) for (low, _), o in zip(BRAIN_MM, FRAME_START_MM, strict=True)
    ]
    shape = [
        int((high - low) // spacing_mm) + 1 for low, (_, high) in zip(start, BRAIN_MM, strict=True)
    ]
    return Box((shape[0], shape[1], shape[2]), spacing_mm, (start[0], start[1], start[2]))


def _coarse(box: Box) -> Box:
    """Voxels of `COARSE_MM`, or the box where its own are larger."""
    return box if box.spacing_mm >= COARSE_MM else box.coarse(COARSE_MM)


def _on_grid(low: float, origin: float, spacing_mm: float) -> float:
    return origin + spacing_mm * max(np.ceil((low - origin) / spacing_mm), 0)


def _with_tumour(
    person: dict[str, Any], key: Key, box: Box
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Tissue that a tumour has displaced, the tumour's labels, where in the atlas each voxel comes
    from, and what was drawn."""
    before = _coarse(box)
    fractions = anatomy.tissue(atlas(), person, key.fold("anatomy"), before)
    growing = tumour.grow(fractions, before, key.fold("tumour"))
    push = tumour.push_mm(growing, box)
    fractions = anatomy.tissue(atlas(), person, key.fold("anatomy"), box, push)
    where = anatomy.pulled_back(person, key.fold("anatomy"), box, push)
    named = tumour.paint(growing, fractions, box, key.fold("outline"))
    return fractions, named, where, growing.parameters


def _wrapped(fractions: Tensor, margin_mm: float, key: Key, box: Box) -> Tensor:
    """With fluid around the brain, in which the sinuses run, before a tool strips it."""
    if margin_mm == 0:
        return fractions
    inside = (fractions.sum(0) > 0.5).float()
    uneven = smooth_fields(key.fold("uneven"), 1, box, 15.0)[0]
    reach = (margin_mm * (1 + 0.4 * uneven)).clamp_min(0)
    blurred = blur(inside[None], COVER_MM / box.spacing_mm)[0]
    # a flat border blurred has fallen to this at `reach` mm outside
    kept = blurred > 0.5 * torch.erfc(reach / (COVER_MM * 2**0.5))
    csf = fractions[0] + kept * (1 - fractions.sum(0)).clamp_min(0)
    return torch.stack([csf, *fractions[1:]])


def _stripped(brain: Tensor, sinuses: Tensor, key: Key, box: Box) -> Tensor:
    """The brain as a skull-stripping tool leaves it, which takes most of the fluid on its surface
    along, here more and there less; what it leaves of the sinuses differs."""
    rng = key.numpy()
    bias = rng.uniform(-0.47, -0.15)
    soft = blur(brain[None].float(), 2.2 / box.spacing_mm)[0]
    uneven = 0.12 * smooth_fields(key.fold("uneven"), 1, box, 12.0)[0]
    kept = ((soft + uneven + bias > 0.5) | (soft > 0.97)) & brain
    return kept | (sinuses > float(rng.uniform(0.2, 1.2)))


def _signals(
    fractions: Tensor,
    labels: Tensor,
    where: Tensor,
    sinuses: Tensor,
    protocol: Protocol,
    key: Key,
    box: Box,
) -> tuple[Tensor, dict[str, Tensor]]:
    """T1, T1c, T2, FLAIR before the scanner, `(4, I, J, K)`, and shares of `FINE`."""
    of = substances(key.fold("tissue"))
    rng = key.fold("texture").numpy()
    healthy = _unevenness(key.fold("healthy"), box)
    rough = smooth_fields(key.fold("rough"), 4, box, float(rng.uniform(2.5, 5)))
    fine = smooth_fields(key.fold("fine"), 1, box, max(1.2, box.spacing_mm))[0]
    signals = torch.zeros(4, *box.shape)
    rest = torch.ones(box.shape)
    bled = _bled(key.fold("bled"), box)
    for name, share in _shares(labels, rng, box).items():
        weight = share * float(rng.uniform(PURITY.get(name, 1.0), 1))
        textures = _textures(rng, name, rough, fine)
        if bled is not None and name in ("NCR", "ET"):
            textures = [texture * bled[index] for index, texture in enumerate(textures)]
        values = protocol.signals(*of[name]) * unlike(rng, 0.043)
        for index, texture in enumerate(textures):
            signals[index] += weight * float(values[index]) * texture.clamp(0.15, 2)
        rest -= weight
    rest = rest.clamp_min(0)
    for channel, name in enumerate(TISSUE):
        values = protocol.signals(*of[name]) * unlike(rng, 0.03)
        values[FLAIR] *= WHITE_ON_FLAIR if name == "WM" else 1.0
        weight = fractions[channel] * rest
        for index in range(4):
            uneven = 1.0 if name == "CSF" else healthy[index]
            signals[index] += weight * float(values[index]) * uneven
    shares = mimics.add(signals, fractions, where, sinuses, of, protocol, key.fold("vessels"), box)
    return signals, shares


def _shares(labels: Tensor, rng: np.random.Generator, box: Box) -> dict[str, Tensor]:
    """Shares of voxels `(I, J, K)` that the structures of a tumour have, by abbreviation.

    Oedema fades: it begins faint where it is named, is full millimetres further inside, and a
    little of it lies outside, more in some people than in others, as on real FLAIR (docs/log.md).
    """
    sharp_mm, fading = float(rng.uniform(0.6, 1.2)), float(rng.uniform(0, 0.7))
    depth_mm, tail_mm = float(rng.uniform(2, 5)), float(rng.uniform(0.8, 2.2))
    here = {name: labels == BRAIN.value(name) for name in ("ED", "NCR", "ET", "RC")}
    here = {name: mask[None].float() for name, mask in here.items() if bool(mask.any())}
    whole = sum(here.values(), torch.zeros(1, *box.shape))
    oedema = here.pop("ED", None)
    shares = {name: blur(mask, sharp_mm / box.spacing_mm)[0] for name, mask in here.items()}
    if oedema is None:
        return shares
    grid = _coarse(box)
    deep = blur(resample(whole, box, grid), depth_mm / grid.spacing_mm)
    deep = resample((2 * deep - 1).clamp_min(0), grid, box)[0]
    wet = blur(whole, tail_mm / box.spacing_mm)[0] * (1 - fading + fading * deep)
    core = sum(shares.values(), torch.zeros(box.shape))
    return {"ED": (wet - core).clamp_min(0), **shares}


def _unevenness(key: Key, box: Box) -> list[Tensor]:
    """Factors `(I, J, K)` by which T1, T1c, T2 and FLAIR of healthy tissue differ from place to
    place: T1 with and without contrast agent alike, and T2 and FLAIR with what water there is."""
    rng = key.numpy()
    t1, t2 = smooth_fields(key.fold("where"), 2, box, float(rng.uniform(3, 6)))
    before, wet = 1 + float(rng.uniform(0.01, 0.03)) * t1, float(rng.uniform(0, 0.05)) * t2
    return [before, before, 1 + wet, 1 + float(rng.uniform(0.5, 1)) * wet]


def _textures(rng: np.random.Generator, name: str, rough: Tensor, fine: Tensor) -> list[Tensor]:
    """Factors `(I, J, K)` by which T1, T1c, T2 and FLAIR of a tumour's structure differ from place
    to place.

    What makes T1 uneven does so before and after contrast agent; T1c is uneven by itself, most
    where agent is taken up, so that bright tissue and enhancing tissue differ. Where tissue is
    wetter, T1 is mostly darker and T2 brighter, and FLAIR mostly goes with T2. By how much, each
    person's tumour has its own.

    Args:
        rng: What is drawn.
        name: Abbreviation of the structure.
        rough: Four independent fields `(4, I, J, K)`.
        fine: One of the finest scale, common to all scans: density.
    """
    strength = float(rng.uniform(0.04, 0.16)) * (0.3 if name == "RC" else 1.0)
    if rng.random() < 0.35 and name in ("NCR", "ET"):
        strength *= 2  # blood, cysts and solid parts side by side
    t1, t2, flair = (strength * float(rng.uniform(0.5, 1.5)) for _ in range(3))
    uptake = strength * float(rng.uniform(0.5, 1.5) if name == "ET" else rng.uniform(0.1, 0.9))
    taken = _alike(rough[0], rough[3], float(rng.uniform(-0.9, 0.3) if name == "ET" else 0))
    wetter = _alike(rough[0], rough[1], float(rng.uniform(-0.9, 0.3)))
    brighter = _alike(wetter, rough[2], float(rng.uniform(0, 0.9)))
    before = t1 * (rough[0] + 0.4 * fine)
    return [
        1 + before,
        1 + before + uptake * (taken + 0.4 * fine),
        1 + t2 * (wetter + 0.4 * fine),
        1 + flair * (brighter + 0.4 * fine),
    ]


def _alike(field: Tensor, other: Tensor, correlation: float) -> Tensor:
    """A field with a given correlation to the first of two independent ones."""
    return correlation * field + (1 - correlation**2) ** 0.5 * other


def _bled(key: Key, box: Box) -> Tensor | None:
    """Factors `(4, I, J, K)` by which blood products change the signals of a core, if there are
    any: iron shortens T2, and some stages of it T1.

    Source:
        Bradley, Radiology 189(1), 1993: MR appearance of hemorrhage in the brain.
    """
    rng = key.numpy()
    if rng.random() > BLED:
        return None
    field = smooth_fields(key.fold("where"), 1, box, float(rng.uniform(3, 9)))[0]
    share = torch.sigmoid((field - float(rng.uniform(-0.5, 1.5))) / 0.2)
    t1, t2, flair = rng.uniform((0.8, 0.2, 0.25), (1.5, 0.6, 0.7))
    return 1 + share * (torch.tensor([t1, t1, t2, flair]).float().view(4, 1, 1, 1) - 1)


def unlike(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Factors by which the four signals of a structure differ from their equations, which know
    nothing of magnetisation transfer, flow, diffusion or echo trains: much the same for T1 with
    and without contrast agent."""
    t1, t1c, t2, flair = rng.standard_normal(4)
    return np.exp(spread * np.array([t1, t1 + 0.4 * t1c, t2, flair])).astype(np.float32)


def _framed(scans: Tensor, labels: Tensor, box: Box, parameters: dict[str, Any]) -> Phantom:
    """Put the box into the field of view of BraTS; files go back to LPS."""
    s = box.spacing_mm
    shape = tuple(int(np.ceil(n / s)) for n in FRAME_MM)
    at = [round((b - f) / s) for b, f in zip(box.origin_mm, FRAME_START_MM, strict=True)]
    place = tuple(slice(a, min(a + n, m)) for a, n, m in zip(at, box.shape, shape, strict=True))
    inside = tuple(slice(0, p.stop - p.start) for p in place)
    data = np.zeros((4, *shape), np.float32)
    data[(slice(None), *place)] = scans.numpy()[(slice(None), *inside)]
    named = np.zeros(shape, np.uint8)
    named[place] = labels.numpy()[inside]
    affine = np.diag([s, s, s, 1.0])
    affine[:3, 3] = FRAME_START_MM
    stored = affine.copy()
    stored[:2, :2] *= -1
    stored[:2, 3] += [s * (n - 1) for n in shape[:2]]
    source = Source(stored, (0, 1, 2), (-1, -1, 1), 2)
    return Phantom(
        Volume(data, affine, MODALITIES, source), LabelMap(named, affine, BRAIN, source), parameters
    )
