"""The verbs of the command line, one module each.

Each module has a frozen dataclass with a `run()` that returns the exit code, so that a test or a
script can call a verb in-process, and an `add()` that tells argparse about it. Heavy imports
happen in `run()`: `medsynth --help` must not wait for torch.
"""
