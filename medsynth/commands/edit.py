"""`medsynth edit`: change tumours in label maps, by operations or by a recipe."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console
from medsynth.core.words import plural
from medsynth.errors import ConfigError, DataError, UsageError

if TYPE_CHECKING:
    from medsynth.core.cohort import Case
    from medsynth.core.volume import LabelMap
    from medsynth.edit.recipe import Recipe

OPERATIONS = """\
operations, done in the order given:
  mirror                    into the other hemisphere
  scale:1.16                1.16 times the volume (scale:diameter=1.05 for the diameter)
  shift:10,0,0              mm to the right, to the front, up
  rotate:15                 degrees about the upward axis
  grow:ET=3, shrink:ED=2    one structure, mm; grows into healthy brain (grow:ET=3,within=WT:
                            into the rest of the tumour)
  deform:4                  bend the outline, mm
  relabel:ET=NCR            call one structure another
  remove                    heal the brain
  implant                   put the tumour onto the brain given with --onto

examples:
  medsynth edit case-brain.nii.gz -o larger.nii.gz --op scale:1.16
  medsynth edit case-brain.nii.gz -o onto.nii.gz --onto healthy-brain.nii.gz
  medsynth edit tissue/cohort.json -o edited --recipe configs/edit/random.yaml --per-case 4
