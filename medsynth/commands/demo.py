"""`medsynth demo`: the main job end to end on phantoms, without data and without a GPU."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console
from medsynth.commands.phantom import Phantom, case_name
from medsynth.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from medsynth.config import Config
    from medsynth.core.volume import LabelMap
    from medsynth.evaluation.contrast import Contrast
    from medsynth.imaging.synthesizer import Synthesizer

CASES, HEALTHY, TEST = 26, 5, 3
SPACING_MM = 2.0
WITHIN = 0.10
"""How near the brightness of a structure should be, as a share of a modality's range."""

JUDGED, UTILITY_STEPS, READER_STEPS, PATCH, DEGRADED = 14, 100, 160, 32, 4
"""How small the demo's evaluation is: label maps, steps and patches of segmentors, bad examples."""

SMALL = (
    "Small on purpose: few steps, one seed, one segmentor; and what is called real here are "
    "phantoms that stand in for people. It shows what a report looks like; `medsynth evaluate` "
    "measures in earnest."
)
EDITS = """\
steps:
  - mirror: {}
    probability: 0.5
  - scale: {volume: [0.84, 1.16]}
  - shift: {distance_mm: [0, 15]}
"""

ROWS = (
    ("original", ()),
    ("mirrored", ("mirror",)),
    ("16 % larger", ("scale:1.16",)),
    ("16 % smaller", ("scale:0.84",)),
    ("on a normal brain", ("implant",)),
)

CONFIG = """\
data: {{cohort: "{cohort}", patch: [48, 48, 48], workers: 1}}
seed: {seed}
generator: {{widths: [32, 64, 96, 128], head: 8}}
discriminator: {{widths: [24, 48, 64], head: 8}}
train: {{steps: {steps}, batch: 2, rate_generator: 1.0e-3, rate_discriminator: 1.0e-3,
  ema_halflife_cases: 40, save_every: 20, preview_every: 20, init: {init}}}
"""


