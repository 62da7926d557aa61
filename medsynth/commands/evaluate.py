"""`medsynth evaluate`: fidelity, consistency and privacy; utility and tables have their modules.

All write into one report, each its own section.
"""

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console, given, table, utility
from medsynth.commands.utility import publish
from medsynth.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    import torch

    from medsynth.core.cohort import Cohort
    from medsynth.core.labels import LabelScheme
    from medsynth.evaluation.records import Section
    from medsynth.evaluation.report import Picture
    from medsynth.evaluation.segmentors import Recipe

    Measured = tuple[Section, list[Picture]]

LEAST_APART = 4
"""So many training people without synthetic descendants are enough to train a segmentor on."""

SHOWN = 3
"""Real and synthetic cases, and nearest neighbours, that the report pictures."""


@dataclass(frozen=True)
class EvaluateFidelity:
    """Compare synthetic with real scans, beside the floor of real against real.

    Args:
        real: Real cohort.
        synthetic: Generated cohort.
        out: The report.
        backbone: A torchvision model instead of the radiomics-like features; needs `weights`.
        weights: Its weights; nothing is downloaded.
        seed: Root of splits and noise.
        degraded: Real cases that are made worse on purpose.
        json: Print the records as JSON.
    """

    real: Path
    synthetic: Path
    out: Path
    _: KW_ONLY
    backbone: str | None = None
    weights: Path | None = None
    seed: int = 0
    degraded: int = 40
    json: bool = False

    def run(self) -> int:
        """Measure and write the section."""
        publish(self.out, *self.measure(), as_json=self.json)
        return 0

    def measure(self) -> "Measured":
        """The section and its pictures."""
        if bool(self.backbone) != bool(self.weights):
            raise UsageError("--backbone and --weights together", "one of them")
        real, synthetic = given.real(self.real), given.synthetic(self.synthetic)

        from medsynth.core.random import Key
        from medsynth.evaluation import features, fidelity, fidelity_words, heads

        extract, words = None, {}
        if self.backbone and self.weights:
            extract = features.backbone(self.backbone, self.weights)
            words = {"backbone": f"torchvision {self.backbone}, layer before the last"}
        modalities = heads.common_modalities(real, synthetic)
        measured = fidelity.measure(
            real, synthetic, Key(self.seed, ("fidelity",)), console.progress,
            extract=extract, degraded=self.degraded, **words,
        )  # fmt: skip
        section = fidelity_words.section(measured)
        return section, _montage(real, synthetic, modalities, self.out)


@dataclass(frozen=True)
class EvaluateConsistency:
    """Let a segmentor that was trained on real scans read the synthetic ones.

    Args:
        real: Real cohort with a training and a test split.
        synthetic: Generated cohort.
        out: The report; the segmentor stands there, too.
        segmentor: `gan` or `dynunet`.
        steps, batch, patch: Its training.
        seed: Root of its training.
        degraded: Synthetic cases that are made worse on purpose.
        json: Print the records as JSON.
    """

    real: Path
    synthetic: Path
    out: Path
    _: KW_ONLY
    segmentor: str = "dynunet"
    steps: int = 300
    batch: int = 2
    patch: int = 48
    seed: int = 0
    degraded: int = 12
    json: bool = False

    def run(self) -> int:
        """Train the segmentor unless it is there, then measure and write the section."""
        publish(self.out, *self.measure(), as_json=self.json)
        return 0

    def measure(self) -> "Measured":
        """The section; it has no pictures."""
        from medsynth.config.utility import least_patch

        least = least_patch((self.segmentor,))
        if self.patch % 16 or self.patch < least or min(self.steps, self.batch) < 1:
            words = f"--patch in multiples of 16 from {least} on, --steps and --batch of at least 1"
            raise UsageError(words, "less")
        real, synthetic = given.real(self.real), given.synthetic(self.synthetic)
        train, test = real.part("training"), real.part("test")
        if not len(train) or not len(test):
            raise DataError(
                "a training and a test split", f"{len(train)} and {len(test)} cases", self.real,
                "Split the cohort by subject: `medsynth index … --split training=0.8,test=0.2`.",
            )  # fmt: skip

        from medsynth.core.cohort import Cohort
        from medsynth.core.labels import BRAIN, BRATS2023
        from medsynth.core.random import Key
        from medsynth.evaluation import consistency
        from medsynth.evaluation.heads import common_modalities
        from medsynth.evaluation.segmentors import Recipe

        tissue = all(case.brain for case in (*real, *synthetic))
        scheme = BRAIN if tissue else BRATS2023
        modalities = common_modalities(real, synthetic)
        recipe = Recipe(self.segmentor, True, self.steps, self.batch, (self.patch,) * 3, self.seed)
        parents = {case.subject for case in synthetic}
        apart = tuple(case for case in train if case.subject not in parents)
        strangers = len(apart) >= LEAST_APART
        train = Cohort(train.scheme, apart) if strangers else train
        network = _segmentor(recipe, train, modalities, scheme, self.out)
        section = consistency.measure(
            network, recipe, scheme, test, synthetic, modalities,
            Key(self.seed, ("consistency",)), console.progress, len(train), self.degraded,
            strangers,
        )  # fmt: skip
        return section, []


