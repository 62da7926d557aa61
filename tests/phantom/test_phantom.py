"""Phantoms: the same key the same brain, plausible anatomy, tumours as in life."""

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.phantom import Phantom, anatomy, make
from medsynth.phantom.atlas import atlas
from medsynth.phantom.phantom import _work_box

SPACING = 3.0


@pytest.fixture(scope="module")
def cohort() -> list[Phantom]:
    return [make(Key(5, (index,)), spacing_mm=SPACING) for index in range(10)]


def test_the_same_key_gives_the_same_bytes() -> None:
    one, two = (make(Key(1), spacing_mm=4.0) for _ in range(2))
    assert one.scans.data.tobytes() == two.scans.data.tobytes()
    assert one.labels.data.tobytes() == two.labels.data.tobytes()
    assert one.parameters == two.parameters


def test_grid_is_that_of_brats(cohort: list[Phantom]) -> None:
    phantom = cohort[0]
    assert phantom.labels.shape == (80, 80, 52)
    assert phantom.scans.same_grid(phantom.labels)
    assert phantom.scans.channels == ("t1n", "t1c", "t2w", "t2f")
    stored = phantom.labels.source
    assert stored is not None
    assert stored.flips == (-1, -1, 1)


def test_the_working_box_cuts_no_brain_at_its_sides() -> None:
    """Where it is round, a brain lies on little of it (one that was cut: on 20 cm²)."""
    box = _work_box(6.0)
    for seed in range(40):
        person = anatomy.draw(Key(seed))
        brain = anatomy.tissue(atlas(), person, Key(seed, ("anatomy",)), box).sum(0) > 0.5
        faces = [brain[0], brain[-1], brain[:, 0], brain[:, -1]]
        assert max(float(face.sum()) * 0.36 for face in faces) < 7


def test_background_is_zero_and_brain_is_not(cohort: list[Phantom]) -> None:
    for phantom in cohort:
        outside = phantom.labels.data == 0
        assert not phantom.scans.data[:, outside].any()
        assert (phantom.scans.data[:, ~outside] > 0).all()


def test_volumes_are_those_of_adults(cohort: list[Phantom]) -> None:
    for phantom in cohort:
        labels = phantom.labels
        brain = labels.volume_mm3("brain") / 1000
        assert 1000 < brain < 2000
        assert 0.05 < labels.volume_mm3("CSF") / 1000 / brain < 0.3
        assert 0.8 < labels.volume_mm3("GM") / labels.volume_mm3("WM") < 2.6
        wanted = (phantom.parameters["tumour"] or {})["volume_ml"]
        core = (labels.volume_mm3("TC") + labels.volume_mm3("RC")) / 1000
        assert 0.3 * wanted < core < 2.2 * wanted


def test_healthy_phantoms_have_no_tumour() -> None:
    phantom = make(Key(3), spacing_mm=4.0, tumour=False)
    assert set(np.unique(phantom.labels.data)) == {0, 1, 2, 3}
    assert phantom.parameters["tumour"] is None


def test_brains_are_individuals(cohort: list[Phantom]) -> None:
    for one, two in pairwise(cohort):
        white = [p.labels.data == BRAIN.value("WM") for p in (one, two)]
        dice = 2 * (white[0] & white[1]).sum() / (white[0].sum() + white[1].sum())
        assert 0.3 < dice < 0.9


def test_structures_look_as_in_life(cohort: list[Phantom]) -> None:
    """Means over the cohort, z-scored in the brain: enhancing bright on T1c, oedema on FLAIR."""
    rows: dict[tuple[str, str], list[float]] = {}
    for phantom in cohort:
        inside = phantom.labels.data > 0
        for name in phantom.scans.channels:
            scan = phantom.scans.channel(name)
            for label in BRAIN.labels[1:]:
                where = phantom.labels.data == label.value
                if where.sum() > 20:
                    z = (scan[where].mean() - scan[inside].mean()) / scan[inside].std()
                    rows.setdefault((label.abbreviation, name), []).append(float(z))
    z = {key: float(np.mean(values)) for key, values in rows.items()}
    assert z["ET", "t1c"] > 1.5 > z["WM", "t1c"]
    assert abs(z["ET", "t1n"]) < 1
    assert z["ED", "t2f"] > 1
    assert z["ED", "t2w"] > 0.2
    assert z["CSF", "t2f"] < -1
    assert z["CSF", "t2w"] > 1
    assert z["NCR", "t1c"] < z["ET", "t1c"] - 1
    assert z["WM", "t1n"] > z["GM", "t1n"] > z["CSF", "t1n"]


def test_the_core_lies_within_the_tumour(cohort: list[Phantom]) -> None:
    """Necrosis touches enhancing tumour or oedema, hardly ever healthy tissue, in ring tumours."""
    rings = [p for p in cohort if p.parameters["tumour"]["kind"] == "ring"]
    assert rings
    for phantom in rings:
        dead = phantom.labels.mask("NCR")
        rim = ndimage.binary_dilation(dead) & ~dead
        if rim.any():
            healthy = rim & (phantom.labels.data <= 3)
            assert healthy.sum() < 0.3 * rim.sum()


def test_a_tumour_pushes_the_tissue_around_it() -> None:
    """The same person with and without tumour: tissue far from it is the same, near it is not."""
    key = Key(5, (0,))
    sick, well = make(key, spacing_mm=SPACING), make(key, spacing_mm=SPACING, tumour=False)
    tumour = sick.labels.data >= 4
    away = ndimage.distance_transform_edt(~tumour) * SPACING
    both = (sick.labels.data > 0) & (well.labels.data > 0) & ~tumour
    changed = sick.labels.data != well.labels.data
    near, far = both & (away < 12), both & (away > 60)
    assert changed[near].mean() > 2 * changed[far].mean()


def test_parameters_are_json_and_complete(cohort: list[Phantom]) -> None:
    parameters = json.loads(json.dumps(cohort[0].parameters))
    assert set(parameters) == {"spacing_mm", "anatomy", "tumour", "protocol", "scans", "substances"}
    assert set(parameters["scans"]) == {"t1n", "t1c", "t2w", "t2f"}