@dataclass(frozen=True)
class Demo:
    """Phantoms, training, five edits, four modalities, one picture, one report.

    Args:
        out: Everything goes here; a demo that was stopped goes on.
        seed: Root of all randomness.
        steps: Training steps; more make better pictures.
        json: Print the answer as JSON.
    """

    out: Path = Path("demo")
    seed: int = 0
    steps: int = 40
    json: bool = False

    def run(self) -> int:
        """Do what is missing, print what was done and what to try next."""
        if self.steps < 1:
            raise UsageError("--steps of at least 1", str(self.steps))
        try:
            return self._run()
        except Interrupted as stop:  # training saved itself, and would say how *it* goes on
            more = f" --steps {self.steps}" if self.steps != Demo.steps else ""
            more += f" --seed {self.seed}" if self.seed else ""
            words = f"stopped; `medsynth demo --out {self.out}{more}` goes on where it was"
            raise Interrupted(stop.exit_code - 128, words) from stop

    def _run(self) -> int:
        from medsynth.imaging.synthesizer import load

        begun = time.monotonic()
        console.say("1/5  phantoms: brains from physics, no patient in them")
        Phantom(self.out / "cohort", CASES, SPACING_MM, HEALTHY, TEST, self.seed).run()
        console.say("2/5  training: label map → T1, T1c, T2, FLAIR, from the model in the box on")
        self._train()
        console.say("3/5  editing a tumour that training has not seen, and generating")
        model = load(self.out / "run")
        self._edit()
        self._generate(model)
        console.say("4/5  measuring: is every structure as bright as in the phantom's own scan?")
        gaps = self._contrast(model)
        good = sum(gap.gap <= WITHIN for gap in gaps)
        console.say("5/5  judging: does it help, is it faithful, what does it give away? (small)")
        self._judge(model)
        self._report(gaps, good, time.monotonic() - begun)
        return 0

    def _train(self) -> None:
        from medsynth import box
        from medsynth import config as configs
        from medsynth.commands.train import train
        from medsynth.training.world import World

        run = self.out / "run"
        config: Config = configs.parse(
            CONFIG.format(
                cohort=(self.out / "cohort" / "cohort.json").as_posix(),
                seed=self.seed,
                steps=self.steps,
                init=box.path("phantom").as_posix(),
            ),
            "the demo's configuration",
        )
        train(config, run, World.from_environment(), resume=(run / "last.pt").exists())

    def _edit(self) -> None:
        """The five edits of the held-out phantom that shows most, if they all fit into it."""
        from medsynth.core.labels import BRAIN
        from medsynth.core.random import Key
        from medsynth.edit.recipe import Recipe, parse_step
        from medsynth.errors import EditError
        from medsynth.generation import cases
        from medsynth.io.nifti import read_labels

        if len(self._edited()) == len(ROWS):
            return
        healthy = self._brain(case_name(CASES - 1))
        onto = read_labels(healthy, BRAIN)
        recipes = [Recipe(tuple(parse_step(text) for text in steps)) for _, steps in ROWS]
        maps = {name: read_labels(self._brain(name), BRAIN) for name in _held_out()}
        failure: EditError | None = None
        for name in sorted(maps, key=lambda n: _least_shown(maps[n]), reverse=True):
            try:
                done = [
                    recipe.apply(maps[name], Key(self.seed, ("demo", index)), onto)
                    for index, recipe in enumerate(recipes)
                ]
            except EditError as error:
                failure = error
                continue
            for index, edited in enumerate(done):
                cases.write_edited(
                    self.out / "edited" / f"{name}-{index}-brain.nii.gz",
                    edited.labels,
                    edited.record,
                    (self._brain(name), *([healthy] if "implant" in ROWS[index][1] else [])),
                    overwrite=True,
                )
            return
        raise failure or EditError("a phantom to edit", "none", self.out)

    def _generate(self, model: "Synthesizer") -> None:
        from medsynth import show
        from medsynth.core.cohort import Case, Cohort
        from medsynth.core.labels import BRAIN
        from medsynth.generation import cases
        from medsynth.generation.plan import plan
        from medsynth.generation.pool import generate
        from medsynth.imaging.synthesizer import own_style
        from medsynth.io.nifti import read_labels, read_volume

        parent = self._shown()
        made = [
            Case(cases.stem(path), cases.sidecar_of(path)["subject"], {}, None, path)
            for path in self._edited()
        ]
        jobs = plan(Cohort("brats2023", tuple(made)), 1, self.seed)
        style = own_style(self._own_scans(parent), read_labels(self._brain(parent), BRAIN))
        folder = self.out / "synthetic"
        _forget_others(folder, model)
        for _, error in console.progress(
            generate(model, jobs, folder, style=style), len(jobs), "generate", "scan"
        ):
            if error is not None:
                raise error
        cases.write_listing(folder)
        rows = []
        for (title, _), case in zip(ROWS, cases.list_cases(folder), strict=True):
            rows.append(
                show.Row(title, read_volume(case.images), read_labels(case.brain or Path(), BRAIN))
            )
        show.save(show.figure_rows(rows), self.out / "figure.png")

    def _contrast(self, model: "Synthesizer") -> list["Contrast"]:
        """Held-out phantoms: generated in the style of the phantom's own scan, compared with it."""
        from medsynth.core.labels import BRAIN
        from medsynth.core.random import Key
        from medsynth.evaluation.contrast import compare
        from medsynth.imaging.intensity import UNITS
        from medsynth.imaging.synthesizer import own_style
        from medsynth.io.nifti import read_labels

        gaps: list[Contrast] = []
        for name in _held_out():
            labels, own = read_labels(self._brain(name), BRAIN), self._own_scans(name)
            made = model.generate(
                labels, Key(self.seed, ("contrast", name)), own_style(own, labels)
            )
            gaps += compare(replace(made, data=made.data / UNITS), own, labels)
        return gaps

    def _judge(self, model: "Synthesizer") -> None:
        """A small report on scans made from edited label maps of the training phantoms."""
        from medsynth.commands import utility
        from medsynth.commands.edit import Edit
        from medsynth.commands.evaluate import (
            EvaluateConsistency,
            EvaluateFidelity,
            EvaluatePrivacy,
        )
        from medsynth.commands.generate import Generate
        from medsynth.config import Utility
        from medsynth.core.cohort import Cohort
        from medsynth.core.paths import write_text
        from medsynth.io import cohort as cohorts

        place, report = self.out / "report" / "scans", self.out / "report"
        real, made = self.out / "cohort" / "cohort.json", place / "synthetic" / "cohort.json"
        training = cohorts.read(real).part("training")
        cohorts.write(place / "parents.json", Cohort(training.scheme, training.cases[:JUDGED]))
        write_text(place / "edits.yaml", EDITS)
        edit = Edit(place / "parents.json", place / "edited", recipe=place / "edits.yaml")
        replace(edit, seed=self.seed).run()
        _forget_others(place / "synthetic", model)
        Generate(
            self.out / "run", place / "edited" / "cohort.json", place / "synthetic", seed=self.seed
        ).run()
        table = Utility(
            str(real), str(made), str(self.out / "run"), segmentors=("dynunet",),
            augmentation=(True,), seeds=1, steps=UTILITY_STEPS, patch=(PATCH,) * 3, seed=self.seed,
        )  # fmt: skip
        utility.publish(report, *utility.measure(table, report), small=SMALL)
        for measurement in (
            EvaluateConsistency(
                real, made, report, steps=READER_STEPS, patch=PATCH, degraded=DEGRADED
            ),
            EvaluateFidelity(real, made, report, degraded=2 * DEGRADED),
            EvaluatePrivacy(real, made, report, model=self.out / "run"),
        ):
            utility.publish(report, *measurement.measure(), small=SMALL)

    def _report(self, gaps: Sequence["Contrast"], good: int, seconds: float) -> None:
        structures = dict.fromkeys(gap.structure for gap in gaps)
        modalities = dict.fromkeys(gap.modality for gap in gaps)
        rows = [
            (
                s,
                *(
                    _worst([g for g in gaps if (g.structure, g.modality) == (s, m)])
                    for m in modalities
                ),
            )
            for s in structures
        ]
        console.say()
        console.say(console.table(("structure", *modalities), rows))
        console.say(
            f"phantom → generated mean intensity as % of the modality's range, the worst "
            f"of {TEST} held-out phantoms; within {WITHIN:.0%}: {good} of {len(gaps)} (means are "
            "set to those of the phantom's own scan: what misses is a few voxels, or nearly black)"
        )
        call = console.program()
        console.say(f"""
done in {seconds / 60:.1f} minutes
  {self.out}/figure.png        five label maps, four modalities each: look at it
  {self.out}/synthetic/        the same as NIfTI, with label maps and where they come from
  {self.out}/edited/           the edited label maps
  {self.out}/run/              the model, its metrics and previews
  {self.out}/report/report.html  does it help, is it faithful, what does it give away (small)

next
  {call} edit {self._brain(self._shown())} -o mine.nii.gz --op mirror --op grow:ED=4
  {call} generate {self.out}/run mine.nii.gz -o mine --per-case 3
  {call} show mine/*/*-t1c.nii.gz mine/*/*-brain.nii.gz -o mine.png
  your own scans: README.md, "With your own BraTS folder\"""")
        if self.json:
            console.answer(
                {
                    "out": self.out,
                    "seconds": round(seconds, 1),
                    "within": good,
                    "compared": len(gaps),
                    "worst_gap": round(max(g.gap for g in gaps), 4),
                    "contrast": [
                        {
                            "modality": g.modality,
                            "structure": g.structure,
                            "reference": round(g.reference, 4),
                            "generated": round(g.generated, 4),
                            "voxels": g.voxels,
                        }
                        for g in gaps
                    ],
                }
            )

    def _brain(self, name: str) -> Path:
        return self.out / "cohort" / name / f"{name}-brain.nii.gz"

    def _edited(self) -> list[Path]:
        """Edited label maps, in the order of the rows."""
        return sorted((self.out / "edited").glob("*-brain.nii.gz"))

    def _shown(self) -> str:
        """The phantom that was edited."""
        return self._edited()[0].name.rsplit("-", 2)[0]

    def _own_scans(self, name: str) -> Any:
        """A phantom's own scans on the common scale."""
        from medsynth.core.labels import BRAIN
        from medsynth.imaging.intensity import normalise
        from medsynth.io import cohort as cohorts
        from medsynth.io.nifti import read_labels, read_volume

        case = cohorts.read(self.out / "cohort").case(name)
        scans = read_volume(case.images)
        mask = read_labels(self._brain(name), BRAIN).data > 0
        return replace(scans, data=normalise(scans.data, mask))


