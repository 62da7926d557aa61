"""Are synthetic rows nearer to the rows that a model was fitted on than to others?"""

from collections.abc import Iterator

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.statistics import attack_auc, mean_interval, member_control

NAME = "table"
MIN_ROWS = 100
NEIGHBOURS = 2_000


def gower(one: Table, two: Table, like: Table) -> np.ndarray:
    """Mean difference over columns, `(N, M)`; numbers by the range of the middle 90 %.

    Source:
        Gower, *A general coefficient of similarity*, Biometrics 27, 1971.
    """
    total = np.zeros((one.rows, two.rows), np.float32)
    for column in like.schema.modelled:
        name = column.name
        a, b = one.values[name], two.values[name]
        gone = one.absent(name)[:, None] != two.absent(name)
        both = (one.absent(name) > 0)[:, None] & ~gone
        if column.named:
            apart = (a[:, None] != b).astype(np.float32)
        else:
            known = like.values[name][like.absent(name) == 0]
            low, high = np.percentile(known, (5, 95)) if len(known) else (0.0, 1.0)
            scale = max(high - low, 1e-9)
            apart = np.minimum(np.abs(a[:, None] - b) / scale, 1).astype(np.float32)
        total += np.where(gone, 1, np.where(both, 0, apart))
    return total / max(len(like.schema.modelled), 1)


def nearness(real: Table, made: Table, held_out: Table | None, key: Key) -> Iterator[Record]:
    if held_out is None:
        reason = f"needs {MIN_ROWS} held-out rows"
        yield refused(NAME, "nearer_to_members", reason)
        yield refused(NAME, "membership_auc", reason)
        return
    rng = key.fold("nearest").numpy()
    size = min(real.rows, held_out.rows, made.rows, NEIGHBOURS)
    members, others, rows = (t.take(rng.permutation(t.rows)[:size]) for t in (real, held_out, made))
    inside, outside = gower(rows, members, real), gower(rows, others, real)
    near, far = inside.min(1), outside.min(1)
    yield Record(
        NAME, "distance_to_closest", {}, *mean_interval(near, key), floor=float(far.mean()),
        ceiling=0.0, n=size,
    )  # fmt: skip
    closer = (near < far) + 0.5 * (near == far)
    yield Record(NAME, "nearer_to_members", {}, *mean_interval(closer, key), floor=0.5, n=size)
    copies = [float((d.min(1) == 0).mean()) for d in (inside, outside)]
    yield Record(NAME, "exact_copies", {}, copies[0], floor=copies[1], n=size)
    scores = -inside.min(0), -outside.min(0)
    auc = attack_auc(*scores, key.fold("auc"))
    yield Record(NAME, "membership_auc", {}, *auc, floor=0.5, ceiling=1.0, n=2 * size)
    control = member_control(scores[0], key.fold("control"))
    told = {"control": "members against members"}
    yield Record(NAME, "membership_auc", told, *control, floor=0.5, n=size)
