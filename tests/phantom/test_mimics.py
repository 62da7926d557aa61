"""What is bright or dark and no tumour, against the same measurements of real scans."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.phantom import Phantom, make, mimics
from medsynth.phantom.fields import Box
from medsynth.phantom.phantom import unlike
from medsynth.phantom.signal import Protocol, Substance, substances
from tools.tissue_statistics import lit

BOX = Box((78, 96, 78), 2.0, (-77.0, -111.0, -73.0))
AVERAGE = torch.stack(torch.broadcast_tensors(*BOX.axes_mm()))
"""Where in the atlas each voxel of the average brain comes from: where it is."""

SEVEN_REAL = {"rim, by 2.5": 0.044, "rim, by 1.5": 0.115, "inside, by 2.5": 0.006,
              "inside, by 1.5": 0.022, "dark rim on T2": 0.153}  # fmt: skip
"""Means of seven gliomas of BraTS 2021 at 2 mm, from 8 mm (along the axes) beyond the tumour on
(`tools/tissue_statistics.py`, docs/log.md)."""

LEAST = {"dark rim on T2": 0.25}
"""Least share of the real figure; 0.5 for others, of which there would be less without vessels."""


def _add(
    signals: torch.Tensor,
    fractions: torch.Tensor,
    of: dict[str, tuple[Substance, float]],
    protocol: Protocol,
    key: Key,
) -> None:
    """`mimics.add` in the average brain."""
    sinuses = mimics.tubes(mimics.VEINS, AVERAGE, key.fold("sinuses"), BOX)
    mimics.add(signals, fractions, AVERAGE, sinuses, of, protocol, key, BOX)


@pytest.fixture(scope="module")
def twelve() -> list[tuple[Phantom, np.ndarray]]:
    """Phantoms of 2 mm, and what of them is four steps of 2 mm or more from the tumour, air too."""
    phantoms = [make(Key(9, (i,)), spacing_mm=2.0) for i in range(12)]
    return [(p, ~ndimage.binary_dilation(p.labels.mask("lesion"), iterations=4)) for p in phantoms]


def test_what_takes_up_contrast_agent_is_named(twelve: list[tuple[Phantom, np.ndarray]]) -> None:
    """Away from the tumour nearly all that is much brighter than white matter on T1c and was not
    before contrast agent, and little of the rest of the brain."""
    of_bright, of_dark = [], []
    for phantom, far in twelve:
        labels, (t1, t1c) = phantom.labels, phantom.scans.data[:2]
        fine = labels.mask("fine")
        white = labels.mask("WM")
        bright = far & (labels.data > 0) & (t1c > 1.3 * t1c[white].mean())
        bright &= t1 < 1.1 * t1[white].mean()
        of_bright += fine[bright].tolist()
        of_dark += fine[far & (labels.data > 0) & ~bright].tolist()
    assert np.mean(of_bright) > 0.7
    assert np.mean(of_dark) < 0.03


def test_a_tumour_is_a_tumour_where_vessels_run_through_it(
    twelve: list[tuple[Phantom, np.ndarray]],
) -> None:
    for index, (phantom, _) in enumerate(twelve):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("medsynth.phantom.phantom.NAMED", 2.0)
            without = make(Key(9, (index,)), spacing_mm=2.0)
        assert phantom.labels.has("fine")
        assert not without.labels.has("fine")
        assert (phantom.labels.mask("lesion") == without.labels.mask("lesion")).all()


def test_as_much_takes_up_contrast_agent_as_in_patients(
    twelve: list[tuple[Phantom, np.ndarray]],
) -> None:
    every = []
    for phantom, far in twelve:
        brain = phantom.labels.data > 0
        every.append(lit(phantom.scans.data, brain, brain & far))
    for name, real in SEVEN_REAL.items():
        mean = np.mean([of[name] for of in every])
        assert LEAST.get(name, 0.5) * real < mean < 2 * real, (name, mean)


def test_nothing_is_mixed_in_where_there_is_no_brain() -> None:
    signals, nothing = torch.zeros(4, *BOX.shape), torch.zeros(3, *BOX.shape)
    _add(signals, nothing, substances(Key(0)), Protocol.draw(Key(0)), Key(1))
    assert not signals.any()


def test_blood_is_bright_on_t1c_and_gone_elsewhere_where_it_streams() -> None:
    """Compared with the white matter around. Arteries are dark on T2 and FLAIR in everybody; veins,
    in which blood is slower, never as dark as those, and in some as bright as white matter."""
    veins, arteries, beside = [], [], []
    for seed in range(10):
        fractions = torch.zeros(3, *BOX.shape)
        fractions[2] = 1
        of, protocol, key = substances(Key(seed)), Protocol.draw(Key(seed)), Key(seed, ("m",))
        white = torch.from_numpy(protocol.signals(*of["WM"])).view(4, 1, 1, 1)
        signals = white.repeat(1, *BOX.shape)
        _add(signals, fractions, of, protocol, key)
        signals /= white
        slow = mimics.tubes(mimics.VEINS, AVERAGE, key.fold("sinuses"), BOX)
        fast = mimics.tubes(mimics.ARTERIES, AVERAGE, key.fold("arteries"), BOX) * (slow < 0.01)
        for share, found in ((slow, veins), (fast, arteries)):
            found.append(signals[:, share > 0.8 * share.max()].median(1).values)
        none = (slow + fast) == 0
        beside.append(signals[:, none & (signals[1] > 0)].median(1).values)
    slow, fast, matter = (torch.stack(found).T for found in (veins, arteries, beside))
    assert (slow[1] - slow[0]).min() > 0.5
    assert (fast[1] - fast[0]).min() > 0.5
    assert fast[2:].max() < 0.7
    assert (slow[2] > fast[2]).all()
    assert slow[2].min() < 0.6
    assert slow[2].max() > 0.9
    assert (matter[1] - matter[0]).abs().max() < 0.02


@pytest.mark.parametrize("course", mimics.PLEXUS)
def test_choroid_plexus_takes_up_contrast_agent_in_fluid_alone(course: str) -> None:
    """In every ventricle that has some; and unlike blood it is not dark on T2."""
    fluid, matter = torch.zeros(3, *BOX.shape), torch.zeros(3, *BOX.shape)
    fluid[0], matter[2] = 1, 1
    one = {course: mimics.PLEXUS[course]}
    for fractions, kind, least, most in ((fluid, "CSF", 0.3, 3.0), (matter, "WM", -0.1, 0.1)):
        more, t2 = [], []
        for seed in range(6):
            of, protocol = substances(Key(seed)), Protocol.draw(Key(seed))
            here = mimics.tubes(one, AVERAGE, Key(seed, ("plexus",)), BOX)
            plain = torch.from_numpy(protocol.signals(*of[kind])).view(4, 1, 1, 1)
            signals = plain.repeat(1, *BOX.shape)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(mimics, "PLEXUS", one)
                _add(signals, fractions, of, protocol, Key(seed))
            white = protocol.signals(*of["WM"])
            inside = here > 0.8 * here.max()
            more.append(float((signals[1] - plain[1])[inside].median()) / float(white[1]))
            t2.append(float(signals[2][inside].median()) / float(white[2]))
        assert least < np.mean(more) < most
        assert np.mean(t2) > 0.9


def test_vessels_run_where_the_person_has_them() -> None:
    """In a brain of another size, moved, and bent: a tube comes from where it is in the atlas."""
    x, y, z = AVERAGE
    where = torch.stack([1.15 * x + 3, 0.95 * y - 4, 1.1 * z + 5 + 3 * torch.sin(y / 20)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mimics, "BENDS_MM", 0.0)
        there = mimics.tubes(mimics.VEINS, where, Key(2), BOX)
        atlas = mimics.tubes(mimics.VEINS, AVERAGE, Key(2), BOX)
    size = torch.tensor(BOX.shape).flip(0) - 1
    at = (where - torch.tensor(BOX.origin_mm).view(3, 1, 1, 1)) / BOX.spacing_mm
    grid = at.flip(0).permute(1, 2, 3, 0) / size * 2 - 1
    expected = torch.nn.functional.grid_sample(atlas[None, None], grid[None], align_corners=True)
    one, other = there > 0.25, expected[0, 0] > 0.25
    assert 2 * float((one & other).sum()) / float(one.sum() + other.sum()) > 0.75
    moved = atlas > 0.25
    assert 2 * float((one & moved).sum()) / float(one.sum() + moved.sum()) < 0.4


def test_large_vessels_run_along_the_midline_and_bend(monkeypatch: pytest.MonkeyPatch) -> None:
    bent = mimics.tubes(mimics.VEINS, AVERAGE, Key(0), BOX)
    monkeypatch.setattr(mimics, "BENDS_MM", 0.0)
    straight = mimics.tubes(mimics.VEINS, AVERAGE, Key(0), BOX)
    assert (bent - straight).abs().max() > 0.3
    x = torch.as_tensor(BOX.axes_mm()[0]).flatten()
    for vessels in (bent, straight):
        assert 4 < float(vessels.sum()) * BOX.spacing_mm**3 / 1000 < 60
        assert vessels[x.abs() < 8].mean() > 3 * vessels[x.abs() > 20].mean()


@pytest.mark.parametrize("radius_mm", [1.3, 3.0])
def test_a_vessel_is_as_thick_as_its_calibre(
    radius_mm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A straight one of 60 mm at 1 mm; its ends are round."""
    vessel: dict[str, tuple[float, mimics.Course]] = {
        "one": (radius_mm, ((-30.0, 3.3, 4.7), (30.0, 3.3, 4.7)))
    }
    monkeypatch.setattr(mimics, "BENDS_MM", 0.0)
    box = Box((90, 40, 40), 1.0, (-45.0, -20.0, -20.0))
    here = torch.stack(torch.broadcast_tensors(*box.axes_mm()))
    for seed in range(3):
        calibre, filled = (radius_mm * (u := Key(seed).numpy()).uniform(0.5, 1.5),
                           u.uniform(0.3, 1))  # fmt: skip
        share = mimics.tubes(vessel, here, Key(seed), box)
        expected = np.pi * calibre**2 * 60 + 4 / 3 * np.pi * calibre**3
        assert float(share.sum()) / filled == pytest.approx(expected, rel=0.35)


