"""Attacks: a generator that replays a member gives that member away, and nobody else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medsynth.build import image as build
from medsynth.core.cohort import MODALITIES, Cohort
from medsynth.core.volume import LabelMap, Volume
from medsynth.errors import DataError
from medsynth.evaluation import attacks, heads
from medsynth.evaluation.heads import Head
from medsynth.imaging.intensity import UNITS
from medsynth.imaging.synthesizer import load
from medsynth.io import cohort as cohorts


class Replayer:
    """Gives out the scans of the people it knows; for others, a blurred guess."""

    def __init__(self, known: list[Head]) -> None:
        self.known = known
        self.spec = SimpleNamespace(target=MODALITIES)

    def generate(self, labels: LabelMap, *_: Any) -> Volume:
        for head in self.known:
            if head.labels is not None and np.array_equal(head.labels.data, labels.data):
                return Volume(head.scans.data * UNITS, labels.affine, MODALITIES)
        flat = np.repeat((labels.data > 0)[None] * 0.5 * UNITS, 4, 0)
        flat += np.random.default_rng(0).normal(0, 0.01, flat.shape) * UNITS
        return Volume(flat.astype(np.float32), labels.affine, MODALITIES)


@pytest.fixture(scope="module")
def people(coarse: Path) -> list[Head]:
    cohort = cohorts.read(coarse)
    return list(heads.read_all(Cohort(cohort.scheme, cohort.cases[:6]), MODALITIES))


def test_a_replayed_member_scores_highest(people: list[Head]) -> None:
    attack = attacks.on_generator(Replayer(people[:2]))  # type: ignore[arg-type]
    scores = [attack(head) for head in people]
    for name in ("generator: reconstruction", "generator: texture"):
        members, others = ([s[name] for s in part] for part in (scores[:2], scores[2:]))
        assert min(members) > max(others) + 0.05, name
    assert scores[0]["generator: texture"] == pytest.approx(1, abs=1e-3)


def test_real_players_are_attacked_together(people: list[Head], trained: Path) -> None:
    attack = attacks.together(
        attacks.on_generator(load(trained)),
        attacks.on_discriminator(*build.discriminator(trained)),
    )
    one, two = attack(people[0]), attack(people[0])
    assert one == two
    assert set(one) == {
        "generator: reconstruction",
        "generator: texture",
        "discriminator: realness",
    }
    assert np.isfinite(list(one.values())).all()


def test_tissue_is_needed(people: list[Head], trained: Path) -> None:
    from dataclasses import replace

    with pytest.raises(DataError, match="no t1c"):
        attacks._picked(replace(people[0], scans=replace(people[0].scans, channels=("t1n",) * 4)),
                        ("t1c",))  # fmt: skip
    with pytest.raises(DataError, match="medsynth tissue"):
        attacks.on_generator(load(trained))(replace(people[0], labels=None))
