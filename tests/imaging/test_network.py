"""What the generator promises: no statistics over space, clean background, obedience to style."""

import pytest
import torch

from medsynth.imaging.generator import (
    FoldedGenerator,
    GeneratorSpec,
    _at_scales,
    _blurred,
    make_generator,
)
from medsynth.imaging.network import FoldedUNet, _side_by_side, double, halve

STRUCTURES = ("BG", "CSF", "GM", "WM", "NCR", "ED", "ET", "RC")
SPEC = GeneratorSpec(
    "folded", STRUCTURES, ("t1n", "t1c", "t2w", "t2f"), True, False, (8, 12, 16), 4
)

SPACING_MM = torch.full((1, 3), 2.0)


def _source(*shape: int, seed: int = 0) -> torch.Tensor:
    """Blobs of structures, one-hot."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 8, [n // 8 for n in shape], generator=generator)
    for axis in range(3):
        coarse = coarse.repeat_interleave(8, axis)
    return torch.nn.functional.one_hot(coarse, 8).permute(3, 0, 1, 2)[None].float()


def test_halving_undoes_doubling() -> None:
    x = torch.randn(2, 3, 8, 6, 4)
    assert torch.equal(halve(double(x)), x)


def test_a_fold_sees_one_block_and_begins_without_a_checkerboard() -> None:
    torch.manual_seed(0)
    net = FoldedUNet(3, 2, (6, 8), 4)
    x = torch.randn(1, 3, 8, 8, 8)
    changed = x.clone()
    changed[0, 1, 4, 3, 5] += 1
    with torch.no_grad():
        moved = (net.enter(changed) != net.enter(x)).any(1)[0]
        unfolded = net.leave(torch.randn(1, 6, 4, 4, 4))
    assert moved.nonzero().tolist() == [[2, 1, 2]]
    assert torch.equal(double(halve(unfolded)), unfolded)


@pytest.mark.parametrize("how", [{"kernel_size": 2, "stride": 2}, {"kernel_size": 3, "padding": 1}])
def test_channels_side_by_side_are_channels_of_one_tensor(how: dict[str, int]) -> None:
    torch.manual_seed(0)
    conv, x = torch.nn.Conv3d(5, 2, **how), torch.randn(1, 5, 8, 8, 8, requires_grad=True)
    found = []
    for out in (conv(x), _side_by_side(conv, [x[:, :1], x[:, 1:4], x[:, 4:]])):
        gradients = torch.autograd.grad(out.square().sum(), [x, conv.weight, conv.bias])
        found.append([out, *gradients])
    for whole, apart in zip(*found, strict=True):
        torch.testing.assert_close(apart, whole, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = _side_by_side(conv, [x[:, :1], x[:, 1:4], x[:, 4:]])
    torch.testing.assert_close(rounded.float(), found[0][0], atol=0.03, rtol=0.03)


def test_half_is_the_mean_of_eight() -> None:
    x = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    assert halve(x).item() == 3.5


def test_a_crop_equals_the_whole_volume_inside() -> None:
    """No statistic over space: beyond the receptive field a crop cannot be told from the whole."""
    torch.manual_seed(0)
    net = FoldedUNet(3, 2, (6, 8), 4, condition=2, style=5).eval()
    x, condition, style = (
        torch.randn(1, 3, 64, 32, 32),
        torch.rand(1, 2, 64, 32, 32),
        torch.randn(1, 5),
    )
    with torch.no_grad():
        whole = net([x], condition, style)
        crop = net([x[:, :, :48]], condition[:, :, :48], style)
        far = x.clone()
        far[:, :, 60:] = 100
        moved = net([far], condition, style)
    torch.testing.assert_close(crop[:, :, :16], whole[:, :, :16], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moved[:, :, :16], whole[:, :, :16], atol=0, rtol=0)
    assert (moved[:, :, 60:] - whole[:, :, 60:]).abs().max() > 0.1


def test_background_is_exactly_zero_and_scans_are_not_negative() -> None:
    torch.manual_seed(0)
    source = _source(32, 32, 32)
    noise, style = torch.randn(1, 4, 32, 32, 32), torch.rand(1, 2, 4, 8)
    out = FoldedGenerator(SPEC)(source, noise, style, SPACING_MM)
    assert not out[:, :, source[0, 0] == 1].any()
    assert (out >= 0).all()


def test_a_fresh_generator_paints_by_numbers() -> None:
    """Before any training a structure has about the brightness that the style asks for."""
    torch.manual_seed(0)
    source = _source(32, 32, 32)
    style = torch.stack([torch.rand(1, 4, 8), torch.full((1, 4, 8), -3.0)], 1)
    with torch.no_grad():
        out = FoldedGenerator(SPEC)(source, torch.randn(1, 4, 32, 32, 32), style, SPACING_MM)
    interior = -torch.nn.functional.max_pool3d(-source, 5, 1, 2) > 0.5
    for structure in range(1, 8):
        where = interior[0, structure]
        if where.any():
            gap = (out[0, :, where].mean(1) - style[0, 0, :, structure]).abs().max()
            assert gap < 0.15


def test_borders_are_as_wide_in_mm_in_voxels_of_1_to_2_mm() -> None:
    """A point is seen as a Gaussian of 1 mm along each axis, and as bright as it is."""
    point = torch.zeros(2, 1, 9, 9, 9)
    point[:, :, 4, 4, 4] = 1
    edges = torch.tensor([[1.0, 1, 1], [2, 1, 1.5]])
    seen = _blurred(point, edges)
    torch.testing.assert_close(seen.sum((1, 2, 3, 4)), torch.ones(2))
    for axis in range(3):
        others = tuple(at for at in (2, 3, 4) if at != axis + 2)
        along = (seen.sum(others)[:, 0] * (torch.arange(9) - 4.0).square()).sum(1).sqrt()
        torch.testing.assert_close(along * edges[:, axis], torch.ones(2), atol=0.1, rtol=0)


def test_noise_is_as_strong_at_every_scale_and_coarser_at_each() -> None:
    torch.manual_seed(0)
    scales = _at_scales(torch.randn(1, 1, 128, 128, 128))
    inner = [field[..., 12:-12, 12:-12, 12:-12] for field in scales]
    alike = [float((f[..., 1:] * f[..., :-1]).mean()) for f in inner]
    assert all(abs(float(field.std()) - 1) < 0.03 for field in inner)
    assert abs(alike[0]) < 0.01
    assert 0.8 < alike[1] < 0.95 < alike[2] < 1


def test_noise_and_style_change_the_scan_and_nothing_else_does() -> None:
    torch.manual_seed(0)
    generator = FoldedGenerator(SPEC).eval()
    source, style = _source(16, 16, 16), torch.rand(1, 2, 4, 8)
    one, two = torch.randn(2, 1, 4, 16, 16, 16)
    with torch.no_grad():
        base = generator(source, one, style, SPACING_MM)
        assert torch.equal(base, generator(source, one, style, SPACING_MM))
        assert not torch.equal(base, generator(source, two, style, SPACING_MM))
        assert not torch.equal(base, generator(source, one, style * 0.5, SPACING_MM))


def test_voxels_change_borders_and_the_network() -> None:
    torch.manual_seed(0)
    source = _source(16, 16, 16)
    style = torch.stack([torch.rand(1, 4, 8), torch.full((1, 4, 8), -30.0)], 1)  # without grain
    noise = torch.randn(1, 4, 16, 16, 16)
    generator = FoldedGenerator(SPEC)
    out = generator.net.out.weight
    learnt = out.detach().clone()
    with torch.no_grad():
        out[:, :-4] = 0
        sharp, soft = (generator(source, noise, style, SPACING_MM / n) for n in (1, 2))
        out[:] = learnt
        out[:, -4:] = 0
        two, one = (generator(source, noise, style, SPACING_MM / n) for n in (1, 2))
    brain = source[0, 0] == 0
    inside = brain[1:] & brain[:-1]
    steps = [(m[0, :, 1:] - m[0, :, :-1])[:, inside].abs().max() for m in (sharp, soft)]
    assert steps[1] < 0.8 * steps[0]
    assert (one - two).abs().max() > 1e-6


def test_each_scan_has_noise_of_its_own_to_begin_with() -> None:
    torch.manual_seed(0)
    source, style = _source(16, 16, 16), torch.rand(1, 2, 4, 8)
    one = torch.randn(1, 4, 16, 16, 16)
    two = torch.cat([one[:, :1], torch.randn(1, 3, 16, 16, 16)], 1)
    generator = FoldedGenerator(SPEC)
    with torch.no_grad():  # without the network, whose first guesses are small
        generator.net.out.weight[:, :-4] = 0
        made = [generator(source, noise, style, SPACING_MM) for noise in (one, two)]
    moved = (made[0] - made[1]).abs()
    assert not moved[:, 0].any()
    assert moved[:, 1:].flatten(2).mean(2).min() > 0.01


@pytest.mark.parametrize("kind", ["folded", "unet"])
@pytest.mark.parametrize("direction", ["synthesis", "tissue", "translation"])
def test_any_channels_to_any_channels(kind: str, direction: str) -> None:
    source, target, labels_in, labels_out = {
        "synthesis": (STRUCTURES, ("t1n", "t2f"), True, False),
        "tissue": (("t1n", "t2w"), STRUCTURES, False, True),
        "translation": (("t1n",), ("t2w",), False, False),
    }[direction]
    spec = GeneratorSpec(kind, source, target, labels_in, labels_out, (8, 16), 4)
    x = _source(16, 16, 16) if labels_in else torch.rand(1, len(source), 16, 16, 16)
    style = torch.rand(1, 2, len(target), len(source)) if spec.styled else None
    out = make_generator(spec)(x, torch.randn(1, spec.grains, 16, 16, 16), style, SPACING_MM)
    assert out.shape == (1, len(target), 16, 16, 16)
    out.mean().backward()
