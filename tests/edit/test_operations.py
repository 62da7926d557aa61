"""Edits against known volumes and places."""

import numpy as np
import pytest
from scipy import ndimage

from medsynth.core.labels import BRAIN, BRATS2023, scheme
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap
from medsynth.edit import checks, geometry, operations
from medsynth.errors import EditError, LabelError
from tests.edit.conftest import brain


def _volume(labels: LabelMap) -> float:
    return float(geometry.tumour_mask(labels).sum()) * labels.voxel_mm3


def _centre(labels: LabelMap) -> np.ndarray:
    return geometry.centre_mm(labels, geometry.tumour_mask(labels))


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (2.0, 2.0, 2.0), (1.5, 2.0, 4.0)])
@pytest.mark.parametrize("factor", [1.16, 0.84, 1.5])
def test_scaling_meets_the_volume(spacing: tuple[float, float, float], factor: float) -> None:
    before = brain(spacing)
    after = operations.scale(before, volume=factor)
    assert _volume(after) == pytest.approx(factor * _volume(before), rel=0.002)
    assert np.linalg.norm(_centre(after) - _centre(before)) < 1
    assert ((after.data > 0) == (before.data > 0)).all()
    for name in ("NCR", "ED", "ET"):
        ratio = after.volume_mm3(name) / before.volume_mm3(name)
        assert ratio == pytest.approx(factor, rel=0.02)


def test_a_diameter_is_the_cube_root_of_a_volume(sick: LabelMap) -> None:
    by_diameter = operations.scale(sick, diameter=1.16)
    assert _volume(by_diameter) == pytest.approx(1.16**3 * _volume(sick), rel=0.002)


def test_scaling_displaces_the_tissue_around(sick: LabelMap) -> None:
    after = operations.scale(sick, diameter=1.25)
    old_tumour, new_tumour = geometry.tumour_mask(sick), geometry.tumour_mask(after)
    both = ~old_tumour & ~new_tumour & (sick.data > 0)
    changed = (sick.data != after.data) & both
    assert changed.any()
    away = np.linalg.norm(geometry.to_mm(sick, np.argwhere(changed)) - _centre(sick), axis=1)
    assert away.max() < 14 * 1.25 * (1 + operations.REACH) + 4


def test_mirroring_moves_the_tumour_to_the_other_side(sick: LabelMap) -> None:
    once = operations.mirror(sick)
    assert _volume(once) == pytest.approx(_volume(sick), abs=1)
    np.testing.assert_allclose(_centre(once), _centre(sick) * [-1, 1, 1], atol=0.5)
    twice = operations.mirror(once)
    same = geometry.tumour_mask(twice) == geometry.tumour_mask(sick)
    assert same.mean() > 0.9999
    assert ((once.data > 0) == (sick.data > 0)).all()


def test_shift_and_rotation(sick: LabelMap) -> None:
    moved = operations.shift(sick, -6.0, 4.0, 2.0)
    np.testing.assert_allclose(_centre(moved) - _centre(sick), (-6, 4, 2), atol=0.1)
    assert _volume(moved) == _volume(sick)
    turned = operations.rotate(sick, z_deg=90)
    np.testing.assert_allclose(_centre(turned), _centre(sick), atol=0.3)
    assert _volume(turned) == _volume(sick)
    with pytest.raises(EditError, match="inside the brain"):
        operations.shift(sick, 40.0, 0, 0)


def test_growth_counts_voxels_in_mm() -> None:
    data = np.zeros((11, 11, 11), np.uint8)
    data[5, 5, 5] = BRATS2023.value("ET")
    labels = LabelMap(data, np.diag([1.0, 1.0, 3.0, 1.0]), BRATS2023)
    # within 2 mm of a voxel, spacing 1 × 1 × 3: 13 voxels of the slice x² + y² ≤ 4, none above
    assert int(operations.grow(labels, "ET", 2.0).mask("ET").sum()) == 13
    # within 3 mm: 29 in the slice, and one above and one below
    grown = operations.grow(labels, "ET", 3.0)
    assert int(grown.mask("ET").sum()) == 31
    assert (operations.grow(labels, "ET", 0.0).data == data).all()


def test_shrinking_takes_off_a_margin(sick: LabelMap) -> None:
    after = operations.shrink(sick, "ED", 2.0)
    assert after.volume_mm3("ED") < sick.volume_mm3("ED")
    assert after.volume_mm3("NCR") == sick.volume_mm3("NCR")
    with pytest.raises(EditError, match="thicker"):
        operations.shrink(sick, "ED", 50.0)


