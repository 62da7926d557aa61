"""Randomness as a function of a key, so that results do not depend on who computes them.

A `Key` is a seed and a path of names and numbers. Folding in the case, the step or the window
gives an independent stream for each, whatever the number of workers or the order of the work.
"""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Key:
    """A point in the tree of random streams.

    Args:
        seed: Root of the tree.
        path: What was folded in so far.

    Example:
        >>> key = Key(0).fold("case-007").fold("noise")
        >>> key.numpy().integers(10) == key.numpy().integers(10)
        np.True_
    """

    seed: int
    path: tuple[str | int, ...] = ()

    def fold(self, *parts: str | int) -> "Key":
        """The key of a branch below this one."""
        return Key(self.seed, self.path + parts)

    def integer(self, bits: int = 63) -> int:
        """A number of at most 256 bits that depends on the seed and on the whole path (SHA-256)."""
        text = "\x1f".join(f"{type(part).__name__}:{part}" for part in (self.seed, *self.path))
        return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") >> (256 - bits)

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator; two calls give the same stream."""
        return np.random.Generator(np.random.Philox(self.integer()))