def test_small_vessels_run_beside_fluid_and_hardly_through_white_matter() -> None:
    fluid, everywhere = torch.zeros(BOX.shape), torch.ones(BOX.shape)
    fluid[:39] = 1
    shares = [mimics.small_vessels(fluid, everywhere, Key(seed), BOX) for seed in range(6)]
    beside, through = (float(np.mean([s[part].mean() for s in shares]))
                       for part in (slice(0, 36), slice(46, None)))  # fmt: skip
    assert 0.005 < beside < 0.1
    assert beside > 4 * through > 0
    assert max(float(s.max()) for s in shares) > 0.7


@pytest.mark.parametrize("kind", ["small", "VEINS", "ARTERIES", "PLEXUS"])
def test_vessels_of_all_kinds_are_mixed_in(kind: str) -> None:
    """Without any of them less takes up contrast agent."""
    fractions = torch.zeros(3, *BOX.shape)
    fractions[0, :39], fractions[2, 39:] = 1, 1
    taken_up = []
    for left_out in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if left_out and kind == "small":
                patch.setattr(mimics, "small_vessels", lambda *_: torch.zeros(BOX.shape))
            elif left_out:
                patch.setattr(mimics, kind, {})
            signals, of = torch.ones(4, *BOX.shape), substances(Key(4))
            _add(signals, fractions, of, Protocol.draw(Key(4)), Key(4))
            taken_up.append(float((signals[1] - signals[0]).sum()))
    assert taken_up[0] > 1.005 * taken_up[1]


