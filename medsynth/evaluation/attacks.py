"""Who was trained on? Attacks on a generator and on its discriminator.

Each gives a score per case, high for a suspected member. Both need the case's scans and label map,
so they are attacks by somebody who suspects a particular patient: the worst case.

Source:
    Hayes et al., *LOGAN* (arXiv 1705.07663) for the discriminator; Hilprecht et al., PoPETs
    2019, and Chen et al., *GAN-Leaks* (arXiv 1909.03935), for reconstruction by the generator.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.core.volume import Volume
from medsynth.errors import DataError
from medsynth.evaluation import heads
from medsynth.evaluation.heads import Head
from medsynth.evaluation.traces import Attack
from medsynth.imaging.discriminator import SegmentationDiscriminator
from medsynth.imaging.examples import structure_indices
from medsynth.imaging.game import realness
from medsynth.imaging.intensity import UNITS
from medsynth.imaging.synthesizer import Synthesizer, own_style

FINE_VOXELS = 1.0
"""Texture is what a Gaussian blur of this many voxels takes away."""


def on_generator(model: Synthesizer) -> Attack:
    """Two attacks: does the generator meet the very voxels of a case, and its very texture?

    The label map of the case is turned into scans in the case's own style; a generator that has
    learnt a case by heart comes nearer to it than one that has learnt how brains look.

    Args:
        model: The generator, as it is released.
    """

    def attack(head: Head) -> Mapping[str, float]:
        labels = head.labels
        if labels is None or not heads.tissue_scheme(labels):
            raise DataError(
                "tissue labels to attack the generator with",
                "none",
                head.case.name,
                "Make them with `medsynth tissue`, or leave out --model.",
            )
        scans = _picked(head, model.spec.target)
        style = own_style(scans, labels)
        made = model.generate(labels, Key(0, ("attack", head.case.name)), style).data / UNITS
        inside = head.mask
        error = np.abs(made - scans.data)[:, inside].mean()
        alike = [
            np.corrcoef(_texture(a)[inside], _texture(b)[inside])[0, 1]
            for a, b in zip(made, scans.data, strict=True)
        ]
        return {
            "generator: reconstruction": -float(error),
            "generator: texture": float(np.nanmean(alike)),
        }

    return attack


def _picked(head: Head, channels: tuple[str, ...]) -> Volume:
    """The scans that a model makes, in its order.

    Raises:
        DataError: The case does not have one of them.
    """
    missing = [channel for channel in channels if channel not in head.scans.channels]
    if missing:
        raise DataError(
            f"scans {', '.join(channels)}, as the model makes them",
            f"no {', '.join(missing)}",
            head.case.name,
            "Leave out --model, or complete the cohorts.",
        )
    data = np.stack([head.scans.channel(channel) for channel in channels])
    return replace(head.scans, data=data, channels=channels)


def _texture(scan: np.ndarray) -> np.ndarray:
    return scan - ndimage.gaussian_filter(scan, FINE_VOXELS)


def on_discriminator(judge: torch.nn.Module, structures: int, channels: tuple[str, ...]) -> Attack:
    """Does the discriminator call the case more real than others?

    Args:
        judge: From the run's checkpoint, in evaluation mode.
        structures: Channels of the one-hot label map, for a discriminator that judges pairs.
        channels: Scans that it judges, in order.
    """

    @torch.inference_mode()
    def attack(head: Head) -> Mapping[str, float]:
        scans = torch.from_numpy(_picked(head, channels).data)[None]
        padding = [n for size in reversed(scans.shape[2:]) for n in (0, -size % 32)]
        scans = functional.pad(scans, padding)
        if isinstance(judge, SegmentationDiscriminator):
            inside = functional.pad(torch.from_numpy(head.mask)[None], padding)
            score = realness(judge(scans))[inside].mean()
        else:
            if head.labels is None:
                raise DataError("a label map", "none", head.case.name)
            names = functional.pad(torch.from_numpy(structure_indices(head.labels))[None], padding)
            onehot = functional.one_hot(names.long(), structures).permute(0, 4, 1, 2, 3).float()
            score = judge(torch.cat([onehot, scans], 1)).float().mean()
        return {"discriminator: realness": float(score)}

    return attack


def together(*attacks: Attack) -> Attack:
    """Several attacks at once."""

    def attack(head: Head) -> Mapping[str, float]:
        return {name: score for one in attacks for name, score in one(head).items()}

    return attack
