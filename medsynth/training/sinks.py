"""Where metrics go: `metrics.jsonl` always, TensorBoard when it is installed."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from medsynth.core.paths import write_text


class Sinks:
    """Metrics on disk.

    A resumed run cuts away the lines that lie beyond the step it resumes at, so that no step
    appears twice.

    Args:
        folder: The run.
        step: Step at which the run starts or resumes.
    """

    def __init__(self, folder: Path, step: int) -> None:
        path = folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step(line) <= step]
            write_text(path, "".join(line + "\n" for line in kept))
        folder.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._board = None
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line per call, flushed."""
        rounded = {k: float(f"{v:.6g}") for k, v in metrics.items()}
        self._file.write(json.dumps({"step": step, **rounded}) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in metrics.items():
                self._board.add_scalar(key, value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return 2**63  # half a line of a killed run
