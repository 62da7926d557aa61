"""Training data: prepared once, drawn as a function of the key, turned together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap
from medsynth.errors import DataError, GeometryError
from medsynth.generation.cases import list_cases
from medsynth.imaging.examples import Example, prepare, read_case
from medsynth.imaging.patches import Augmentation, Channels, Patches, _turn
from medsynth.imaging.style import StylePrior, measure
from medsynth.io.nifti import write_labels
from medsynth.training.order import positions


@pytest.fixture(scope="module")
def examples(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    cohort = list_cases(phantoms)
    folder = tmp_path_factory.mktemp("cache")
    made = list(prepare(cohort, ("t1n", "t1c", "t2w", "t2f"), "brain", folder))
    stamp = {p: p.stat().st_mtime_ns for p in folder.rglob("*.npy")}
    again = list(prepare(cohort, ("t1n", "t1c", "t2w", "t2f"), "brain", folder))
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.npy")} == stamp
    assert [e.name for e in again if isinstance(e, Example)] == [c.name for c in cohort]
    return [e for e in made if isinstance(e, Example)]


def _patches(examples: list[Example], how: Augmentation, batch: int = 4) -> Patches:
    prior = StylePrior.fit(np.stack([measure(e.samples, 11, 4) for e in examples]), 3)
    return Patches(
        examples,
        Channels(None, (0, 1, 2, 3), 11),
        prior,
        patch=(32, 32, 32),
        batch=batch,
        foreground=0.5,
        augmentation=how,
        seed=0,
    )


def test_batches_are_the_same_however_they_are_made(examples: list[Example]) -> None:
    supply = _patches(examples, Augmentation())
    cpu = torch.device("cpu")

    def take(step: int, rank: int, ranks: int, workers: int, count: int) -> list:
        stream = supply.batches(
            step, rank=rank, ranks=ranks, accumulate=1, device=cpu, workers=workers
        )
        return [next(stream) for _ in range(count)]

    alone = take(0, 0, 1, 1, 3)
    for other in (take(0, 0, 1, 3, 3),):
        assert all(
            torch.equal(a.target, b.target) and torch.equal(a.source, b.source)
            for a, b in zip(alone, other, strict=True)
        )
    assert torch.equal(take(2, 0, 1, 2, 1)[0].target, alone[2].target)  # resumed at step 2
    halves = [take(0, rank, 2, 1, 1)[0] for rank in range(2)]
    assert torch.equal(torch.cat([h.target for h in halves]), alone[0].target)
    assert torch.equal(torch.cat([h.style for h in halves]), alone[0].style)


def test_each_patch_is_told_the_voxels_of_its_case(examples: list[Example]) -> None:
    cases = [replace(example) for example in examples]  # with affines of their own
    for index, case in enumerate(cases):
        case.__dict__["affine"] = np.diag([1 + index, 2, 3, 1])
    supply = _patches(cases, Augmentation(), batch=3)
    stream = supply.batches(4, rank=0, ranks=1, accumulate=1, device=torch.device("cpu"), workers=1)
    wanted = [[1 + case, 2, 3] for case in positions(4, 3, len(cases), supply.seed)]
    assert next(stream).spacing_mm.tolist() == wanted


def test_patches_are_one_hot_masked_and_often_tumour(examples: list[Example]) -> None:
    supply = _patches(examples, Augmentation())
    seen = [supply.draw(examples[0], Key(1, (i,))) for i in range(12)]
    for scans, labels, style in seen:
        assert scans.shape == (4, 32, 32, 32)
        assert not scans[:, labels == 0].any()
        assert style is not None
        assert np.isfinite(style).all()
    assert sum(BRAIN.mask(labels, "WT").any() for _, labels, _ in seen) >= 5


def test_who_names_voxels_is_not_asked_for_vessels(examples: list[Example]) -> None:
    painting, naming = (_patches(examples, Augmentation()) for _ in range(2))
    naming.channels = Channels((0, 1, 2, 3), None, 11)
    for index in range(6):
        every, labels = (s.draw(examples[0], Key(1, (index,)))[1] for s in (painting, naming))
        assert BRAIN.mask(every, "fine").any()
        assert (labels == BRAIN.without_fine(every)).all()


def test_scans_and_labels_turn_together(examples: list[Example]) -> None:
    """A scan that is the label map itself stays so, whatever the turn."""
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[10:30, 12:20, 15:25] = 1
    scans = labels[None].astype(np.float32)
    moved, named = _turn(
        scans, labels, np.deg2rad([20.0, -15, 30]), np.array([1.1, 0.9, 1.0]), None, (32, 32, 32)
    )
    inside = moved[0] > 0.99
    outside = moved[0] < 0.01
    assert inside.sum() > 500
    assert (named[inside] == 1).all()
    assert (named[outside] == 0).all()


def test_scans_and_labels_bend_together() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[10:30, 12:28, 10:30] = 1
    bend = 3 * np.random.default_rng(0).standard_normal((3, 4, 4, 4))
    scans = labels[None].astype(np.float32)
    moved, named = _turn(scans, labels, np.zeros(3), np.ones(3), bend, (40, 40, 40))
    assert (named != labels).mean() > 0.02
    assert (named[moved[0] > 0.99] == 1).all()
    assert (named[moved[0] < 0.01] == 0).all()
    still, _ = _turn(scans, labels, np.zeros(3), np.ones(3), 0 * bend, (40, 40, 40))
    np.testing.assert_allclose(still, scans, atol=1e-4)


def test_a_quarter_turn_is_exact() -> None:
    labels = np.arange(16**3, dtype=np.int64).reshape(16, 16, 16) % 7
    labels = labels.astype(np.uint8)
    _, named = _turn(
        labels[None].astype(np.float32),
        labels,
        np.array([0, 0, np.pi / 2]),
        np.ones(3),
        None,
        (16, 16, 16),
    )
    assert any((named == np.rot90(labels, turn, (0, 1))).all() for turn in (1, 3))


def test_without_augmentation_the_patch_is_the_scan(examples: list[Example]) -> None:
    supply = _patches(examples, Augmentation(False, 0, 0, 0, 0))
    scans, labels, style = supply.draw(examples[0], Key(0))
    whole = np.asarray(examples[0].scans, np.float32)
    assert {round(float(v), 3) for v in scans[0][labels > 0][:200]} <= {
        round(float(v), 3) for v in np.unique(whole[0])
    }
    np.testing.assert_allclose(style[0, :, 3], examples[0].samples[3].mean(0), atol=1e-3)


def test_what_a_case_lacks_is_named(phantoms: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    case = list_cases(phantoms).cases[0]
    with pytest.raises(DataError, match="medsynth tissue"):
        read_case(replace(case, brain=None), ("t1n",), "brain", "brats2023")
    with pytest.raises(DataError, match="no t9"):
        read_case(case, ("t1n", "t9"), "brain", "brats2023")
    small = LabelMap(np.ones((9, 9, 9), np.uint8), np.eye(4), BRAIN)
    write_labels(tmp_path / "x.nii.gz", small)
    with pytest.raises(GeometryError, match="one grid"):
        read_case(replace(case, brain=tmp_path / "x.nii.gz"), ("t1n",), "brain", "brats2023")


def test_another_scanner_changes_scans_inside_the_brain_only(examples: list[Example]) -> None:
    plain = Augmentation(mirror=False, rotation_deg=0, scale=0, gamma=0, gain=0)
    rescanned = replace(plain, lift=0.1, shading=0.2, blur=1.2, noise=0.06)
    key = Key(3)
    before, labels, _ = _patches(examples, plain).draw(examples[0], key)
    after, same, _ = _patches(examples, rescanned).draw(examples[0], key)
    again, _, _ = _patches(examples, rescanned).draw(examples[0], key)
    inside = (before > 0).any(0)
    assert np.array_equal(labels, same)
    assert np.array_equal(after, again)
    assert not after[:, ~inside].any()
    assert (after[:, inside] > 0).all()
    assert (np.abs(after - before)[:, inside].mean(1) > 0.01).all()
    quiet = replace(plain, noise=1e-9)
    nearly, _, _ = _patches(examples, quiet).draw(examples[0], key)
    np.testing.assert_allclose(nearly[:, inside], before[:, inside].clip(1e-3), atol=1e-5)
