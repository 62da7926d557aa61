"""Segmentors to judge by: trained on what a column of the table allows, always for the same number
of steps.

Two kinds: the image-to-image GAN in the direction MRI → labels, as in Shin et al. 2018, and
MONAI's `DynUNet`, the architecture of nnU-Net. Both play on the same trainer as everything else,
so the same seed gives the same segmentor. Knows prepared cases; no configuration, no tables.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from medsynth.core.labels import LabelScheme
from medsynth.core.random import Key
from medsynth.errors import UsageError
from medsynth.evaluation.scores import TOUCHING
from medsynth.imaging.discriminator import PatchDiscriminator
from medsynth.imaging.examples import Example
from medsynth.imaging.game import PairGame
from medsynth.imaging.generator import GeneratorSpec, make_generator
from medsynth.imaging.patches import Augmentation, Channels, Patches
from medsynth.training.game import Game, Metrics, Noise, Phase
from medsynth.training.precision import choose_precision
from medsynth.training.trainer import Trainer
from medsynth.training.world import World

KINDS = ("gan", "dynunet")
PLAIN = Augmentation(mirror=False, rotation_deg=0, scale=0, gamma=0, gain=0)
"""Random crops only."""

USUAL = Augmentation(
    mirror=True, rotation_deg=15, scale=0.15, gamma=0.4, gain=0.3, elastic=1.0,
    lift=0.1, shading=0.2, blur=1.2, noise=0.06,
)  # fmt: skip
"""Crops, mirroring, rotation, scaling, elastic deformation; contrast, brightness, shading, blur
and noise per scan: about what nnU-Net does."""

GAN_WIDTHS, GAN_HEAD, JUDGE_WIDTHS = (24, 48, 72, 96), 12, (24, 48)
UNET_WIDTHS = (16, 32, 64, 96)
WEIGHTS = {"BG": 0.5, "ET": 3.0}
"""How much structures count in the loss of a `dynunet`; those that are not named count 1. In tumour
schemes background is all of the healthy brain and enhancing tumour a hundredth of it: counted
alike, unlucky first weights left it unlearnt for hundreds of steps (docs/log.md). `predict` takes
them off the scores again."""

FALL = 0.9
"""Power of the polynomial by which the learning rate of a `dynunet` falls to 0 in each course,
nnU-Net's (Isensee et al., Nature Methods 2021)."""

CONTEXT = 7 / 6
"""About how many times the edge of its training patches a `dynunet` sees at inference.

Its instance norms see a window, not a brain: in one that a tumour fills, nothing stands out. For
seven real people, patches of 48 and windows of 56 voxels of 2 mm that gave the whole tumour 8 to
14 points of Dice; windows of 72 lost it again (docs/log.md).
"""

FLIPS = ((), (-3,))
"""Axes of scans along which they are flipped before they are read; scores are the mean of all
(test-time augmentation). Left and right are what training mirrors; nnU-Net mirrors all three axes,
in training, too. Networks that were trained without are read as they lie, the first of these.
"""

SPECK = 0.1
"""Pieces of tumour smaller than this share of the largest one are specks, and not named.

Vessels and choroid plexus are taken for small tumours. Dropping specks cost no region a point of
Dice on ten unseen phantoms, one of which has three tumours; lesion by lesion whole tumours of seven
real people gain 52 to 62 points (docs/log.md).
"""

SATELLITES = (
    f"Segmentors take pieces of tumour smaller than {SPECK:.0%} of the largest one that they find "
    "for specks and do not name them, whatever they were trained on. So satellites that small are "
    "missed, and a small tumour beside a large mistake; where there is no tumour, the largest "
    "mistake stays."
)
"""What a reader of their scores has to know."""

EM_STEPS = 50
"""Steps of expectation maximisation for what a tumour is made of."""

KEPT = 0.1
"""How much training's shares of a tumour count beside 1 for those of its own voxels, so that
nothing is estimated away altogether. Unseen phantoms gain by it (docs/log.md)."""

RARE = 1e-3
"""Least share of the tumour that training showed for a structure whose prior may change."""

MIRRORED = (
    "Segmentors that were trained with augmentation read each person's scans and their mirror "
    "image, left for right, and take the mean of both; others read the scans alone."
)
"""The same of `FLIPS`."""

OWN_PRIORS = (
    "A `dynunet` estimates from each person's scans what shares of the tumour are necrosis, oedema "
    "and enhancing, instead of taking those of its training (expectation maximisation, Saerens et "
    "al. 2002, an eleventh as training showed); what it finds hardly any of, it mostly does not "
    "name. So a trace of enhancement may be missed."
)
"""The same of `_with_own_priors`."""