def _segmentor(
    recipe: "Recipe",
    cohort: "Cohort",
    modalities: tuple[str, ...],
    scheme: "LabelScheme",
    out: Path,
) -> "torch.nn.Module":
    """The segmentor from an earlier run of the same recipe on the same cases, or a new one."""
    import hashlib

    from medsynth.core.labels import BRAIN
    from medsynth.evaluation import segmentors
    from medsynth.imaging.examples import Example, prepare
    from medsynth.training.weights import load_model, save_model
    from medsynth.training.world import World

    device = World.from_environment().device
    kind = "brain" if scheme == BRAIN else "tumour"
    examples = []
    work = prepare(cohort, modalities, kind, out / "cache")
    for result in console.progress(work, len(cohort), "prepare"):
        if not isinstance(result, Example):
            raise result[1]
        examples.append(result)
    network = segmentors.blank(recipe, scheme, len(modalities))
    told = f"{network} {recipe} {[e.folder.name for e in examples]} {segmentors.habits(recipe)}"
    path = out / f"segmentor-{hashlib.sha256(told.encode()).hexdigest()[:12]}.safetensors"
    if path.exists():  # DynUNet has its weights under several names, and the file under one
        weights = load_model(path)[0]
        if set(weights) != set(_tensors(network)):
            raise ModelError("the weights of that segmentor", "others", path, "Remove the file.")
        network.load_state_dict(weights, strict=False)
        return network.eval().requires_grad_(False).to(device)
    console.say(
        f"training a {recipe.kind} on {len(examples)} real cases first, {recipe.steps} steps: "
        f"minutes on a few cores; kept as {path.name} for the next time"
    )
    network = segmentors.train(
        recipe, [(examples, recipe.steps)], scheme, len(modalities),
        lambda steps, total: console.progress(steps, total, "train segmentor", "step"),
    )  # fmt: skip
    save_model(path, _tensors(network), {"format": "medsynth-segmentor/1"})
    return network


def _tensors(network: "torch.nn.Module") -> "dict[str, torch.Tensor]":
    """Weights and what else a network knows, each under one name."""
    return dict(network.named_parameters()) | dict(network.named_buffers())


