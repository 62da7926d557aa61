"""Patches for training, drawn and augmented as a function of (seed, step, position).

Knows prepared cases and tensors; no files beyond the memory maps, no networks. Because every
patch has its own key, a resumed run, another number of ranks and another number of loader threads
see the same patches.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.imaging import style
from medsynth.imaging.examples import Example
from medsynth.imaging.game import ImageBatch
from medsynth.imaging.style import StylePrior
from medsynth.training.order import positions


@dataclass(frozen=True)
class Augmentation:
    """How much patches vary.

    Args:
        mirror: Swap left and right half of the time.
        rotation_deg: Largest rotation about each axis.
        scale: Largest relative change of size along each axis.
        gamma: Largest change of the log of the contrast exponent, per scan.
        gain: Largest change of the log of the brightness, per scan.
        elastic: Standard deviation in voxels of a smooth random displacement, a knot every
            quarter of the patch.
        lift: Largest brightness that is added to (or taken from) all of the brain, per scan.
        shading: Standard deviation of the log of a smooth field, three knots along each edge, per
            scan.
        blur: Largest standard deviation in voxels of a Gaussian filter, of half of the scans.
        noise: Largest standard deviation of Gaussian noise, per scan.
    """

    mirror: bool = True
    rotation_deg: float = 8.0
    scale: float = 0.08
    gamma: float = 0.15
    gain: float = 0.1
    elastic: float = 0.0
    lift: float = 0.0
    shading: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    @property
    def rescans(self) -> bool:
        """Whether scans are made to look as if another scanner had made them."""
        return max(self.lift, self.shading, self.blur, self.noise) > 0


@dataclass(frozen=True)
class Channels:
    """Which of a prepared case's arrays are source and target.

    Args:
        source: Indices of the scans that go in; None for the one-hot label map.
        target: Indices of the scans that come out; None for the one-hot label map.
        structures: Structures of the label map.
    """

    source: tuple[int, ...] | None
    target: tuple[int, ...] | None
    structures: int


class Patches:
    """An endless supply of batches.

    Args:
        examples: Prepared cases.
        channels: What is source and what is target.
        prior: Fills styles of cases that lack a structure; None when no style is needed.
        patch: Voxels along i, j, k; a multiple of the generator's stride.
        batch: Cases per step, all ranks together.
        foreground: Share of patches that are centred on tumour.
        augmentation: How much patches vary.
        seed: Seed of the run.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        channels: Channels,
        prior: StylePrior | None,
        *,
        patch: tuple[int, int, int],
        batch: int,
        foreground: float,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.examples, self.channels, self.prior = examples, channels, prior
        self.patch, self.batch, self.foreground = patch, batch, foreground
        self.augmentation, self.seed = augmentation, seed

    def batches(
        self,
        step: int,
        *,
        rank: int,
        ranks: int,
        accumulate: int,
        device: torch.device,
        workers: int,
    ) -> Iterator[ImageBatch]:
        """Micro-batches of one rank, from a step on, prepared ahead by threads.

        Args:
            step: First step; a resumed run passes the step that it resumes at.
            rank, ranks: Which share of each batch.
            accumulate: Micro-batches per step.
            device: Where the tensors go.
            workers: Loader threads.
        """
        share = self.batch // (ranks * accumulate)

        def load(step: int, micro: int) -> ImageBatch:
            cases = positions(step, self.batch, len(self.examples), self.seed)
            first = (micro * ranks + rank) * share
            shown = [self.examples[cases[at]] for at in range(first, first + share)]
            drawn = [
                self.draw(example, Key(self.seed, ("patch", step, first + at)))
                for at, example in enumerate(shown)
            ]
            # augmentation scales the anatomy; the scanner, its voxels and its blur stay
            return self._collate(drawn, np.stack([e.spacing_mm for e in shown]), device)

        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[ImageBatch]] = deque()
            try:
                for now in count(step):
                    for micro in range(accumulate):
                        waiting.append(pool.submit(load, now, micro))
                        if len(waiting) > 2 * workers:
                            yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def draw(self, example: Example, key: Key) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """One augmented patch.

        Returns:
            Scans float32 `(C, I, J, K)`, structure indices uint8 `(I, J, K)`, style or None.
        """
        rng, how = key.numpy(), self.augmentation
        angles = np.deg2rad(rng.uniform(-1, 1, 3) * how.rotation_deg)
        scales = 1 + rng.uniform(-1, 1, 3) * how.scale
        mirror = how.mirror and rng.random() < 0.5
        gamma = np.exp(rng.uniform(-1, 1, len(example.scans)) * how.gamma)
        gain = np.exp(rng.uniform(-1, 1, len(example.scans)) * how.gain)
        centre = self._centre(example, rng)
        bend = rng.standard_normal((3, 5, 5, 5)) * how.elastic if how.elastic > 0 else None
        turned = how.rotation_deg > 0 or how.scale > 0 or bend is not None
        margin = tuple(int(np.ceil(0.2 * n)) if turned else 0 for n in self.patch)
        size = tuple(n + 2 * m for n, m in zip(self.patch, margin, strict=True))
        scans = _window(example.scans, centre, size).astype(np.float32)
        labels = _window(example.labels, centre, size)
        if self.channels.target is None:  # nobody is asked to name what maps of real scans do not
            labels = example.scheme.without_fine(labels)  # integers of `LABEL_MAPS` are indices
        if turned:
            scans, labels = _turn(scans, labels, angles, scales, bend, self.patch)
        if mirror:
            scans, labels = scans[:, ::-1], labels[::-1]
        scale = gain[:, None, None, None]
        scans = np.clip(scans, 0, None) ** gamma[:, None, None, None] * scale
        if how.rescans:
            scans = _rescanned(scans, how, key.fold("scanner").numpy())
        if self.channels.source is None:
            scans = scans * (labels > 0)
        if self.prior is None or self.channels.target is None:
            return scans, labels, None
        of = list(self.channels.target)
        samples = {k: v[:, of] ** gamma[of] * gain[of] for k, v in example.samples.items()}
        table = style.measure(samples, self.channels.structures, len(of))
        return scans, labels, self.prior.fill(table)

    def _centre(self, example: Example, rng: np.random.Generator) -> np.ndarray:
        wants_tumour = rng.random() < self.foreground
        if wants_tumour and len(example.tumour):
            point = example.tumour[rng.integers(len(example.tumour))]
            return point + rng.integers(-4, 5, 3)
        shape, patch = np.array(example.labels.shape), np.array(self.patch)
        low, high = np.minimum(patch // 2, shape // 2), np.maximum(shape - patch // 2, shape // 2)
        return low + (rng.random(3) * (high - low + 1)).astype(int)

    def _collate(
        self,
        drawn: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None]],
        spacing_mm: np.ndarray,
        device: torch.device,
    ) -> ImageBatch:
        scans = torch.from_numpy(np.stack([np.ascontiguousarray(s) for s, _, _ in drawn]))
        labels = torch.from_numpy(np.stack([np.ascontiguousarray(x) for _, x, _ in drawn]))
        styles = [table for _, _, table in drawn if table is not None]
        onehot = (
            functional.one_hot(labels.long(), self.channels.structures)
            .permute(0, 4, 1, 2, 3)
            .float()
        )

        def pick(which: tuple[int, ...] | None) -> Tensor:
            return (onehot if which is None else scans[:, list(which)].float()).to(
                device, non_blocking=True
            )

        return ImageBatch(
            pick(self.channels.source),
            pick(self.channels.target),
            torch.from_numpy(np.stack(styles)).to(device) if styles else None,
            torch.from_numpy(spacing_mm).float().to(device) if styles else None,
        )