def _held_out() -> list[str]:
    """Phantoms with a tumour that training does not see."""
    sick = CASES - HEALTHY
    return [case_name(index) for index in range(sick - TEST, sick)]


def _forget_others(folder: Path, model: "Synthesizer") -> None:
    """Remove scans that were made before training went on."""
    from medsynth.io.sidecar import read_json

    if any(read_json(p).get("model") != model.fingerprint for p in folder.glob("*/*.json")):
        shutil.rmtree(folder)


def _least_shown(labels: "LabelMap") -> int:
    """Voxels of the tumour's structure that shows least in the slice of the figure."""
    from medsynth import show

    at = show.slice_of(labels)
    return min(int(labels.mask(s)[:, :, at].sum()) for s in ("NCR", "ED", "ET"))


def _worst(gaps: Sequence["Contrast"]) -> str:
    if not gaps:
        return "–"
    worst = max(gaps, key=lambda gap: gap.gap)
    mark = "" if worst.gap <= WITHIN else " !"
    return f"{100 * worst.reference:.0f} → {100 * worst.generated:.0f}{mark}"


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "demo",
        help="the main job end to end on phantoms: no data, no GPU",
        description="Make phantoms, train, edit a tumour five ways, generate four modalities.",
        epilog="Example: medsynth demo --out demo",
    )
    p.add_argument(
        "--out", type=Path, default=Path("demo"),
        help="folder for everything (default: demo); a demo that was stopped goes on there",
    )  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="root of all randomness (default 0)")
    p.add_argument(
        "--steps", type=int, default=Demo.steps, help=f"training steps (default {Demo.steps})"
    )
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    p.set_defaults(make=lambda a: Demo(a.out, a.seed, a.steps, a.json))
