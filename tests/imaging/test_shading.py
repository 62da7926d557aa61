"""Shading: what is drawn is what is measured, whatever the grid; scans are made with it."""

from dataclasses import replace

import numpy as np
import torch

from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap
from medsynth.imaging import load, shading
from medsynth.phantom import make

COVARIANCE = np.array([[0.0025, 0.002, -0.001], [0.002, 0.004, 0.0], [-0.001, 0.0, 0.003]])


def _ball(edge_mm: float, shift: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """A ball of 70 mm around the origin, and its grid, `shift` voxels of air cut off."""
    n = round(160 / edge_mm)
    affine = np.diag([edge_mm, edge_mm, edge_mm, 1.0])
    affine[:3, 3] = -(n - 1) / 2 * edge_mm + shift * edge_mm
    at = (np.indices((n - 2 * shift,) * 3) * edge_mm).T + affine[:3, 3]
    return torch.from_numpy(np.linalg.norm(at, axis=-1).T < 70), affine


def test_what_is_drawn_is_what_is_measured() -> None:
    brain, affine = _ball(4.0)
    found = [
        shading.measure(
            (800 * shading.draw(Key(seed), COVARIANCE, brain, affine)).numpy(),
            brain.numpy(),
            affine,
        )
        for seed in range(60)
    ]
    np.testing.assert_allclose(np.mean(found, 0), COVARIANCE, atol=6e-4)


def test_a_place_is_shaded_alike_in_every_grid() -> None:
    """Cut off, and on voxels half as large; blocks of two of these are compared."""
    (coarse, at), (cut, there), (fine, here) = _ball(4.0), _ball(4.0, 3), _ball(2.0)
    one, two, three = (
        shading.draw(Key(1), COVARIANCE, brain, affine)
        for brain, affine in ((coarse, at), (cut, there), (fine, here))
    )
    three = torch.nn.functional.avg_pool3d(three, 2)
    turned = np.array([[0, 0, 5.0, -80], [-3.2, 2.4, 0, 10], [2.4, 3.2, 0, -100], [0, 0, 0, 1]])
    grid = np.indices((40, 48, 33))
    place = np.einsum("ab,bijk->aijk", turned[:3, :3], grid) + turned[:3, 3, None, None, None]
    other = torch.from_numpy(np.linalg.norm(place, axis=0) < 70)
    found = shading.draw(Key(1), COVARIANCE, other, turned)[:, other].numpy()
    nearest = np.rint((place[:, other.numpy()] - at[:3, 3:]) / 4).astype(int)
    assert np.abs(found - one.numpy()[:, *nearest]).max() < 0.05
    inside = (slice(None), *(slice(3, -3),) * 3)
    assert one.log().abs().max() > 0.1
    torch.testing.assert_close(one[inside], two, atol=0.01, rtol=0)
    torch.testing.assert_close(one[:, coarse], three[:, coarse], atol=0.01, rtol=0)


def test_texture_is_no_shading_and_a_little_tissue_tells_nothing() -> None:
    brain, affine = _ball(2.0)
    rng = np.random.default_rng(0)
    grain = 1 + 0.1 * rng.standard_normal((3, *brain.shape), np.float32)
    assert np.diag(shading.measure(grain, brain.numpy(), affine)).max() < 1e-4
    grain[:, :24] = 0  # a scan that ends early
    assert np.diag(shading.measure(grain, brain.numpy(), affine)).max() < 3e-3
    brain[:74] = False
    assert np.isnan(shading.measure(grain, brain.numpy(), affine)).all()


def test_one_scan_is_shaded_too() -> None:
    brain, affine = _ball(4.0)
    factors = shading.draw(Key(0), COVARIANCE[:1, :1], brain, affine)
    assert factors.shape == (1, *brain.shape)
    assert shading.measure(factors.numpy(), brain.numpy(), affine).shape == (1, 1)


def test_air_around_a_brain_changes_nothing() -> None:
    """Shading is tied to places, not to voxels of the grid."""
    brain, affine = _ball(4.0)
    values = brain.numpy().astype(np.uint8) * BRAIN.value("WM")
    moved = affine.copy()
    moved[:3, 3] -= 4.0 * np.array([3, 0, 5])
    model = load("phantom", device="cpu", precision="fp32")
    one, two = (
        model.generate(LabelMap(data, where, BRAIN), Key(0)).data
        for data, where in ((values, affine), (np.pad(values, ((3, 1), (0, 0), (5, 0))), moved))
    )
    np.testing.assert_allclose(two[:, 3:-1, :, 5:], one, rtol=1e-4, atol=0.1)


def test_scans_from_the_box_are_shaded_as_its_phantoms_were() -> None:
    """By the white matter of a brain; what varies without is texture."""
    labels = make(Key(5), spacing_mm=2.0).labels
    model = load("phantom", device="cpu", precision="fp32")
    assert model.prior is not None
    asked = model.prior.shading
    assert asked is not None
    plain = replace(model, prior=replace(model.prior, shading=None))
    white = labels.mask("WM")
    with_it, without = (
        np.mean(
            [
                shading.measure(one.generate(labels, Key(seed)).data, white, labels.affine)
                for seed in range(4)
            ],
            axis=0,
        )
        for one in (model, plain)
    )
    share = np.sqrt([np.diag(with_it) / np.diag(asked), np.diag(without) / np.diag(asked)])
    assert 0.75 < share[0].mean() < 1.25
    assert share[1].mean() < 0.5