@dataclass(frozen=True)
class EvaluatePrivacy:
    """Look for copies of training cases, nearness to them, and signs of membership.

    Args:
        real: Real cohort: its training split are the members, its test split was held out.
        synthetic: Generated cohort.
        out: The report.
        model: The generator's run or its name in the box, for attacks on generator and
            discriminator.
        held_out: Cohort of people that the generator has not seen, instead of the test split.
        seed: Root of random subsets.
        json: Print the records as JSON.
    """

    real: Path
    synthetic: Path
    out: Path
    _: KW_ONLY
    model: Path | None = None
    held_out: Path | None = None
    seed: int = 0
    json: bool = False

    def run(self) -> int:
        """Trace all cases, audit them, write the section."""
        publish(self.out, *self.measure(), as_json=self.json)
        return 0

    def measure(self) -> "Measured":
        """The section and pictures of the nearest neighbours."""
        if self.model:
            given.model(self.model)
        real, synthetic = given.real(self.real), given.synthetic(self.synthetic)
        members = real.part("training")
        others = given.real(self.held_out, "--held-out") if self.held_out else real.part("test")
        if not len(members) or not len(others) or not len(synthetic):
            raise DataError(
                "training cases, held-out cases and synthetic cases",
                f"{len(members)}, {len(others)} and {len(synthetic)}", self.real,
                "Give people that the generator has not seen with --held-out COHORT.",
            )  # fmt: skip
        given.refuse_mixed(members, others, self.model)

        from medsynth.core.cohort import Cohort
        from medsynth.core.random import Key
        from medsynth.evaluation import privacy, privacy_words, traces
        from medsynth.evaluation.heads import common_modalities

        modalities = common_modalities(members, others, synthetic)
        attack = _attack(self.model) if self.model else None
        key = Key(self.seed, ("privacy",))
        inside = traces.traces(members, modalities, console.progress, "trace members", attack)
        outside = traces.traces(others, modalities, console.progress, "trace held-out", attack)
        made = traces.traces(synthetic, modalities, console.progress, "trace synthetic")
        few = Cohort(members.scheme, members.cases[: traces.PLANTED])
        planted = traces.planted(few, modalities, console.progress, key.fold("planted"))
        audit = privacy.audit(inside, outside, made, planted, key, modalities)
        nearest = privacy.closest(inside, outside, made, SHOWN)
        section = privacy_words.section(audit)
        return section, _neighbours(nearest, members, others, synthetic, modalities, self.out)


def _attack(run: Path) -> Any:
    from medsynth.build import image as build
    from medsynth.evaluation import attacks
    from medsynth.imaging.synthesizer import load

    own = [attacks.on_generator(load(run))]
    if (run / "last.pt").exists():
        own.append(attacks.on_discriminator(*build.discriminator(run)))
    return attacks.together(*own)


def _montage(
    real: "Cohort", synthetic: "Cohort", modalities: tuple[str, ...], out: Path
) -> list["Picture"]:
    """Real cases above synthetic ones, where both have tissue labels."""
    from medsynth import show
    from medsynth.evaluation import report

    rows = [
        _row(kind, case.name, cohort, modalities)
        for kind, cohort in (("real", real), ("synthetic", synthetic))
        for case in cohort.cases[:SHOWN]
        if case.brain
    ]
    if not rows:
        return []
    show.save(show.figure_rows(rows), out / "pictures" / "fidelity.png", dpi=70)
    return [report.Picture("fidelity.png", "The first real and the first synthetic cases")]


def _neighbours(
    nearest: list[tuple[str, str, str]],
    members: "Cohort",
    others: "Cohort",
    synthetic: "Cohort",
    modalities: tuple[str, ...],
    out: Path,
) -> list["Picture"]:
    """The synthetic cases that are nearest to a member, with both neighbours."""
    from medsynth import show
    from medsynth.evaluation import report

    rows = []
    for made, member, other in nearest:
        if all(c.case(n).brain for c, n in ((synthetic, made), (members, member), (others, other))):
            first = _row("synthetic", made, synthetic, modalities)
            at = show.height(first.labels)  # all three at one height, or nobody could compare them
            rows += [
                first,
                replace(_row("nearest member", member, members, modalities), height=at),
                replace(_row("nearest held-out", other, others, modalities), height=at),
            ]
    if not rows:
        return []
    show.save(show.figure_rows(rows), out / "pictures" / "privacy.png", dpi=70)
    caption = (
        "Synthetic cases nearest to a training case, with their nearest neighbours, all at the "
        "height of the synthetic case's slice"
    )
    return [report.Picture("privacy.png", caption)]