"""

TISSUE = (
    "Say with --scheme what its integers mean (e.g. brats2023), or add CSF, grey and white matter "
    "with `medsynth tissue cohort.json -o OUT`."
)


@dataclass(frozen=True)
class Edit:
    """Edit one label map, or every label map of a cohort.

    Args:
        source: A label map or a cohort.json.
        out: A `.nii.gz`, or a folder that gets `<case>/<case>-brain.nii.gz` and a cohort.json.
        operations: As on the command line.
        recipe: A YAML recipe instead, or the sidecar of an edited case, to replay its edits.
        onto: Brain to implant into.
        scheme: Scheme of a label map that is not in the *brain* scheme.
        per_case: Edited maps per label map, when the recipe is random.
        seed: Root of what is drawn.
        overwrite: Replace what is there.
        json: Print the record as JSON.
    """

    source: Path
    out: Path
    operations: tuple[str, ...] = ()
    recipe: Path | None = None
    onto: Path | None = None
    scheme: str = "brain"
    per_case: int = 1
    seed: int = 0
    overwrite: bool = False
    json: bool = False

    def run(self) -> int:
        """Apply, check, write; the record goes into a sidecar."""
        from medsynth.core.labels import BRAIN
        from medsynth.io.nifti import read_labels

        if self.per_case < 1:
            raise UsageError("--per-case of at least 1", str(self.per_case))
        recipe = self._recipe()
        onto = read_labels(self.onto, BRAIN) if self.onto else None
        if onto and onto.has("WT"):
            console.say(f"{self.onto}: its own tumour is removed first")
        if self.source.suffix == ".json" or self.source.is_dir():
            return self._cohort(recipe, onto)
        return self._one(recipe, onto)

    def _recipe(self) -> "Recipe":
        from medsynth.edit.recipe import Recipe, parse_step
        from medsynth.io.files import read_text

        if bool(self.operations) == bool(self.recipe) and not (self.onto and not self.recipe):
            raise UsageError(
                "--op (one or several) or --recipe",
                "both" if self.recipe else "neither",
                None,
                "For example --op mirror --op scale:1.16.",
            )
        if self.recipe:
            self._require_unchanged(self.recipe)
            return Recipe.parse(read_text(self.recipe, "a recipe"), str(self.recipe))
        steps = tuple(parse_step(text) for text in self.operations)
        if self.onto and all(step.operation != "implant" for step in steps):
            steps = (*steps, parse_step("implant"))
        return Recipe(steps)

    def _require_unchanged(self, recipe: Path) -> None:
        """Refuse a sidecar whose label map somebody has changed since."""
        from medsynth.generation import cases
        from medsynth.io.sidecar import read_json

        if recipe.suffix != ".json":
            return
        path = recipe.parent / read_json(recipe).get("written", {}).get("label", "")
        if path.is_file() and cases.by_hand(path):
            raise ConfigError(
                "edits that give the label map again",
                "those of a map that somebody changed by hand since",
                recipe,
                f"Take {path.name} itself.",
            )

    def _one(self, recipe: "Recipe", onto: "LabelMap | None") -> int:
        from medsynth.core.labels import BRAIN, scheme
        from medsynth.core.random import Key
        from medsynth.core.volume import require_brain
        from medsynth.generation import cases
        from medsynth.io.nifti import read_labels

        if self.per_case > 1:
            raise UsageError(
                "a cohort for --per-case", "one label map", self.source, "Vary --seed instead."
            )
        labels = read_labels(self.source, scheme(self.scheme))
        if self.scheme == BRAIN.name:
            require_brain(labels, self.source, TISSUE)
        edited = recipe.apply(labels, Key(self.seed, ("edit", self.source.name, 0)), onto)
        path, name = self.out, cases.stem(self.source)
        if not path.name.endswith((".nii", ".nii.gz")):
            kind = "brain" if edited.labels.scheme == BRAIN else "seg"
            path = path / name / f"{name}-{kind}.nii.gz"
        sidecar = cases.write_edited(
            path, edited.labels, edited.record, self._origins(self.source), overwrite=self.overwrite
        )
        for step in edited.record:
            after = step["volumes_after_mm3"].get("WT", 0) / 1000
            how = [f"{name}={value}" for name, value in step["arguments"].items()]
            console.say(
                f"{' '.join([step['operation'], *how])}: tumour {after:.1f} ml"
                + (f", {step['factor']} times as before" if step["factor"] else "")
            )
        console.say(f"→ {path}")
        if self.json:
            console.answer(sidecar)
        return 0

    def _cohort(self, recipe: "Recipe", onto: "LabelMap | None") -> int:
        from medsynth.core.cohort import Case, Cohort
        from medsynth.core.labels import BRAIN, scheme
        from medsynth.core.random import Key
        from medsynth.edit import REVISION
        from medsynth.errors import NoTumourError
        from medsynth.generation import cases, failures
        from medsynth.io import cohort as cohorts
        from medsynth.io.nifti import read_labels
        from medsynth.io.sidecar import digest

        cohort = cohorts.read(self.source)
        if len(cohort) and not onto and all(case.brain is None for case in cohort):
            raise self._tumour_alone(cohort.cases[0])
        jobs = [(case, index) for case in cohort for index in range(self.per_case)]
        made: list[Case] = []
        healthy: dict[str, None] = {}
        for case, index in console.progress(jobs, len(jobs), "edit", "map"):
            name = f"{case.name}-e{index:02d}"
            path = self.out / name / f"{name}-brain.nii.gz"
            try:
                source = case.brain or (case.label if onto else None)
                if source is None:
                    raise self._tumour_alone(case)
                asked = {
                    "revision": REVISION,
                    "recipe": recipe.to_json(),
                    "seed": self.seed,
                    "origins": [digest(file) for file in self._origins(source)],
                }
                if self.overwrite or not cases.is_edited(path, asked):
                    of = BRAIN if case.brain else scheme(cohort.scheme)
                    labels = read_labels(source, of)
                    edited = recipe.apply(labels, Key(self.seed, ("edit", case.name, index)), onto)
                    cases.write_edited(
                        path,
                        edited.labels,
                        edited.record,
                        self._origins(source),
                        subject=case.subject,
                        asked=asked,
                        overwrite=True,
                    )
                failures.forget(self.out, name)
                made.append(Case(name, case.subject, {}, None, path))
            except NoTumourError:
                failures.forget(self.out, name)
                healthy[case.name] = None
            except DataError as error:
                failures.note(self.out, name, error)
                console.say(f"{name}: {error}")
        failed = failures.write_listing(self.out)
        if not made and not failed:
            raise NoTumourError("a case with a tumour to edit", "none", self.source)
        if healthy:
            console.say(f"left out {', '.join(healthy)}: no tumour to edit")
        listing = cohorts.write_found(self.out, Cohort(cohort.scheme, tuple(made)))
        console.say(plural(len(made), "edited label map") + (f" in {listing}" if listing else ""))
        if self.json:
            console.answer({"cohort": listing, "made": len(made), "failed": failed})
        return 1 if failed else 0

    def _tumour_alone(self, case: "Case") -> DataError:
        """What to say of a case whose label map would be written as if it were a brain's."""
        found = "one of tumour alone" if case.label else "none"
        todo = "Make it with `medsynth tissue` and edit that cohort, or implant with --onto."
        return DataError("a label map with tissue", found, case.name, todo)

    def _origins(self, source: Path) -> tuple[Path, ...]:
        """The files that an edited map is made from."""
        return (source, self.onto) if self.onto else (source,)


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "edit",
        help="mirror, scale, move, grow, remove or implant a tumour",
        description=console.summary(Edit),
        epilog=OPERATIONS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("source", type=Path, metavar="LABEL", help="a label map or a cohort.json")
    p.add_argument(
        "-o", "--out", type=Path, required=True, help="a file (*.nii.gz) or, of a cohort, a folder"
    )
    p.add_argument(
        "--op", action="append", default=[], metavar="NAME[:ARGUMENTS]", help="an edit, see below"
    )
    p.add_argument("--recipe", type=Path, help="YAML recipe; or a sidecar, to replay it")
    p.add_argument("--onto", type=Path, metavar="HEALTHY_LABEL", help="brain to implant into")
    p.add_argument("--scheme", default="brain", help="scheme of LABEL (default: brain)")
    p.add_argument("--per-case", type=int, default=1, help="edited maps per case of a cohort")
    p.add_argument("--seed", type=int, default=0, help="of what a recipe draws (default 0)")
    p.add_argument("--overwrite", action="store_true", help="replace what is there")
    p.add_argument("--json", action="store_true", help="print the record as JSON")
    p.set_defaults(
        make=lambda a: Edit(
            a.source,
            a.out,
            tuple(a.op),
            a.recipe,
            a.onto,
            a.scheme,
            a.per_case,
            a.seed,
            a.overwrite,
            a.json,
        )
    )
