"""What a configuration needs of a machine: memory, disk. Estimates, and named so.

What autograd keeps is counted, not guessed: the game is played on two small grids, and since all
networks are convolutions, the rest is a straight line. What else a step allocates is a factor.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from medsynth.build.image import game, generator_spec, modalities
from medsynth.config import Config
from medsynth.core.cohort import Case, Cohort
from medsynth.core.volume import bounding_box
from medsynth.imaging.examples import LABEL_MAPS, MARGIN, read_case
from medsynth.imaging.game import ImageBatch, PairGame, SynthesisGame
from medsynth.imaging.intensity import brain_mask
from medsynth.training.game import Noise, Phase, Share
from medsynth.training.precision import Precision

BASE = 1.2e9
"""Python, torch, MONAI, loader threads and prepared cases, before a network does anything."""

WORKING, WORKING_MIXED = 1.6, 2.3
"""Peak bytes per byte that autograd keeps, gradients and temporaries included, in fp32 and in mixed
precision: measured on the CPU (docs/log.md), not on a GPU; the second on networks that copied to
fold."""

PREVIEW = 0.3e6
LINE = 400


@dataclass(frozen=True)
class Memory:
    """Bytes of training, estimated.

    Args:
        weights: Networks with gradients, Adam's moments and averages.
        kept: What autograd keeps in the largest phase.
        total: Everything, as it is measured from outside.
    """

    weights: float
    kept: float
    total: float


def training_memory(config: Config, precision: Precision) -> Memory:
    """Memory of one process that trains, with the whole batch on it.

    Args:
        config: Of an image GAN.
        precision: In which it is trained.
    """
    playing = game(config)
    weights = _bytes(playing.players, 4) + _bytes(playing.players["generator"], 1)
    unit = 2 ** max(len(config.generator.widths), len(config.discriminator.widths))
    if config.discriminator.kind == "patch":
        unit = max(unit, 8)  # its last layers need room
    edge = unit if config.discriminator.kind == "segmentation" else 2 * unit
    small, large = (edge, edge, 2 * unit), (edge, edge, 3 * unit)
    cases = config.train.batch // config.train.accumulate or 1
    steps = (math.prod(config.data.patch) * cases / math.prod(small) - 1) * 2  # of half of `small`
    kept = 0.0
    for phase in playing.phases:
        one, two = (_kept(playing, phase, config, grid, precision) for grid in (small, large))
        kept = max(kept, one + (two - one) * steps)
    working = WORKING_MIXED if precision.mixed else WORKING
    return Memory(weights, kept, BASE + weights + working * kept)


def checkpoint_bytes(config: Config) -> float:
    """Disk of a run without its prepared cases: `last.pt` (twice while it is replaced), the model,
    previews and metrics."""
    players = game(config).players
    averaged = _bytes(players["generator"], 1)
    last = _bytes(players, 3) + (averaged if config.train.ema_halflife_cases else 0)
    steps = config.train.steps
    lines = steps / config.train.log_every * LINE + steps / config.train.preview_every * PREVIEW
    return 2 * last + averaged + lines


def case_bytes(config: Config, cohort: Cohort) -> float:
    """Disk of one prepared case: that of the first one, whose brain is looked at.

    Raises:
        DataError: It is broken, or lacks what the configuration asks for.
    """
    case: Case = cohort.cases[0]
    volume, labels = read_case(case, modalities(config), config.data.labels, cohort.scheme)
    brain = config.data.labels == "brain" and labels is not None
    mask = labels.data > 0 if brain and labels is not None else brain_mask(volume.data)
    voxels = math.prod(part.stop - part.start for part in bounding_box(mask, MARGIN))
    return voxels * (2.0 * len(volume.channels) + 1)


def run_bytes(folder: Path) -> float:
    """What stands in a folder already."""
    return float(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()))


def _bytes(net: nn.Module, copies: int) -> float:
    return 4.0 * copies * sum(parameter.numel() for parameter in net.parameters())


def _kept(
    playing: SynthesisGame | PairGame,
    phase: Phase,
    config: Config,
    grid: tuple[int, int, int],
    precision: Precision,
) -> float:
    """Bytes that autograd keeps of one case for the way back, weights left out."""
    for name, player in playing.players.items():
        player.requires_grad_(name == phase.player)
    own = {p.untyped_storage().data_ptr() for p in playing.players.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    # on GPUs, too: sizes are the same, and fp16 is as wide as bf16, which CPUs can do
    wide = torch.bfloat16 if precision.mixed else torch.float32
    noise = Noise(0, Share(0, 1, 1), torch.device("cpu"))
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", wide, enabled=precision.mixed),
    ):
        loss, _ = playing.loss(phase.name, _batch(config, grid), noise)
    total = float(sum(kept.values()))
    del loss  # until here the graph kept what was counted
    return total


def _batch(config: Config, grid: tuple[int, int, int]) -> ImageBatch:
    spec = generator_spec(config)
    names = torch.randint(0, len(LABEL_MAPS[config.data.labels].labels), (1, *grid))
    onehot = nn.functional.one_hot(names, len(LABEL_MAPS[config.data.labels].labels))
    labels = onehot.permute(0, 4, 1, 2, 3).float()
    source = labels if spec.labels_in else torch.rand(1, len(spec.source), *grid)
    target = labels if spec.labels_out else torch.rand(1, len(spec.target), *grid)
    style = torch.rand(1, 2, len(spec.target), len(spec.source)) if spec.styled else None
    return ImageBatch(source, target, style, torch.ones(1, 3) if spec.styled else None)