@dataclass(frozen=True)
class Recipe:
    """How a segmentor is trained.

    Args:
        kind: `gan` or `dynunet`.
        augmented: Whether the usual augmentation is used.
        steps: Optimiser steps, the same for every column of a table.
        batch: Cases per step.
        patch: Voxels along i, j, k, multiples of 16.
        seed: Root of everything random.
        precision: `auto`, `bf16`, `fp16` or `fp32`.
        workers: Loader threads.
    """

    kind: str
    augmented: bool
    steps: int
    batch: int = 2
    patch: tuple[int, int, int] = (48, 48, 48)
    seed: int = 0
    precision: str = "auto"
    workers: int = 1


class SegmentationGame:
    """One player that names voxels: Dice and cross-entropy, no opponent. Its network counts the
    voxels of each structure that it is shown, `voxels_seen`.

    Args:
        network: Scans → scores, with a buffer `voxels_seen`, `(L,)`.
        scheme: What it names; structures count as `WEIGHTS` says.
    """

    phases = (Phase("segmentor", "generator"),)

    def __init__(self, network: nn.Module, scheme: LabelScheme) -> None:
        from monai.losses import DiceCELoss

        self.players = nn.ModuleDict({"generator": network})
        self._loss = DiceCELoss(softmax=True, weight=_weights(scheme))

    def loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Metrics]:
        """Loss of one micro-batch."""
        network = self.players["generator"]
        network.get_buffer("voxels_seen").add_(batch.target.sum((0, 2, 3, 4)))
        out = network(batch.source)
        loss = self._loss.to(out.device)(out.float(), batch.target.float())
        return loss, {"loss": loss.detach()}


def _weights(scheme: LabelScheme) -> Tensor:
    """How much each structure of a scheme counts, `(L,)`."""
    return torch.tensor([WEIGHTS.get(name, 1.0) for name in scheme.abbreviations])


def mixed(parts: Sequence[tuple[Sequence[Example], float]]) -> list[Example]:
    """Cases in given proportions: the scarcer kind is repeated, in turn, until the shares are met.

    Args:
        parts: Cases and their share of what training sees, for example
            `[(real, 0.5), (synthetic, 0.5)]`.

    Raises:
        UsageError: A part without cases.
    """
    if any(not cases for cases, _ in parts):
        raise UsageError("cases to train on", "none in one of the parts")
    total = max(len(cases) / share for cases, share in parts)
    repeated = [islice(cycle(cases), max(round(share * total), 1)) for cases, share in parts]
    return list(chain.from_iterable(repeated))


def train(
    recipe: Recipe,
    courses: Sequence[tuple[Sequence[Example], int]],
    scheme: LabelScheme,
    channels: int,
    shown: Callable[[Iterator[Any], int], Iterator[Any]] = lambda steps, total: steps,
) -> nn.Module:
    """Train a segmentor.

    Args:
        recipe: Kind, length, augmentation, seed.
        courses: Cases, and the step up to which they are trained on; the second course of two
            is fine-tuning. The last one ends at `recipe.steps`.
        scheme: What it names.
        channels: Scans that it sees.
        shown: Shows progress over steps.

    Returns:
        The network with averaged weights, in evaluation mode: scans `(B, C, I, J, K)` → scores
        `(B, L, I, J, K)`.
    """
    torch.manual_seed(Key(recipe.seed, ("segmentor", recipe.kind)).integer())
    world = World.from_environment()
    playing, rates = _game(recipe.kind, channels, scheme)
    playing.players.to(world.device).to(memory_format=torch.channels_last_3d)
    trainer = Trainer(
        playing,
        {n: torch.optim.Adam(p.parameters(), rates[n]) for n, p in playing.players.items()},
        world=world,
        seed=recipe.seed,
        batch=recipe.batch,
        precision=choose_precision(recipe.precision, world.device),
        clip_norm=10.0,
        ema_halflife_cases=max(recipe.steps * recipe.batch / 20, 1.0),
    )
    steps = chain.from_iterable(
        _course(trainer, recipe, cases, until, scheme, channels) for cases, until in courses
    )
    for _ in shown(steps, recipe.steps):
        pass
    return trainer.averaged("generator").eval().requires_grad_(False)


