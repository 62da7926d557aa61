"""A trained generator, ready to use: label maps in, scans out, or scans in, label maps out.

`load(RUN)` is all that a script needs, or `load("phantom")` without a run: see `medsynth.box`.
Knows nothing of configurations: what it must know to build the generator stands in the model file.
"""

import copy
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medsynth.box import model_file
from medsynth.core.labels import FINE, LabelScheme, scheme
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap, Volume, affine_within, bounding_box, require_brain
from medsynth.errors import ModelError, UsageError
from medsynth.imaging import shading
from medsynth.imaging.examples import measure_style, structure_indices
from medsynth.imaging.generator import Generator, GeneratorSpec, make_generator
from medsynth.imaging.intensity import UNITS, brain_mask, normalise
from medsynth.imaging.style import MIN_VOXELS, REFERENCE, StylePrior
from medsynth.io import memory
from medsynth.training.memory import keep_freed_memory
from medsynth.training.precision import Precision, choose_precision
from medsynth.training.weights import load_model, mismatch, save_model

FORMAT = "medsynth-image/6"
BYTES_PER_VOXEL = 500
"""Peak memory of a forward pass per voxel of the grid, rounded up from 418 in fp32 with the box's
widths of format 5 (format 6 needs no more); only used to decide when to work in windows."""

STRETCH = 2.5
"""A structure's deviations from its mean are stretched or squeezed by this factor at most."""

OVERLAP = 32
"""Voxels by which windows overlap; their seams are blended over this width."""


@dataclass
class Room:
    """What generating has taught about the memory of a device.

    Args:
        window: Edge of the windows that fitted when more did not; None as long as all fitted.
        failed: Voxels of the smallest grid that did not fit: smaller ones are still done whole,
            whatever came before them.
    """

    window: int | None = None
    failed: int = 0


