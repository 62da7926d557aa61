"""What the generator is asked for beside the real voxels."""

import torch
from torch import Tensor
from torch.nn import functional

from medsynth.imaging.discriminator import SegmentationDiscriminator
from medsynth.imaging.game import ImageBatch, SynthesisGame, _texture_gap
from medsynth.imaging.generator import FoldedGenerator, GeneratorSpec
from medsynth.training.game import Noise, Share


def _field(seed: int, coarse: int) -> Tensor:
    """Standard normal texture whose patches have that many voxels along an edge."""
    noise = torch.randn(1, 1, *(48 // coarse,) * 3, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, scale_factor=coarse, mode="nearest")


def test_texture_is_met_by_other_noise_of_its_kind_and_not_by_grain() -> None:
    """Patches of four voxels have a quarter of the steps between neighbours that white noise has;
    noise of a quarter of the strength has as many, and none of the patches."""
    source = functional.one_hot(torch.ones(1, 48, 48, 48, dtype=torch.long), 2)
    source = source.permute(0, 4, 1, 2, 3).float()
    real, alike = _field(0, 4), _field(1, 4)
    neighbours = [x.diff(dim=2).abs().mean() for x in (real, _field(2, 1))]
    grain = _field(3, 1) * neighbours[0] / neighbours[1]
    assert _texture_gap(real, real, source) == 0
    assert _texture_gap(alike, real, source) < 0.1
    assert _texture_gap(grain, real, source) > 1
    assert _texture_gap(0 * real, real, source) > 1.5


def test_scans_that_vary_together_are_not_met_by_scans_that_do_not() -> None:
    source = functional.one_hot(torch.ones(1, 48, 48, 48, dtype=torch.long), 2)
    source = source.permute(0, 4, 1, 2, 3).float()
    fields = [_field(seed, 2) for seed in range(4)]
    real = torch.cat([fields[0], fields[0]], 1)
    together, apart = torch.cat([fields[1], fields[1]], 1), torch.cat(fields[2:], 1)
    assert _texture_gap(together, real, source) < 0.05
    assert _texture_gap(apart, real, source) > 0.3


def test_a_structure_of_a_hundred_thousand_voxels_is_measured_in_fp16() -> None:
    """Its brightness adds up to more than fp16 can hold."""
    torch.manual_seed(0)
    spec = GeneratorSpec("folded", ("BG", "WM"), ("t1n",), True, False, (2,), 2)
    judge = SegmentationDiscriminator(1, 1, (2,), 2)
    weights = {"adversarial": 0.3, "l1": 10.0, "texture": 40.0, "r1": 0.0, "r1_every": 16}
    game = SynthesisGame(FoldedGenerator(spec), judge, **weights)
    source = functional.one_hot(torch.ones(1, 48, 48, 48, dtype=torch.long), 2)
    source = source.permute(0, 4, 1, 2, 3).float()
    style = torch.tensor([0.7, -2.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    target = 0.7 + 0.1 * torch.randn(1, 1, 48, 48, 48)
    batch = ImageBatch(source, target, style, torch.ones(1, 3))
    noise = Noise(0, Share(0, 1, 1), torch.device("cpu"))
    with torch.autocast("cpu", torch.float16):
        loss, metrics = game.loss("generator", batch, noise)
    assert loss.isfinite()
    assert metrics["texture"].isfinite()


def test_texture_is_as_wide_as_the_structure() -> None:
    """A slope across the structure is seen by its sill, though neighbours hardly differ."""
    source = functional.one_hot(torch.ones(1, 48, 48, 48, dtype=torch.long), 2)
    source = source.permute(0, 4, 1, 2, 3).float()
    slope = torch.linspace(-1, 1, 48).view(1, 1, 48, 1, 1).expand(1, 1, 48, 48, 48)
    assert 0.4 < _texture_gap(0 * slope, slope, source) < 0.8
    assert _texture_gap(slope, slope.flip(2), source) < 1e-3


def test_texture_is_that_of_a_structure_not_of_its_border() -> None:
    structure = torch.zeros(1, 48, 48, 48, dtype=torch.long)
    structure[:, 24:] = 1
    source = functional.one_hot(structure + 1, 3).permute(0, 4, 1, 2, 3).float()
    one, two = (value * structure[:, None].float() for value in (1, 5))
    assert _texture_gap(one, two, source) == 0