def _course(
    trainer: Trainer,
    recipe: Recipe,
    cases: Sequence[Example],
    until: int,
    scheme: LabelScheme,
    channels: int,
) -> Iterator[Metrics]:
    """Steps on one set of cases; in each course the rate of a `dynunet` falls anew."""
    supply = Patches(
        cases,
        Channels(tuple(range(channels)), None, len(scheme.labels)),
        None,
        patch=recipe.patch,
        batch=recipe.batch,
        foreground=0.4,
        augmentation=USUAL if recipe.augmented else PLAIN,
        seed=recipe.seed,
    )
    if recipe.kind == "dynunet":  # a network that is fine-tuned forgets what it began with
        trainer.game.players["generator"].get_buffer("voxels_seen").zero_()
    batches = supply.batches(
        trainer.step,
        rank=0,
        ranks=1,
        accumulate=1,
        device=trainer.world.device,
        workers=recipe.workers,
    )
    begun, work = trainer.step, trainer.fit(batches, until)
    for step in range(begun, until):
        if recipe.kind == "dynunet":
            trainer.scale_learning_rates(((until - step) / (until - begun)) ** FALL)
        yield next(work)


def blank(recipe: Recipe, scheme: LabelScheme, channels: int) -> nn.Module:
    """The network of a recipe before training, to load weights into."""
    return _game(recipe.kind, channels, scheme)[0].players["generator"]


def _game(kind: str, channels: int, scheme: LabelScheme) -> tuple[Game, Mapping[str, float]]:
    count = len(scheme.labels)
    if kind == "gan":
        names = tuple(f"scan{i}" for i in range(channels))
        spec = GeneratorSpec(
            "folded", names, scheme.abbreviations, False, True, GAN_WIDTHS, GAN_HEAD
        )
        judge = PatchDiscriminator(channels + count, JUDGE_WIDTHS[0], len(JUDGE_WIDTHS))
        rates = {"generator": 2e-3, "discriminator": 2e-4}
        return PairGame(make_generator(spec), judge, distance=10.0), rates
    if kind != "dynunet":
        raise UsageError(f"a segmentor ({', '.join(KINDS)})", repr(kind))
    from monai.networks.nets import DynUNet

    levels = len(UNET_WIDTHS)
    network = DynUNet(
        3,
        channels,
        count,
        kernel_size=[3] * levels,
        strides=[1, *[2] * (levels - 1)],
        upsample_kernel_size=[2] * (levels - 1),
        filters=UNET_WIDTHS,
        norm_name=("INSTANCE", {"affine": True}),
    )
    network.register_buffer("voxels_seen", torch.zeros(count))
    return SegmentationGame(network, scheme), {"generator": 2e-3}


@torch.inference_mode()
def predict(
    network: nn.Module, recipe: Recipe, scans: np.ndarray, scheme: LabelScheme
) -> np.ndarray:
    """Name the voxels of one case, in overlapping windows (`windows`).

    A network that was trained on mirrored cases sees the case and its mirror image (`FLIPS`), which
    takes twice as long.

    A `dynunet` has learnt the scores of a world in which structures are as much more frequent as
    they count in its loss; their logarithms are taken off, so that it names what is likeliest. What
    a tumour is made of it takes from this person, not from training (`_with_own_priors`).
    Specks of tumour (`SPECK`) are named as what else is likeliest there.

    Args:
        network: From `train`.
        recipe: How it was trained.
        scans: Normalised, `(C, I, J, K)`, RAS+.
        scheme: What it names.

    Returns:
        uint8 `(I, J, K)` in integers of the scheme; background where all scans are 0.

    Source:
        Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001; shares by Saerens et al.,
        Neural Computation 14(1), 2002; test-time mirroring, and specks after the largest component
        that nnU-Net keeps, Isensee et al., Nature Methods 2021 (arXiv 1904.08128).
    """
    from monai.inferers import sliding_window_inference

    first = next(network.parameters())
    device = first.device
    precision = choose_precision("auto", device)

    def forward(batch: Tensor) -> Tensor:
        noise = torch.zeros_like(batch[:, :1])
        with torch.autocast(device.type, precision.dtype, enabled=precision.mixed):
            out = network(batch, noise, None, None) if recipe.kind == "gan" else network(batch)
        return out.float()

    window = windows(recipe.kind, recipe.patch, scans.shape[1:])

    def scored(source: Tensor) -> Tensor:
        return sliding_window_inference(source, window, 2, forward, 0.25, "gaussian")[0].cpu()

    source = torch.from_numpy(np.ascontiguousarray(scans, np.float32))[None].to(device)
    flips = FLIPS if recipe.augmented else FLIPS[:1]
    scores = torch.stack([scored(source.flip(axes)).flip(axes) for axes in flips]).mean(0)
    brain = np.asarray((scans > 0).any(0))
    if recipe.kind == "dynunet":
        scores -= _weights(scheme).log().view(-1, 1, 1, 1)
        seen = network.get_buffer("voxels_seen").cpu()
        scores = _with_own_priors(scores, seen, torch.from_numpy(brain), scheme)
    index = scores.argmax(0).numpy() * brain
    speck = _specks(index, scheme)
    healthy = ~np.isin(scheme.abbreviations, scheme.members("WT"))
    index[speck] = np.flatnonzero(healthy)[scores.numpy()[:, speck][healthy].argmax(0)]
    return np.asarray(scheme.values, np.uint8)[index]