def _row(title: str, name: str, cohort: "Cohort", modalities: tuple[str, ...]) -> Any:
    from medsynth import show
    from medsynth.evaluation import heads

    head = heads.read(cohort.case(name), cohort, modalities)
    assert head.labels is not None  # the caller picks cases with tissue
    return show.Row(f"{title}\n{name}", head.scans, head.labels)


SEEDS = {
    "fidelity": "which random sets of people, and noise",
    "consistency": "of the segmentor's training",
    "privacy": "which random sets of people, and noise of planted copies",
}


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    top = verbs.add_parser(
        "evaluate",
        help="utility, fidelity, consistency, privacy, tables: one report",
        description="Measure synthetic data. Figures stand beside a floor and, where there is one, "
        "a known bad or best example; the report says what it cannot tell.",
        epilog="Example: medsynth evaluate fidelity --real cohort.json --synthetic synthetic "
        "-o report",
    )
    kinds = top.add_subparsers(title="measurements", metavar="WHAT", required=True)
    utility.add(kinds)
    table.add(kinds)
    f = kinds.add_parser(
        "fidelity", help="do they look like real scans?",
        description=console.summary(EvaluateFidelity),
    )  # fmt: skip
    c = kinds.add_parser(
        "consistency", help="do the scans show what their label maps say? (trains a segmentor)",
        description=console.summary(EvaluateConsistency)
        + " The segmentor is trained first, on the training split of --real: minutes on a few "
        "cores. It is kept in REPORT, so that the next run of the same recipe takes it from there.",
    )  # fmt: skip
    q = kinds.add_parser(
        "privacy", help="what do they give away about the training cases?",
        description=console.summary(EvaluatePrivacy),
    )  # fmt: skip
    for p in (f, c, q):
        p.add_argument(
            "--real", type=Path, required=True, metavar="COHORT",
            help="cohort.json (or its folder) of the real cases, with the split that the "
            "generator was trained by",
        )  # fmt: skip
        p.add_argument(
            "--synthetic", type=Path, required=True, metavar="COHORT",
            help="cohort.json (or its folder) that `medsynth generate` wrote",
        )  # fmt: skip
        p.add_argument(
            "-o", "--out", type=Path, required=True, metavar="REPORT",
            help="folder of the report; other measurements in it are kept",
        )  # fmt: skip
        p.add_argument(
            "--seed", type=int, default=0, help=f"{SEEDS[p.prog.split()[-1]]} (default 0)"
        )
        p.add_argument("--json", action="store_true", help="print the records as JSON")
    f.add_argument("--backbone", metavar="NAME", help="a torchvision model, e.g. resnet50")
    f.add_argument("--weights", type=Path, metavar="FILE", help="its weights")
    f.set_defaults(
        make=lambda a: EvaluateFidelity(
            a.real,
            a.synthetic,
            a.out,
            backbone=a.backbone,
            weights=a.weights,
            seed=a.seed,
            json=a.json,
        )
    )
    c.add_argument("--segmentor", choices=("gan", "dynunet"), default="dynunet", help="its kind")
    c.add_argument("--steps", type=int, default=300, help="of its training (default 300)")
    c.add_argument("--batch", type=int, default=2, help="patches a step (default 2)")
    c.add_argument("--patch", type=int, default=48, help="edge in voxels (default 48)")
    c.set_defaults(
        make=lambda a: EvaluateConsistency(
            a.real,
            a.synthetic,
            a.out,
            segmentor=a.segmentor,
            steps=a.steps,
            batch=a.batch,
            patch=a.patch,
            seed=a.seed,
            json=a.json,
        )
    )
    q.add_argument(
        "--model", type=Path, metavar="RUN", help="attack this run, too, or a model in the box"
    )
    q.add_argument("--held-out", type=Path, metavar="COHORT", help="instead of the test split")
    q.set_defaults(
        make=lambda a: EvaluatePrivacy(
            a.real,
            a.synthetic,
            a.out,
            model=a.model,
            held_out=a.held_out,
            seed=a.seed,
            json=a.json,
        )
    )