@dataclass(frozen=True, eq=False)
class Synthesizer:
    """A generator with what it needs around it.

    Args:
        generator: On its device, in its precision, in evaluation mode.
        prior: Where styles come from; None when the generator takes none.
        target_scheme: Scheme of the label maps that it makes; None when it makes scans.
        fingerprint: First 16 hexadecimal digits of the SHA-256 of the model file.
        window: Largest edge of the grid computed at once, a multiple of the stride; None lets
            the free memory decide.
        spacing_mm: Voxels that it was trained on, the median of each axis; None for models that do
            not say.
        range_mm: Smallest and largest of them, edges of a voxel sorted by length; None takes
            `spacing_mm` for both.
        room: Filled in when memory turns out to be short, so that the next case does not try in
            vain.
    """

    generator: Generator
    prior: StylePrior | None
    target_scheme: LabelScheme | None
    fingerprint: str
    window: int | None = None
    spacing_mm: tuple[float, ...] | None = None
    range_mm: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    room: Room = field(default_factory=Room)

    @property
    def known_mm(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Smallest and largest voxels that it was trained on; None when it does not say."""
        if self.spacing_mm is None:
            return None
        return self.range_mm or (self.spacing_mm, self.spacing_mm)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Structures that no training case had, as far as the styles tell."""
        if self.prior is None:
            return ()
        return tuple(self.spec.source[index] for index in self.prior.unseen)

    @property
    def spec(self) -> GeneratorSpec:
        """Channels and widths."""
        return self.generator.spec

    def require_generator(self) -> None:
        """Refuse a model that does not make scans from labels.

        Raises:
            ModelError: It makes something else.
        """
        if not self.spec.labels_in or self.spec.labels_out:
            raise ModelError(
                "a model that makes scans from labels",
                f"one that makes {', '.join(self.spec.target)}",
                None,
                "Give `phantom`, the one in the box, or a run of configs/image/brats.yaml.",
            )

    def require_segmentor(self) -> LabelScheme:
        """Refuse a model that does not make label maps from scans.

        Returns:
            The scheme of its label maps.

        Raises:
            ModelError: It makes something else.
        """
        if self.target_scheme is None or self.spec.labels_in:
            raise ModelError(
                "a model that makes label maps from scans",
                f"one that makes {', '.join(self.spec.target)}",
                None,
                "Give `tissue`, the one in the box, or a run of configs/image/tissue.yaml.",
            )
        return self.target_scheme

    def generate(self, labels: LabelMap, key: Key, style: np.ndarray | None = None) -> Volume:
        """Make scans for a label map.

        Args:
            labels: Tissue and tumour in the *brain* scheme, any grid.
            key: Style, noise and shading; the same key gives the same scan.
            style: `(2, T, S)` to meet instead of a drawn one; NaN entries are filled in.

        Returns:
            float32 `(T, I, J, K)` on the grid of `labels`: 1,000 is the 99.5th percentile of a
            typical brain, the background is exactly 0.

        Raises:
            ModelError: The model does not make scans from labels, or memory is too short even
                for the smallest windows.
            LabelError: The label map is empty or has no tissue.

        Warns:
            UserWarning: Memory was too short for the whole grid; said once.
        """
        self.require_generator()
        require_brain(labels)
        box = bounding_box(labels.data > 0)
        names = torch.from_numpy(structure_indices(labels)[box]).int()[None]
        if self.prior is None:
            out = self._run(names, key, None).float().cpu()
        else:
            drawn = self.prior.draw(key.fold("style")) if style is None else self.prior.fill(style)
            out = self._run(names, key, drawn, labels.spacing_mm).float().cpu()
            if self.prior.shading is not None:
                where = names[0] > 0, affine_within(labels.affine, box)
                out = out * shading.draw(key.fold("coil"), self.prior.shading, *where)
            out = _in_style(out, names[0], drawn)
        data = np.zeros((len(self.spec.target), *labels.shape), np.float32)
        data[(slice(None), *box)] = (out * UNITS).numpy()
        return Volume(data, labels.affine, self.spec.target, labels.source)

    def segment(self, scans: Volume, among: Sequence[str] | None = None) -> LabelMap:
        """Make a label map for scans.

        Args:
            scans: Skull-stripped; must have the model's source channels.
            among: Structures that a brain voxel may be; None allows all that the model was asked
                for in training, which is never background when it knows tissue, and never `FINE`.

        Returns:
            Label map on the same grid, background outside of the brain.

        Raises:
            ModelError: The model does not make label maps, or needs a channel that is missing.
        """
        of = self.require_segmentor()
        missing = [m for m in self.spec.source if m not in scans.channels]
        if missing:
            raise ModelError(
                f"scans {', '.join(self.spec.source)}",
                f"no {', '.join(missing)}",
                None,
                "Use a model trained for the scans that you have.",
            )
        picked = np.stack([scans.channel(m) for m in self.spec.source])
        mask = brain_mask(picked)
        box = bounding_box(mask)
        source = torch.from_numpy(normalise(picked, mask)[(slice(None), *box)])[None]
        out = self._run(source, Key(0, ("segment",)), None)
        data = np.zeros(scans.shape, np.uint8)
        if among is None:
            among = of.abbreviations[1:] if "GM" in of else of.abbreviations
            among = [name for name in among if name not in FINE]
        rows = [of.abbreviations.index(name) for name in among]
        values = np.array([of.value(name) for name in among], np.uint8)
        named = values[out[rows].argmax(0).cpu().numpy()]
        data[box] = named * mask[box]
        return LabelMap(data, scans.affine, of, scans.source)

    def _run(
        self,
        source: Tensor,
        key: Key,
        style: np.ndarray | None,
        spacing_mm: tuple[float, ...] | None = None,
    ) -> Tensor:
        """Scans `(1, S, I, J, K)` or structure indices `(1, I, J, K)` → `(T, I, J, K)`.

        Pads to the stride and crops again.
        """
        first = next(self.generator.parameters())
        device, dtype, stride = first.device, first.dtype, self.spec.stride
        shape = source.shape[-3:]
        padding = [n for size in reversed(shape) for n in (0, -size % stride)]
        source = nn.functional.pad(source, padding)  # with 0: background
        if self.spec.labels_in:
            onehot = torch.eye(len(self.spec.source), dtype=dtype)
            source = nn.functional.embedding(source, onehot).permute(0, 4, 1, 2, 3)
        noise = torch.from_numpy(
            key.fold("noise")
            .numpy()
            .standard_normal((self.spec.grains, *source.shape[2:]), np.float32)
        )[None]
        table = None if style is None else torch.from_numpy(style)[None].to(device, dtype)
        edges = None if spacing_mm is None else torch.tensor([spacing_mm], device=device)
        with torch.inference_mode():

            def forward(box: tuple[slice, ...]) -> Tensor:
                at = (slice(None), slice(None), *box)
                return self.generator(
                    source[at].to(device, dtype),
                    noise[at].to(device, dtype),
                    table,
                    edges,
                )[0]

            out = self._within_memory(forward, tuple(source.shape[2:]), device)
        return out[:, : shape[0], : shape[1], : shape[2]]

    def _within_memory(
        self,
        forward: Callable[[tuple[slice, ...]], Tensor],
        whole: tuple[int, ...],
        device: torch.device,
    ) -> Tensor:
        """The whole grid at once; in windows when that is asked for or memory is short, halved as
        long as they do not fit."""
        voxels, stride = int(np.prod(whole)), self.spec.stride
        known = self.room.window if voxels >= self.room.failed else None
        asked = [w for w in (self.window, known) if w]
        window = min(asked) if asked else _window_for(whole, device)
        edge = max(whole) if window is None else min(window, max(whole))
        least, short = OVERLAP + 2 * stride, False
        while True:
            try:
                if edge >= max(whole):
                    out = forward((slice(None),) * 3)
                else:
                    out = _blend(forward, len(self.spec.target), whole, edge, stride)
                break
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
            # outside of the handler, where nothing holds what the failed pass had allocated
            if device.type == "cuda":
                torch.cuda.empty_cache()
            if edge <= least:
                raise ModelError(
                    f"memory for {' × '.join([str(edge)] * 3)} voxels at once",
                    f"too little on {device}",
                    None,
                    "End other programs that use it, or generate on the CPU "
                    "(CUDA_VISIBLE_DEVICES= in front of the command).",
                )
            edge, short = max(edge // 2 // stride * stride, least), True
        if short:
            if self.room.window is None:
                warnings.warn(
                    f"{device} has too little memory for {' × '.join(map(str, whole))} voxels at "
                    f"once: worked in windows of {edge}, blended where they overlap; slower, and "
                    "the last digits may differ from a machine with more",
                    UserWarning,
                    stacklevel=4,
                )
            self.room.window = edge
            self.room.failed = min(voxels, self.room.failed or voxels)
        return out


def _in_style(out: Tensor, names: Tensor, style: np.ndarray) -> Tensor:
    """Scans whose structures have the means and spreads that were asked for.

    A network that cannot know every voxel makes structures too alike and too even, thin ones above
    all. Each is shifted and stretched, by `STRETCH` at most, to its row of the style; one of fewer
    than `MIN_VOXELS` and background stay as they are. What would be negative is 0, so a dark
    structure with a wide spread comes out a little brighter.

    Args:
        out: `(T, I, J, K)`.
        names: Structure indices, `(I, J, K)`.
        style: `(2, T, S)` without NaN.

    Source:
        Adaptive instance normalisation, structure by structure: Huang and Belongie, ICCV 2017
        (arXiv 1703.06868).
    """
    flat, index = out.flatten(1), names.flatten().long()
    count = style.shape[-1]
    voxels = torch.bincount(index, minlength=count)

    def means(values: Tensor) -> Tensor:
        rows = [torch.bincount(index, row.double(), count) for row in values]
        return torch.stack(rows) / voxels.clamp_min(1)

    centre = means(flat)
    spread = (means(flat.square()) - centre.square()).clamp_min(0).sqrt()
    asked, wide = torch.from_numpy(style).double()
    stretch = (wide.exp() / spread.clamp_min(1e-6)).clamp(1 / STRETCH, STRETCH)
    few = voxels < MIN_VOXELS
    few[0] = True
    stretch[:, few], asked[:, few] = 1, centre[:, few]
    shift = asked - stretch * centre
    stretch, shift = (table.float().index_select(1, index) for table in (stretch, shift))
    return torch.addcmul(shift, flat, stretch).relu().view_as(out)


def _out_of_memory(error: RuntimeError) -> bool:
    """GPUs have an error of their own for it, CPUs only words."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _window_for(shape: tuple[int, ...], device: torch.device) -> int | None:
    """Edge of a window that fits the free memory, or None when the whole grid does."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + kept
    else:
        free = int(min(memory.free(), 2.0**60))
    voxels = 0.6 * free / BYTES_PER_VOXEL
    if np.prod(shape) <= voxels:
        return None
    return max(int(voxels ** (1 / 3)) // 32 * 32, 96)


def _blend(
    forward: Callable[[tuple[slice, ...]], Tensor],
    channels: int,
    shape: tuple[int, ...],
    window: int,
    stride: int,
) -> Tensor:
    """Overlapping windows, blended linearly over their overlap."""
    starts = [_starts(n, window, stride) for n in shape]
    total = torch.zeros(channels, *shape)
    weight = torch.zeros(shape)
    for i in starts[0]:
        for j in starts[1]:
            for k in starts[2]:
                box = tuple(
                    slice(a, min(a + window, n)) for a, n in zip((i, j, k), shape, strict=True)
                )
                part = forward(box).float().cpu()
                ramp = _ramp(box, shape)
                total[(slice(None), *box)] += part * ramp
                weight[box] += ramp
    return total / weight


def _starts(length: int, window: int, stride: int) -> list[int]:
    if length <= window:
        return [0]
    step = (window - OVERLAP) // stride * stride
    starts = list(range(0, length - window, step))
    return [*starts, length - window]


def _ramp(box: tuple[slice, ...], shape: tuple[int, ...]) -> Tensor:
    """Weight 1 inside, falling towards edges that another window overlaps."""
    edges = []
    for part, length in zip(box, shape, strict=True):
        at = torch.arange(part.stop - part.start) + 0.5
        low = at / OVERLAP if part.start > 0 else torch.ones_like(at)
        high = at.flip(0) / OVERLAP if part.stop < length else torch.ones_like(at)
        edges.append(torch.minimum(low, high).clamp(1e-3, 1))
    return edges[0][:, None, None] * edges[1][:, None] * edges[2]


def own_style(scans: Volume, labels: LabelMap) -> np.ndarray:
    """The style `(2, T, S)` of scans on the common scale, to generate in the same contrast."""
    return measure_style(scans.data, labels, Key(0, ("style",)))


def snapshot(generator: Generator, prior: StylePrior | None, precision: Precision) -> Synthesizer:
    """A copy of a generator that is still in training, ready to use."""
    twin = copy.deepcopy(generator).eval().requires_grad_(False).to(precision.dtype)
    return Synthesizer(twin, prior, None, "in training")


def save(
    path: Path,
    generator: Generator,
    prior: StylePrior | None,
    target_scheme: LabelScheme | None,
    config: str,
    spacings_mm: Sequence[Sequence[float]] | None = None,
    **more: str,
) -> None:
    """Write a model: weights, style prior, and everything needed to use them, in one file.

    Args:
        path: `model.safetensors`.
        generator: Its weights are stored in fp32.
        prior: Style prior or None.
        target_scheme: Scheme of the label maps that it makes, or None.
        config: The resolved configuration, YAML.
        spacings_mm: Voxels of each training case.
        more: Goes into the metadata, too.
    """
    tensors = {f"generator.{k}": v.float() for k, v in generator.state_dict().items()}
    if prior is not None:
        tensors["prior.mean"] = torch.from_numpy(prior.mean)
        tensors["prior.covariance"] = torch.from_numpy(prior.covariance)
        if prior.shading is not None:
            tensors["prior.shading"] = torch.from_numpy(prior.shading)
    save_model(
        path,
        tensors,
        {
            "format": FORMAT,
            "generator": json.dumps(asdict(generator.spec)),
            "style_shape": json.dumps(prior.shape if prior else None),
            "target_scheme": target_scheme.name if target_scheme else "",
            "config": config,
            **_voxels(spacings_mm),
            **more,
        },
    )


def _voxels(spacings_mm: Sequence[Sequence[float]] | None) -> dict[str, str]:
    """Median and range of training cases' voxels, as metadata."""
    if not spacings_mm:
        return {"spacing_mm": "null", "range_mm": "null"}
    every = np.asarray(spacings_mm, float)
    edges = np.sort(every, 1)
    return {
        "spacing_mm": json.dumps(np.median(every, 0).round(3).tolist()),
        "range_mm": json.dumps([edges.min(0).round(3).tolist(), edges.max(0).round(3).tolist()]),
    }


def halve(source: Path, target: Path, **more: str) -> None:
    """Write a model again with its weights in fp16, in half the bytes; `load` gives fp32 back.

    Args:
        source: `model.safetensors`.
        target: Where the copy goes.
        more: Entries of the metadata to replace or to add.

    Raises:
        ModelError: The file is no image model, or a weight is beyond fp16.
    """
    tensors, metadata, _ = read(source)
    for name, weights in tensors.items():
        if name.startswith("generator."):
            tensors[name] = weights.half()
            if not torch.isfinite(tensors[name]).all():
                raise ModelError("weights that fp16 can hold", f"larger ones in {name}", source)
    save_model(target, tensors, {**metadata, **more})


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Tensors, metadata and fingerprint of a model file.

    Raises:
        ModelError: It is no image model of this version.
    """
    tensors, metadata, fingerprint = load_model(file)
    found = metadata.get("format")
    if found != FORMAT:
        of_ours = str(found).startswith(FORMAT.partition("/")[0])
        raise ModelError(
            f"a model of format {FORMAT!r}",
            repr(found),
            file,
            "The file was made by another version: train again." if of_ours else "",
        )
    return tensors, metadata, fingerprint


def load(
    path: Path | str,
    *,
    device: str | None = None,
    precision: str = "auto",
    window: int | None = None,
) -> Synthesizer:
    """A model from a run or from the box, ready to use.

    Args:
        path: A run folder, a `model.safetensors`, or a name in `medsynth.box.NAMES`; what stands
            on disk under that name comes first.
        device: For example `cuda:1`; None takes a GPU when there is one.
        precision: `auto`, `bf16`, `fp16` or `fp32`.
        window: See `Synthesizer`.

    Raises:
        UsageError: No model there, or windows that do not fit its levels.
        ModelError: The file is not an image model of this version.

    Warns:
        UserWarning: A precision was asked for in which this CPU is likely slow.
    """
    file = model_file(path)
    tensors, metadata, fingerprint = read(file)
    spec = GeneratorSpec.from_json(json.loads(metadata["generator"]))
    if window is not None and (window % spec.stride or window < OVERLAP + spec.stride):
        least = -(-OVERLAP // spec.stride) * spec.stride + spec.stride
        raise UsageError(f"windows in multiples of {spec.stride} from {least} on", str(window))
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if where.type == "cpu":
        keep_freed_memory()
    generator = make_generator(spec)
    weights = {
        k.removeprefix("generator."): v for k, v in tensors.items() if k.startswith("generator.")
    }
    try:
        generator.load_state_dict(weights)  # into fp32, whatever they are stored in
    except RuntimeError as error:
        raise ModelError(
            "the weights of that generator",
            mismatch(error),
            file,
            "The file was made by another version: train again.",
        ) from error
    chosen = choose_precision(precision, where)
    if chosen.slow:
        warnings.warn(f"{chosen.name}: {chosen.reason}", stacklevel=2)
    generator = generator.eval().requires_grad_(False).to(where, chosen.dtype)
    generator = generator.to(memory_format=torch.channels_last_3d)
    shape = json.loads(metadata["style_shape"])
    prior = (
        None
        if shape is None
        else StylePrior(
            tensors["prior.mean"].numpy(),
            tensors["prior.covariance"].numpy(),
            tuple(shape),
            spec.source.index(REFERENCE),
            tensors["prior.shading"].numpy() if "prior.shading" in tensors else None,
        )
    )
    name = metadata["target_scheme"]
    spacing = json.loads(metadata.get("spacing_mm", "null"))
    edges = json.loads(metadata.get("range_mm", "null"))
    return Synthesizer(
        generator,
        prior,
        scheme(name) if name else None,
        fingerprint,
        window,
        tuple(spacing) if spacing else None,
        (tuple(edges[0]), tuple(edges[1])) if edges else None,
    )