def _window(array: np.ndarray, centre: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """A box of that size around a voxel, zeros beyond the edges; a copy."""
    out = np.zeros((*array.shape[:-3], *size), array.dtype)
    take, put = [], []
    for n, middle, length in zip(array.shape[-3:], centre, size, strict=True):
        start = int(middle) - length // 2
        take.append(slice(max(start, 0), max(min(start + length, n), 0)))
        put.append(slice(take[-1].start - start, take[-1].stop - start))
    i, j, k = take
    a, b, c = put
    out[..., a, b, c] = array[..., i, j, k]
    return out


def _rescanned(scans: np.ndarray, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Scans `(C, I, J, K)` as another scanner might show them; background stays 0."""
    inside = (scans > 0).any(0)
    out = np.zeros_like(scans)
    knots = torch.from_numpy(rng.standard_normal((1, len(scans), 3, 3, 3)).astype(np.float32))
    fields = functional.interpolate(knots, inside.shape, mode="trilinear", align_corners=True)[
        0
    ].numpy()
    for scan, field, result in zip(scans, fields, out, strict=True):
        lift, sigma, noise = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0, 1)
        if sigma > 0 and how.blur > 0:
            scan = ndimage.gaussian_filter(scan, sigma * how.blur, truncate=2.5)
        scan = (scan + lift * how.lift) * np.exp(how.shading * field)
        scan += noise * how.noise * rng.standard_normal(scan.shape, np.float32)
        result[inside] = np.clip(scan[inside], 1e-3, None)
    return out


def _turn(
    scans: np.ndarray,
    labels: np.ndarray,
    angles: np.ndarray,
    scales: np.ndarray,
    bend: np.ndarray | None,
    patch: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate, scale about the centre and bend; scans linearly, labels by nearest neighbour."""
    cos, sin = np.cos(angles), np.sin(angles)
    about_i = np.array([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
    about_j = np.array([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
    about_k = np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    matrix = about_i @ about_j @ about_k @ np.diag(scales)
    size = np.array(labels.shape)
    # grid_sample wants x, y, z = k, j, i in [-1, 1] of the input (align_corners=False)
    unit = matrix * (np.array(patch)[None, :] / size[:, None])
    theta = torch.from_numpy(np.concatenate([unit[::-1, ::-1], np.zeros((3, 1))], 1).copy())
    grid = functional.affine_grid(theta[None].float(), [1, 1, *patch], align_corners=False)
    if bend is not None:
        shift = functional.interpolate(
            torch.from_numpy(bend)[None].float(), patch, mode="trilinear", align_corners=True
        )
        grid = grid + shift.permute(0, 2, 3, 4, 1).flip(-1) * (2 / torch.tensor(size[::-1].copy()))
    moved = functional.grid_sample(torch.from_numpy(scans)[None], grid, align_corners=False)
    named = functional.grid_sample(
        torch.from_numpy(labels)[None, None].float(), grid, mode="nearest", align_corners=False
    )
    return moved[0].numpy(), named[0, 0].to(torch.uint8).numpy()
