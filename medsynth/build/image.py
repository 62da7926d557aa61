"""Image GANs: configuration → networks, game, trainer, supply of patches, run."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from medsynth import box, show
from medsynth import config as configs
from medsynth.build.people import BEGINNING, TRAINED_ON, require_known, seen_before
from medsynth.build.run import Pace, Run
from medsynth.config import Config
from medsynth.core.labels import LabelScheme
from medsynth.core.paths import write_text
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap, Volume
from medsynth.core.words import plural
from medsynth.errors import ConfigError, DataError
from medsynth.generation.familiar import ALIKE, unlikeness
from medsynth.imaging import style, synthesizer
from medsynth.imaging.discriminator import PatchDiscriminator, SegmentationDiscriminator
from medsynth.imaging.examples import LABEL_MAPS, Example, prepare
from medsynth.imaging.game import ImageBatch, PairGame, SynthesisGame
from medsynth.imaging.generator import (
    FoldedGenerator,
    Generator,
    GeneratorSpec,
    make_generator,
)
from medsynth.imaging.intensity import UNITS
from medsynth.imaging.patches import Augmentation, Channels, Patches
from medsynth.imaging.style import StylePrior
from medsynth.io import cohort as cohorts
from medsynth.io.sidecar import read_json, write_json
from medsynth.training import checkpoint
from medsynth.training.game import Metrics
from medsynth.training.precision import choose_precision
from medsynth.training.trainer import Trainer
from medsynth.training.weights import load_model
from medsynth.training.world import World

LABELS = ("labels",)


def modalities(config: Config) -> tuple[str, ...]:
    """Scans that an experiment reads, sources first."""
    named = [*config.data.source, *config.data.target]
    return tuple(dict.fromkeys(m for m in named if m != "labels"))


def generator_spec(config: Config) -> GeneratorSpec:
    """Channels and widths of the generator."""
    of = LABEL_MAPS[config.data.labels].abbreviations
    source = of if config.data.source == LABELS else config.data.source
    target = of if config.data.target == LABELS else config.data.target
    return GeneratorSpec(
        config.generator.kind,
        source,
        target,
        config.data.source == LABELS,
        config.data.target == LABELS,
        config.generator.widths,
        config.generator.head,
    )


def target_scheme(config: Config) -> LabelScheme | None:
    """Scheme of the label maps that the generator makes; None when it makes scans."""
    return LABEL_MAPS[config.data.labels] if config.data.target == LABELS else None


def game(config: Config) -> SynthesisGame | PairGame:
    """Players and losses, initialised from the seed."""
    torch.manual_seed(config.seed)
    spec = generator_spec(config)
    generator, of = make_generator(spec), config.discriminator
    if of.kind == "segmentation" and isinstance(generator, FoldedGenerator):
        judge = SegmentationDiscriminator(
            len(spec.target), len(spec.source) - 1, of.widths, of.head
        )
        loss = config.loss
        return SynthesisGame(
            generator,
            judge,
            adversarial=loss.adversarial,
            l1=loss.distance,
            texture=loss.texture,
            r1=loss.r1,
            r1_every=loss.r1_every,
        )
    channels = len(spec.source) + len(spec.target)
    patch = PatchDiscriminator(channels, of.widths[0], len(of.widths))
    return PairGame(generator, patch, distance=config.loss.distance)


def trainer(config: Config, world: World) -> Trainer:
    """The trainer with its players on their device."""
    playing = game(config)
    playing.players.to(world.device).to(memory_format=torch.channels_last_3d)
    rates = {
        "generator": config.train.rate_generator,
        "discriminator": config.train.rate_discriminator,
    }
    optimizers = {
        name: torch.optim.Adam(player.parameters(), rates[name], config.train.betas, eps=1e-6)
        for name, player in playing.players.items()
    }
    return Trainer(
        playing,
        optimizers,
        world=world,
        seed=config.seed,
        batch=config.train.batch,
        precision=choose_precision(config.train.precision, world.device),
        accumulate=config.train.accumulate,
        clip_norm=config.train.clip,
        ema_halflife_cases=config.train.ema_halflife_cases or None,
    )


def patches(config: Config, examples: list[Example], prior: StylePrior | None) -> Patches:
    """The supply of training batches."""
    order = modalities(config)

    def indices(names: tuple[str, ...]) -> tuple[int, ...] | None:
        return None if names == LABELS else tuple(order.index(m) for m in names)

    channels = Channels(
        indices(config.data.source),
        indices(config.data.target),
        len(LABEL_MAPS[config.data.labels].labels),
    )
    how = config.augment
    return Patches(
        examples,
        channels,
        prior,
        patch=config.data.patch,
        batch=config.train.batch,
        foreground=config.data.foreground,
        seed=config.seed,
        augmentation=Augmentation(how.mirror, how.rotation_deg, how.scale, how.gamma, how.gain),
    )


def style_prior(config: Config, examples: list[Example]) -> StylePrior | None:
    """The Gaussian over the styles of the training cases; None when no style is needed."""
    if not generator_spec(config).styled:
        return None
    of = [modalities(config).index(m) for m in config.data.target]
    names = LABEL_MAPS[config.data.labels].abbreviations
    reference = names.index(style.REFERENCE)
    styles = [
        style.measure({k: v[:, of] for k, v in example.samples.items()}, len(names), len(of))
        for example in examples
    ]
    shadings = [example.shading[np.ix_(of, of)] for example in examples]
    known = [shading for shading in shadings if np.isfinite(shading).all()]
    prior = StylePrior.fit(np.stack(styles), reference)
    return replace(prior, shading=np.mean(known, 0) if known else None)


def discriminator(run: Path) -> tuple[torch.nn.Module, int, tuple[str, ...]]:
    """The discriminator of a run as its checkpoint holds it, the number of structures that it
    knows, and the scans that it judges."""
    text = (run / "config.yaml").read_text(encoding="utf-8")
    config = configs.parse(text, str(run / "config.yaml"))
    playing = trainer(config, World.from_environment())
    checkpoint.load(run / "last.pt", playing)
    judge = playing.game.players["discriminator"].eval().requires_grad_(False).cpu()
    return judge, len(LABEL_MAPS[config.data.labels].labels), config.data.target


def _without_folders(config: Config) -> str:
    """A configuration as it leaves this machine inside of a model: names, no folders."""
    data = replace(config.data, cache=None, cohort=Path(config.data.cohort).name)
    train = replace(config.train, init=config.train.init and Path(config.train.init).name)
    return configs.dump(replace(config, data=data, train=train))


def begin_with(playing: Trainer, config: Config) -> str:
    """Give the generator, and its average, the weights of `train.init`.

    Returns:
        Fingerprint of that model.

    Raises:
        ConfigError: Its generator is another one than the configuration describes.
        UsageError: There is no such model.
    """
    tensors, fingerprint = beginning(config)
    weights = {
        k.removeprefix("generator."): v.float()
        for k, v in tensors.items()
        if k.startswith("generator.")
    }
    for player in (playing.game.players, playing.ema):
        if "generator" in player:
            player["generator"].load_state_dict(weights)
    return fingerprint


def beginning(config: Config) -> tuple[dict[str, Tensor], str]:
    """The model that `train.init` names.

    Returns:
        Its tensors and its fingerprint.

    Raises:
        ConfigError: Its generator is another one than the configuration describes.
        UsageError: There is no such model.
    """
    file = box.model_file(str(config.train.init))
    tensors, metadata, fingerprint = synthesizer.read(file)
    there = GeneratorSpec.from_json(json.loads(metadata["generator"]))
    one, two = _as_settings(there), _as_settings(generator_spec(config))
    other = [key for key in one if one[key] not in (two[key], None)]
    if other:
        raise ConfigError(
            "train.init with the generator that the configuration describes",
            "; ".join(f"{key} {_yaml(one[key])}" for key in other),
            file,
            "Set these values in the configuration, or train without train.init.",
        )
    return tensors, fingerprint


def _as_settings(spec: GeneratorSpec) -> dict[str, Any]:
    """What a configuration says of such a generator; structures by the name of their scheme."""
    named = {of.abbreviations: name for name, of in LABEL_MAPS.items()}
    structures = spec.source if spec.labels_in else spec.target if spec.labels_out else None
    return {
        "generator.kind": spec.kind,
        "generator.widths": spec.widths,
        "generator.head": spec.head,
        "data.source": LABELS if spec.labels_in else spec.source,
        "data.target": LABELS if spec.labels_out else spec.target,
        "data.labels": structures and named.get(structures, structures),
    }


def _other_voxels(model: str, examples: Sequence[Example]) -> list[str]:
    """A warning when cases have other voxels than the model whose weights a run begins with."""
    known = synthesizer.load(model, device="cpu", precision="fp32").known_mm
    if known is None:
        return []
    edges = [tuple(e.spacing_mm) for e in examples]
    other = [e for e in edges if unlikeness(e, *known) > ALIKE]
    if not other:
        return []
    there, here = (" × ".join(f"{x:.3g}" for x in each) for each in (known[0], other[0]))
    up_to = "" if known[0] == known[1] else " to " + " × ".join(f"{x:.3g}" for x in known[1])
    return [
        f"{len(other)} of {len(edges)} cases have other voxels ({here} mm) than {model} was "
        f"trained on ({there}{up_to} mm): what it learnt of sharpness and texture is of its own; "
        "`medsynth resample` brings cases to its size"
    ]


def _yaml(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def export(run: Path, target: Path, **more: str) -> None:
    """The model of a run for other people: fp16, and nothing of this machine in its metadata.

    Args:
        run: The run.
        target: The `.safetensors` to write.
        more: Entries to add to the metadata.
    """
    file = box.model_file(run)
    metadata = load_model(file)[1]
    config = configs.parse(metadata["config"], str(file))
    told = replace(config, data=replace(config.data, cohort="cohort.json"))
    synthesizer.halve(file, target, config=_without_folders(told), **more)


class ImageRun(Run):
    """A run of an image GAN.

    Args:
        config: The configuration.
        folder: `RUN`.
        trainer: At the step to go on from.
        examples: Prepared cases.
        prior: Style prior, or None.
        warnings: What a person should know of the cases.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        trainer: Trainer,
        examples: list[Example],
        prior: StylePrior | None,
        warnings: Sequence[str] = (),
    ) -> None:
        how = config.train
        pace = Pace(how.steps, how.batch, how.log_every, how.save_every, how.preview_every)
        super().__init__(folder, trainer, pace, plural(len(examples), "case"), warnings)
        self.config, self.examples, self.prior = config, examples, prior
        self._supply = patches(config, examples, prior)

    @classmethod
    def prepare(
        cls,
        config: Config,
        folder: Path,
        world: World,
        *,
        resume: bool,
        examples: Callable[[Iterator[Any], int, bool], Iterator[Any]],
    ) -> "ImageRun":
        """Prepare the training cases and set everything up.

        Args:
            config: The configuration.
            folder: `RUN`; `config.yaml` is written there.
            world: Ranks and device.
            resume: Go on from `last.pt`.
            examples: Wraps the preparation of cases, to show progress.

        Raises:
            DataError: The cohort is empty, a case of it is broken, or it has people whom the run
                that goes on has not been trained on.
        """
        cohort = cohorts.read(Path(config.data.cohort)).part("training")
        if not len(cohort):
            raise DataError("training cases", "none", config.data.cohort)
        subjects = sorted({case.subject for case in cohort})
        if resume:
            require_known(folder, subjects, config.data.cohort)
        playing = trainer(config, world)  # first: what does not fit is told before cases are read
        begun: str | None = None
        seen: list[str] | None = None
        if resume:
            checkpoint.load(folder / "last.pt", playing)
        elif config.train.init:
            begun, seen = begin_with(playing, config), seen_before(config.train.init)
        cache = Path(config.data.cache) if config.data.cache else folder / "cache"
        if not world.leads:
            world.barrier()  # the leading rank prepares, the others find it done
        ready = []
        work = prepare(cohort, modalities(config), config.data.labels, cache, config.data.workers)
        for result in examples(work, len(cohort), world.leads):
            if not isinstance(result, Example):
                raise result[1]
            ready.append(result)
        if world.leads:
            world.barrier()
            if begun:
                beginning = {"init": config.train.init, "model": begun, "subjects": seen}
                write_json(folder / BEGINNING, beginning)
            elif not resume:  # of a run that was killed before it saved anything
                (folder / BEGINNING).unlink(missing_ok=True)
            if not resume:
                write_json(folder / TRAINED_ON, {"subjects": subjects})
            cohort_file = str(Path(config.data.cohort).resolve())
            told = replace(config, data=replace(config.data, cohort=cohort_file))
            write_text(folder / "config.yaml", configs.dump(told))
        warnings = (
            _other_voxels(config.train.init, ready)
            if config.train.init and not resume and world.leads
            else []
        )
        return cls(config, folder, playing, ready, style_prior(config, ready), warnings)

    def play(self) -> Iterator[Metrics]:
        """Train up to `train.steps`."""
        return self.trainer.fit(self._batches(), self.config.train.steps)

    def _batches(self) -> Iterator[ImageBatch]:
        world = self.trainer.world
        return self._supply.batches(
            self.trainer.step,
            rank=world.rank,
            ranks=world.size,
            accumulate=self.trainer.accumulate,
            device=world.device,
            workers=self.config.data.workers,
        )

    def save(self) -> None:
        """Write `last.pt` and `model.safetensors`."""
        checkpoint.save(self.folder / "last.pt", self.trainer)
        if self.trainer.world.leads:
            began = self.folder / BEGINNING
            synthesizer.save(
                self.folder / "model.safetensors",
                self._generator(),
                self.prior,
                target_scheme(self.config),
                _without_folders(self.config),
                [e.spacing_mm.tolist() for e in self.examples],
                **({"began_with": read_json(began)["model"]} if began.exists() else {}),
            )

    def preview(self, step: int) -> None:
        """Write `previews/step-….png`: a training case, real and generated, as it stands."""
        if not self.trainer.world.leads or not generator_spec(self.config).styled:
            return
        example = self.examples[0]
        labels = LabelMap(
            np.asarray(example.scheme.values, np.uint8)[example.labels],
            example.affine,
            example.scheme,
        )
        of = [modalities(self.config).index(m) for m in self.config.data.target]
        real = Volume(example.scans[of].astype(np.float32), example.affine, self.config.data.target)
        model = synthesizer.snapshot(self._generator(), self.prior, self.trainer.precision)
        made = model.generate(labels, Key(0, ("preview",)), synthesizer.own_style(real, labels))
        scaled = replace(made, data=made.data / UNITS)
        show.save(
            show.previews(labels, real, scaled),
            self.folder / "previews" / f"step-{step:06d}.png",
            dpi=80,
        )

    def _generator(self) -> Generator:
        """The averaged generator, or the generator itself without averaging."""
        return cast(Generator, self.trainer.averaged("generator"))
