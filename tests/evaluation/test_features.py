"""Features: the default against values worked out by hand, and backbones with given weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from medsynth.errors import UsageError
from medsynth.evaluation import features


def test_a_flat_slice_has_no_texture() -> None:
    mask = np.ones((1, 32, 32), bool)
    found = dict(zip(features.NAMES, features.radiomics(0.5 * mask, mask)[0], strict=True))
    assert found["mean"] == found["p10"] == found["p90"] == 0.5
    for name in ("sd", "gradient", "laplacian", "entropy", "glcm_contrast"):
        assert found[name] == pytest.approx(0, abs=1e-8), name
    assert found["glcm_homogeneity"] == pytest.approx(1)


def test_a_ramp_has_the_slope_that_it_has() -> None:
    ramp = np.tile(np.linspace(0, 0.31, 32), (32, 1))[None]
    found = dict(
        zip(features.NAMES, features.radiomics(ramp, np.ones_like(ramp, bool))[0], strict=True)
    )
    assert found["gradient"] == pytest.approx(0.01)
    assert found["laplacian"] == pytest.approx(0, abs=1e-9)
    assert found["mean"] == pytest.approx(0.155)


def test_slices_of_a_stack_have_the_features_of_each_alone() -> None:
    slices = np.random.default_rng(0).random((4, 24, 30)) * np.arange(1, 5)[:, None, None] / 3
    masks = np.random.default_rng(1).random(slices.shape) < 0.8
    masks[2] = False  # a slice without brain
    alone = [features.radiomics(slices[[i]], masks[[i]])[0] for i in range(len(slices))]
    np.testing.assert_allclose(features.radiomics(slices, masks), alone, rtol=1e-12)
    assert not np.any(alone[2])


@pytest.mark.parametrize(("name", "size"), [("resnet18", 512), ("mobilenet_v3_small", 1024)])
def test_a_backbone_gives_what_goes_into_its_last_layer(
    name: str, size: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = models.get_model(name, weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    seen: list[torch.Tensor] = []
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
    linear.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    slices = np.random.default_rng(0).random((2, 224, 224), np.float32)
    found = features.backbone(name, tmp_path / "w.pth")(slices, slices > 0)
    assert found.shape == (2, size)
    mean, sd = (torch.tensor(v)[:, None, None] for v in (features.MEAN, features.SD))
    with torch.inference_mode():
        network((torch.from_numpy(slices)[:, None].expand(-1, 3, -1, -1) - mean) / sd)
    np.testing.assert_allclose(found, seen[0].numpy(), atol=1e-4)


def test_backbones_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="resnet50"):
        features.backbone("resnet5000", tmp_path / "w.pth")
    with pytest.raises(UsageError, match="weights of torchvision's resnet18"):
        features.backbone("resnet18", tmp_path / "none.pth")
    torch.save(models.resnet34(weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="Unexpected key"):
        features.backbone("resnet18", tmp_path / "w.pth")
