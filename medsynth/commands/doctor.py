"""`medsynth doctor`: is this machine fit, and does it hold what a configuration needs?"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console, machine
from medsynth.commands.machine import GB, Finding
from medsynth.errors import ConfigError, MedsynthError
from medsynth.io import memory

if TYPE_CHECKING:
    import torch

    from medsynth.config import Config, Tabular
    from medsynth.training.precision import Precision

TIGHT = 0.8
"""An estimate that takes more than this share of what is free may not fit."""


@dataclass(frozen=True)
class Doctor:
    """Look at versions, GPU, arithmetic and memory, and at what a configuration needs of them.

    Args:
        config: YAML file of an experiment; None looks at the machine alone.
        settings: `key=value` overrides, as those of `train`.
        json: Print the answer as JSON.
    """

    config: Path | None = None
    settings: tuple[str, ...] = ()
    json: bool = False

    def run(self) -> int:
        """0 when nothing is a fault, else 1."""
        config = self._parsed()
        sections: dict[str, list[Finding]] = {"software": list(machine.software())}
        try:
            import torch
        except (ImportError, OSError) as error:
            todo = "it does not import: install it again in a fresh environment"
            words = (str(error).splitlines() or [type(error).__name__])[0]
            sections["software"].append(Finding("torch", words, "fault", todo))
        else:
            from medsynth.training.precision import choose_precision

            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            precision = choose_precision(config.train.precision if config else "auto", device)
            sections["machine"] = list(machine.hardware(precision))
            sections["arithmetic"] = list(machine.arithmetic(precision, device))
            if config:
                sections[str(self.config)] = list(_needed(config, self.config, precision, device))
        found = [finding for part in sections.values() for finding in part]
        faults, warnings = (sum(f.verdict == v for f in found) for v in ("fault", "warning"))
        if self.json:
            console.answer(
                {
                    "schema": "medsynth-doctor/1",
                    "faults": faults,
                    "warnings": warnings,
                    "findings": [{"part": k, **asdict(f)} for k, v in sections.items() for f in v],
                }
            )
        else:
            print("\n\n".join(_page(sections)))
        numbers = ((faults, "fault"), (warnings, "warning"))
        told = [f"{n} {word}{'s' * (n > 1)}" for n, word in numbers if n]
        console.say("\n" + (" and ".join(told) or "all is well"))
        return 1 if faults else 0

    def _parsed(self) -> "Config | Tabular | None":
        from medsynth import config as configs
        from medsynth.io.files import read_text

        if self.config is None:
            return None
        text = read_text(self.config, "a configuration")
        kind = configs.kind_of(text, str(self.config))
        if kind == "tabular":
            return configs.parse_tabular(text, str(self.config), self.settings)
        if kind == "utility":
            raise ConfigError(
                "a configuration of kind: image or tabular", f"one of kind: {kind}", self.config
            )
        return configs.parse(text, str(self.config), self.settings)


def _page(sections: dict[str, list[Finding]]) -> Iterator[str]:
    """Each part with its title; the first column is as wide in all, the second as it need be."""
    one = max(len(finding.about) for part in sections.values() for finding in part)
    for title, part in sections.items():
        two = max(len(finding.found) for finding in part)
        lines = [
            f"  {f.about:<{one}}  {f.found:<{two}}  {f.verdict}" + (f": {f.todo}" if f.todo else "")
            for f in part
        ]
        yield "\n".join([title, *lines])


def _needed(
    config: "Config | Tabular", file: Path | None, precision: "Precision", device: "torch.device"
) -> Iterator[Finding]:
    """What an experiment asks for: data, loaders, memory, disk."""
    from medsynth.config import Config

    if not isinstance(config, Config):
        yield _table(Path(config.data.table))
        return
    from medsynth.build import needs
    from medsynth.core.cohort import Cohort
    from medsynth.io import cohort as cohorts

    cohort: Cohort | None = None
    try:
        cohort = cohorts.read(Path(config.data.cohort)).part("training")
        each = needs.case_bytes(config, cohort) if len(cohort) else 0.0
        short = None if len(cohort) else "give it cases whose split is training"
        yield Finding("cohort", f"{len(cohort)} training cases", "fault" if short else "ok", short)
    except MedsynthError as error:
        each = 0.0
        yield _refused("cohort", error)
    if config.train.init:
        yield _beginning(config)
    cores = machine.usable_cores()
    many = config.data.workers > cores
    yield Finding("workers", f"{config.data.workers} of {cores} cores", "warning" if many else "ok",
                  f"--set data.workers={cores}" if many else None)  # fmt: skip
    asked = needs.training_memory(config, precision)
    free, where = memory.free(), "memory"
    if device.type == "cuda":
        import torch

        free, where = float(torch.cuda.mem_get_info(device)[0]), "GPU memory"
    twice, batch = 2 * config.train.accumulate, config.train.batch
    todo = "smaller data.patch"
    if batch % twice == 0:
        todo = f"--set train.accumulate={twice} halves what grows with the batch; {todo} helps, too"
    yield _fits(where, asked.total, free, todo)
    folder = Path("runs") / (file.stem if file else "")
    cache = Path(config.data.cache) if config.data.cache else folder / "cache"
    cases = max(each * len(cohort or ()) - needs.run_bytes(cache), 0.0)
    there = next(p for p in (cache.resolve(), *cache.resolve().parents) if p.exists())
    what = "checkpoints and prepared cases" if each else "checkpoints alone"
    yield _fits(
        "disk", needs.checkpoint_bytes(config) + cases, float(shutil.disk_usage(there).free),
        "put them elsewhere with --out and data.cache", what,
    )  # fmt: skip


def _beginning(config: "Config") -> Finding:
    """The model whose weights training begins with."""
    from medsynth.build.image import beginning

    try:
        return Finding("init", f"{config.train.init}, {beginning(config)[1]}")
    except MedsynthError as error:
        return _refused("init", error)


def _refused(about: str, error: MedsynthError) -> Finding:
    """What `train` would say."""
    found = f"{error.found} in {error.where}" if error.where else error.found
    todo = error.todo or f"expected {error.expected}"
    return Finding(about, found, "fault", todo[0].lower() + todo[1:].rstrip("."))


def _fits(about: str, needed: float, free: float, todo: str, what: str = "") -> Finding:
    text = f"needs about {_gb(needed)}{what and f' for {what}'} (an estimate), {_gb(free)} free"
    if needed <= TIGHT * free:
        return Finding(about, text)
    return Finding(about, text, "fault" if needed > free else "warning", todo)


def _gb(size: float) -> str:
    """Bytes for a person: 0.5 GB, 12 GB, 1500 GB."""
    return f"{size / GB:.1f} GB" if size < 10 * GB else f"{size / GB:.0f} GB"


def _table(path: Path) -> Finding:
    if path.exists():
        return Finding("table", f"{path}, {path.stat().st_size / 1e6:.1f} MB")
    return Finding("table", f"no {path}", "fault", "--set data.table=…")


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "doctor",
        help="is this machine fit: versions, GPU, arithmetic, memory, disk",
        description=console.summary(Doctor),
        epilog="Examples: medsynth doctor;  medsynth doctor configs/image/brats.yaml --set "
        "data.cohort=tissue/cohort.json",
    )
    p.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG",
        help="what `medsynth train` is to run: does it fit?",
    )  # fmt: skip
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a key, e.g. train.batch=4",
    )  # fmt: skip
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    p.set_defaults(make=lambda a: Doctor(a.config, tuple(a.set), a.json))
