"""Words when a GAN goes wrong, silence when it does not; metrics on disk."""

import json
from pathlib import Path

import numpy as np

from medsynth.training.sinks import Sinks
from medsynth.training.watch import Watch


def _read(watch: Watch, series: list[dict[str, float]]) -> list[str]:
    return [words for step, metrics in enumerate(series) for words in watch.read(step, metrics)]


def test_a_healthy_run_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    series = [
        {
            "accuracy_real": 0.75 + 0.15 * rng.standard_normal(),
            "accuracy_fake": 0.8,
            "gradient_generator": float(np.exp(rng.standard_normal())),
            "diversity": 0.05 + 0.01 * rng.random(),
        }
        for _ in range(500)
    ]
    assert _read(Watch(), series) == []


def test_each_sign_is_said_once_per_episode() -> None:
    fine = {"accuracy_real": 0.7, "accuracy_fake": 0.7, "gradient_generator": 1.0, "diversity": 0.1}
    for change, words in (
        ({"accuracy_real": 1.0, "accuracy_fake": 1.0}, "real from fake"),
        ({"gradient_generator": 1e-5}, "gradient"),
        ({"diversity": 1e-4}, "collapsing"),
    ):
        bad = fine | change
        said = _read(Watch(), [fine] * 50 + [bad] * 200 + [fine] * 200 + [bad] * 200)
        assert len(said) == 2, said
        assert all(words in text for text in said)


def test_lines_beyond_the_resumed_step_are_cut(tmp_path: Path) -> None:
    first = Sinks(tmp_path, 0)
    for step in range(1, 6):
        first.write(step, {"loss": 0.1 * step})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    second = Sinks(tmp_path, 3)
    second.write(4, {"loss": 9.0})
    second.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] == 9.0