def test_t1_with_and_without_contrast_agent_are_unlike_their_equations_alike() -> None:
    rng = np.random.default_rng(0)
    factors = np.log([unlike(rng, 0.1) for _ in range(4000)])
    assert factors.std(0) == pytest.approx([0.1, 0.1 * 1.16**0.5, 0.1, 0.1], rel=0.06)
    assert np.corrcoef(factors.T)[0, 1] == pytest.approx(1 / 1.16**0.5, abs=0.02)
    assert abs(np.corrcoef(factors.T)[0, 2]) < 0.06


def test_structures_stand_to_each_other_as_in_patients(
    twelve: list[tuple[Phantom, np.ndarray]],
) -> None:
    """Ratios of mean brightness, 2 mm; seven real ones 1.03–1.30, 0.83–0.90, 0.98–1.21 and, of
    oedema, 0.88–0.99 (docs/log.md)."""
    ratios, oedema = [], []
    for phantom, far in twelve:
        data, labels = phantom.scans.data, phantom.labels.data
        grey, white = ([s[(labels == v) & far].mean() for s in data] for v in (2, 3))
        ratios.append([grey[2] / white[2], grey[0] / white[0], grey[3] / white[3]])
        if (labels == BRAIN.value("ED")).sum() > 100:
            oedema.append(data[0][labels == BRAIN.value("ED")].mean() / white[0])
    t2, t1, flair = np.median(ratios, 0)
    assert 1.05 < t2 < 1.3
    assert 0.78 < t1 < 0.92
    assert 0.9 < flair < 1.15
    assert len(oedema) > 8
    assert 0.8 < np.median(oedema) < 0.99
    assert np.mean(np.array(oedema) > 1) < 0.3