def test_vessels_are_grown_over_and_do_not_grow(sick: LabelMap) -> None:
    """A vessel beside the tumour: oedema grows over it, and what oedema leaves is tissue."""
    beside = ndimage.binary_dilation(sick.mask("ED"), iterations=3) & sick.mask("tissue")
    beside[:, : sick.shape[1] // 2] = False
    labels = sick.with_data(np.where(beside, BRAIN.value("VES"), sick.data).astype(np.uint8))
    assert labels.has("VES")
    grown = operations.grow(labels, "ED", 4.0)
    assert (grown.mask("ED") == operations.grow(sick, "ED", 4.0).mask("ED")).all()
    shrunk = operations.shrink(labels, "ED", 2.0)
    assert (shrunk.mask("VES") == labels.mask("VES")).all()
    assert (shrunk.mask("ED") == operations.shrink(sick, "ED", 2.0).mask("ED")).all()
    assert (operations.remove(labels).mask("VES") == labels.mask("VES")).all()


def test_growth_stays_within(sick: LabelMap) -> None:
    after = operations.grow(sick, "NCR", 3.0, within="WT")
    assert _volume(after) == _volume(sick)
    assert after.volume_mm3("NCR") > sick.volume_mm3("NCR")
    outside = operations.grow(sick, "ED", 3.0)
    assert outside.volume_mm3("ET") == sick.volume_mm3("ET")
    assert ((outside.data > 0) == (sick.data > 0)).all()


def test_removal_leaves_plausible_tissue(sick: LabelMap) -> None:
    after = operations.remove(sick)
    assert not after.has("WT")
    was = geometry.tumour_mask(sick)
    assert ((after.data > 0) == (sick.data > 0)).all()
    truth = brain(tumour=False)
    assert (after.data[was] == truth.data[was]).mean() > 0.9


def test_deformation_keeps_the_volume_and_repeats(sick: LabelMap) -> None:
    one, two, other = (operations.deform(sick, 3.0, seed=s) for s in (1, 1, 2))
    assert _volume(one) == _volume(sick)
    assert (one.data == two.data).all()
    assert (one.data != other.data).any()


def test_implanting_keeps_size_and_host_grid(sick: LabelMap, healthy: LabelMap) -> None:
    after = operations.implant(sick, healthy)
    assert after.same_grid(healthy)
    assert _volume(after) == pytest.approx(_volume(sick), rel=0.01)
    np.testing.assert_allclose(_centre(after), _centre(sick), atol=4)
    assert ((after.data > 0) == (healthy.data > 0)).all()


def test_a_host_with_a_tumour_loses_its_own(sick: LabelMap) -> None:
    host = brain(centre_mm=(-25, -20, 10), radius_mm=10)
    after = operations.implant(sick, host)
    assert _volume(after) == pytest.approx(_volume(sick), rel=0.01)
    assert _centre(after)[0] > 0


def test_a_tumour_near_the_edge_is_slid_inwards(healthy: LabelMap) -> None:
    edge = brain(centre_mm=(52, 5, 4), radius_mm=12)
    after = operations.implant(edge, brain((2.0, 2.0, 2.0), tumour=False))
    assert _volume(after) == pytest.approx(_volume(edge), rel=0.01)


def test_a_core_that_would_come_out_of_its_oedema_is_slid_inwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flat = brain(tumour=False)
    mm = geometry.to_mm(flat, np.argwhere(np.ones(flat.shape))).reshape(*flat.shape, 3)
    away = mm - [28, 5, 4]
    data = flat.data.copy()
    data[np.linalg.norm(away, axis=-1) < 16] = BRAIN.value("ED")
    disc = np.linalg.norm(away[..., 1:], axis=-1) < 8
    data[disc & (away[..., 0] > 9) & (away[..., 0] < 14)] = BRAIN.value("ET")
    data[(mm[..., 0] < -38) & (mm[..., 2] > -20)] = 0  # the other side is flatter
    before = flat.with_data(data)
    after = operations.mirror(before)
    assert _volume(after) == _volume(before)
    assert checks.exposed(after) == pytest.approx(checks.exposed(before), abs=0.01)
    monkeypatch.setattr(checks, "EXPOSED_TOLERANCE", -1.0)  # nowhere is it enclosed enough
    with pytest.raises(EditError, match=r"enclosed by oedema .*3% of its surface bare.*grow:ED"):
        operations.mirror(before)


def test_what_is_made_up_for_belongs_to_its_neighbours() -> None:
    """Where the largest structure is the core, what was cut off at the brain's edge grew on outside
    of the oedema as specks of core."""
    flat = brain(tumour=False)
    mm = geometry.to_mm(flat, np.argwhere(np.ones(flat.shape))).reshape(*flat.shape, 3)
    away = np.linalg.norm(mm - [28, 5, 4], axis=-1)
    data = flat.data.copy()
    for name, radius in (("ED", 16), ("ET", 14), ("NCR", 12)):
        data[away < radius] = BRAIN.value(name)
    data[(mm[..., 0] < -39) & (mm[..., 2] > -20)] = 0
    before = flat.with_data(data)
    for after in (operations.mirror(before), operations.shift(before, 1.0, 1.3, 0.7)):
        assert _volume(after) == _volume(before)
        for name in ("NCR", "ET", "ED"):
            pieces = ndimage.label(after.mask(name), np.ones((3, 3, 3)))[1]
            assert pieces == 1, name
            assert after.volume_mm3(name) == pytest.approx(before.volume_mm3(name), rel=0.02)


@pytest.mark.parametrize("specks", [False, True])
def test_what_is_one_voxel_thick_is_carried_along(specks: bool) -> None:
    """Moved by half a voxel nothing of it lies inside of its outline any more."""
    before = brain()
    data = np.where(before.mask("WT"), BRAIN.value("ED"), before.data)
    i, j, k = np.argwhere(before.mask("WT")).mean(0).round().astype(int)
    if specks:
        data[i - 4 : i + 5 : 4, j - 4 : j + 5 : 4, k] = BRAIN.value("ET")
    else:
        data[i, j - 4 : j + 5, k - 4 : k + 5] = BRAIN.value("ET")
    thin = before.with_data(data)
    after = operations.shift(thin, 1.0, 1.0, 1.0)
    assert after.volume_mm3("ET") == thin.volume_mm3("ET")


def test_structures_take_what_lies_deepest_in_them_of_those_to_come() -> None:
    depths = np.array([[1.0, -1, -5, -9, 2, 3], [-2, 1, 1, -8, -9, 1], [-4, -2, 2, -1, 9, -9]])
    shared = geometry._shared_out(depths, np.array([2, 1, 3]))
    # the second first, its margin over the better of the others: −3, 2, −1, −7, −18, −2;
    # then the first, over the third alone: 5, –, −7, −8, −7, 12
    assert shared.tolist() == [0, 1, 2, 2, 2, 0]
    assert geometry._shared_out(depths[:1], np.array([6])).tolist() == [0] * 6
    assert geometry._shared_out(depths[:2], np.array([9, 8])).tolist() == [1] * 6


def test_pieces_away_from_home_go_to_the_nearest() -> None:
    named = np.zeros((7, 3, 3), np.uint8)
    named[0:2, 0, 0] = 4  # one voxel of two is at home
    named[2, 1, 1] = 4  # touches them by a corner
    named[4, 1, 1] = named[6, 1, 1] = 4  # crumbs, by different neighbours
    named[4, 0, 0] = 5
    nearest = np.where(named > 0, 5, 0).astype(np.uint8)
    nearest[6] = 6
    home = np.zeros_like(named, bool)
    home[0, 0, 0] = home[4, 0, 0] = True
    out = geometry._without_crumbs(named, nearest, home)
    assert out[:3].tolist() == named[:3].tolist()
    assert (out[4, 1, 1], out[6, 1, 1], out[4, 0, 0]) == (5, 6, 5)
    assert ((out > 0) == (named > 0)).all()


def test_a_core_that_was_bare_stays_where_it_is_put(sick: LabelMap) -> None:
    bare = sick.with_data(np.where(sick.mask("ED"), sick.scheme.value("WM"), sick.data))
    assert checks.exposed(bare) == 1
    np.testing.assert_allclose(
        _centre(operations.mirror(bare)), _centre(bare) * [-1, 1, 1], atol=0.5
    )


@pytest.mark.parametrize(
    "name", ["brats2018", "brats2021", "brats2023", "brats2024-gli", "decathlon", "nnunet-brats21"]
)
def test_tumour_only_maps_of_every_scheme(name: str, sick: LabelMap) -> None:
    labels = sick.to_scheme(scheme(name))
    for after in (
        operations.mirror(labels),
        operations.scale(labels, volume=1.16),
        operations.shift(labels, 5.0),
        operations.deform(labels, 2.0),
    ):
        assert after.scheme.name == name
        assert after.has("NCR")
    assert not operations.remove(labels).data.any()


def test_relabelling(sick: LabelMap) -> None:
    after = operations.relabel(sick, "ET", "NCR")
    assert not after.has("ET")
    assert after.volume_mm3("TC") == sick.volume_mm3("TC")
    with pytest.raises(LabelError, match="structure of scheme"):
        operations.relabel(sick, "tumour", "NCR")


def test_without_a_tumour_there_is_nothing_to_edit(healthy: LabelMap) -> None:
    for edit in (
        operations.mirror,
        operations.remove,
        lambda labels: operations.scale(labels, volume=1.1),
    ):
        with pytest.raises(EditError, match="a tumour to edit"):
            edit(healthy)
    with pytest.raises(EditError, match="some ET"):
        operations.grow(healthy, "ET", 2.0)


def test_edits_do_not_touch_their_input(sick: LabelMap) -> None:
    copy = sick.data.copy()
    operations.mirror(sick), operations.scale(sick, volume=1.2), operations.grow(sick, "ED", 2.0)
    operations.remove(sick), operations.deform(sick, 2.0, seed=Key(0).integer() % 100)
    assert (sick.data == copy).all()