def _with_own_priors(
    scores: Tensor, voxels_seen: Tensor, where: Tensor, scheme: LabelScheme
) -> Tensor:
    """Scores `(L, I, J, K)` with class priors of this person's tumour instead of the training's.

    People's tumours differ most by what they are made of: a core that hardly enhances, none at all
    (*prior shift*). The priors of necrosis, oedema and enhancing tumour, given tumour, are those
    that make the scans likeliest, found by expectation maximisation over the voxels that are more
    likely tumour than not, with a Dirichlet prior of weight `KEPT` at what training showed. How
    likely a voxel is tumour at all stays as it is.

    Args:
        scores: Logarithms of probabilities, up to a constant of each voxel.
        voxels_seen: Of each structure, in training, `(L,)`; one that was hardly seen (`RARE`)
            takes no part.
        where: Voxels to estimate from, boolean `(I, J, K)`.
        scheme: Names of the structures.

    Source:
        Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori
        probabilities, Neural Computation 14(1), 2002.
    """
    tumour = torch.from_numpy(np.isin(scheme.abbreviations, scheme.members("WT")))
    tumour &= voxels_seen > RARE * voxels_seen[tumour].sum()
    if tumour.sum() < 2:
        return scores
    of, rest = scores[tumour], scores[~tumour]
    called = where & (of.logsumexp(0) > rest.logsumexp(0))
    if not called.any():
        return scores
    learnt = voxels_seen[tumour].double() / voxels_seen[tumour].sum()
    likelihood = of[:, called].double().softmax(0) / learnt[:, None]
    priors = learnt
    for _ in range(EM_STEPS):
        joint = likelihood * priors[:, None]
        priors = ((joint / joint.sum(0)).mean(1) + KEPT * learnt) / (1 + KEPT)
    own = of + (priors / learnt).clamp_min(1e-9).log().float().view(-1, 1, 1, 1)
    adjusted = scores.clone()
    adjusted[tumour] = own - own.logsumexp(0) + of.logsumexp(0)
    return adjusted


def _specks(index: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Where tumour is named in specks, boolean `(I, J, K)`, by indices of structures."""
    tumour = np.isin(scheme.abbreviations, scheme.members("WT"))
    # what lies around a cavity is one piece
    lesion = np.isin(scheme.abbreviations, scheme.members("lesion"))
    pieces, count = ndimage.label(lesion[index], TOUCHING)
    named = tumour[index]
    voxels = np.bincount(pieces[named], minlength=count + 1)
    return named & (voxels < SPECK * voxels.max())[pieces]


def windows(kind: str, patch: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Edges of the windows that a network sees at inference.

    Args:
        kind: `gan`, which has no norm over space and sees what it was trained on, or `dynunet`.
        patch: Edges of its training patches in voxels, along i, j, k.
        shape: Edges of the case in voxels, along i, j, k.

    Returns:
        Edges in voxels: for a `dynunet` `CONTEXT` times the patch, in multiples of 8; where the
        case is smaller no more than it has, for air in a window spoils the norms; never less than
        the patch.
    """
    if kind == "gan":
        return tuple(patch)
    step = 2 ** (len(UNET_WIDTHS) - 1)
    return tuple(
        max(n, min(round(CONTEXT * n / step), edge // step) * step)
        for n, edge in zip(patch, shape, strict=True)
    )


def habits(recipe: Recipe) -> list[Any]:
    """What decides a segmentor beside its recipe and may be tuned, JSON-able: kept results and kept
    networks of others must not be taken for it."""
    flips = [FLIPS] if recipe.augmented else []
    if recipe.kind == "gan":
        return [asdict(USUAL), GAN_WIDTHS, GAN_HEAD, "strided", JUDGE_WIDTHS, SPECK, *flips]
    return [
        asdict(USUAL), UNET_WIDTHS, WEIGHTS, "taken off", EM_STEPS, KEPT, RARE, CONTEXT, SPECK,
        FALL, *flips,
    ]  # fmt: skip
