"""What costs nothing: every code by itself, as often as it is among real subjects."""

import numpy as np
from scipy import sparse

from medsynth.core.codes import Codes
from medsynth.core.random import Key


def independent(real: Codes, rows: int, key: Key) -> Codes:
    """Subjects whose codes know nothing of each other, at the real rates and counts.

    Args:
        real: Whose rates.
        rows: How many subjects.
        key: Draws.
    """
    rng = key.numpy()
    columns = real.matrix.tocsc()
    owners, counts = [], []
    numbers = rng.binomial(rows, real.rates)
    for code, number in enumerate(numbers):
        seen = columns.data[columns.indptr[code] : columns.indptr[code + 1]]
        owners.append(rng.choice(rows, number, replace=False))
        counts.append(rng.choice(seen, number) if number else seen[:0])
    at = np.concatenate([np.empty(0, int), *owners]), np.repeat(np.arange(len(numbers)), numbers)
    data = np.concatenate([np.empty(0, np.int32), *counts])
    return Codes(sparse.csr_matrix((data, at), (rows, len(real.names))), real.names)
