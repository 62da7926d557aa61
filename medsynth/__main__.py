"""`python -m medsynth`, for `torchrun --nproc-per-node N -m medsynth train …`."""

from medsynth.cli import entry

if __name__ == "__main__":
    entry()
