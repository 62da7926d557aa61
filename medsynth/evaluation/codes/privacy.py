"""What synthetic subjects give away about the real ones a model was fitted on.

Every attack sees the whole release. Distances come from sparse products, some people at a time.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from medsynth.core.codes import Codes
from medsynth.core.random import Key
from medsynth.evaluation import disclosure
from medsynth.evaluation.codes.figures import MOST_ROWS, fingerprints, sizes
from medsynth.evaluation.disclosure import NEIGHBOURS, SPLITS
from medsynth.evaluation.records import Record

PEOPLE = 2_000
"""People a side who are looked for, and synthetic subjects whose nearest people are."""

GUESSED = 500
"""People a side about whom is guessed."""

BLOCK = 2_000_000
"""Distances at a time; a handful of arrays of 8 MB each."""

AT_ONCE = 256
"""People whose codes are made dense at a time."""

WITHIN = (0, 2, 5, 10)
"""Codes that may differ when an attacker claims that a person was trained on."""

MEASURES = ("hamming", "jaccard")


def privacy(
    real: Codes, made: Codes, held_out: Codes | None, independent: Codes, key: Key
) -> Iterator[Record]:
    """All attacks.

    Args:
        real: Subjects that the model was fitted on.
        made: Synthetic subjects.
        held_out: At least 100 other people; None refuses the attacks.
        independent: Independent codes, for the floor of guesses.
        key: Who is attacked, bootstrap.
    """
    rng = key.fold("people").numpy()
    order, others = disclosure.chosen(real, held_out, rng)
    yield from disclosure.copies_among(fingerprints, made, real, others, key.fold("copies"))
    if others is None:
        return
    size = len(others)
    rows, most = made.take(rng.permutation(len(made))[:PEOPLE]), min(size, MOST_ROWS)
    stacked = sparse.vstack([real.matrix[order[:most]], others.matrix[:most]])
    pool = Codes(stacked, real.names)
    asked = min(size, PEOPLE)
    inside, outside = (
        nearest(people, made)
        for people in (real.take(order[:asked]), others.take(np.arange(asked)))
    )
    for of in MEASURES:
        near = disclosure.Nearest.of((block[of] for block in blocks(rows, pool)), most)
        yield from disclosure.nearness(near, key.fold("nearest", of), distance=of)
        yield from disclosure.membership(
            -inside[of], -outside[of], key.fold("membership", of), distance=of
        )
    yield from disclosure.presence(
        inside["hamming"], outside["hamming"], WITHIN, key.fold("presence"), distance="hamming"
    )
    some = min(size, GUESSED)
    members, strangers = real.take(order[:some]), others.take(np.arange(some))
    yield from attributes(members, strangers, made, independent, real, key.fold("attribute"))


def attributes(
    members: Codes, others: Codes, made: Codes, independent: Codes, real: Codes, key: Key
) -> Iterator[Record]:
    """Attribute disclosure: an attacker knows half of all codes of a person and guesses the others.

    Args:
        members: People whom the model was fitted on.
        others: People held out.
        made: Synthetic subjects.
        independent: Independent codes: the floor.
        real: All that the model was fitted on, members among them: the ceiling, as if they had been
            released.
        key: Which codes are known, bootstrap.

    Source:
        Choi et al. (arXiv 1703.06490), section 5.3.
    """
    if len(real.names) < 2:
        return
    rng, size = key.fold("known").numpy(), len(real.names)
    splits = [np.sort(rng.permutation(size)[: size // 2]) for _ in range(SPLITS)]
    found = [
        guesses(people, rows, splits, NEIGHBOURS)
        for people, rows in (
            (members, made), (others, made), (members, independent), (members, real),
        )
    ]  # fmt: skip
    for k in NEIGHBOURS:
        own, control, floor, ceiling = (guess[k] for guess in found)
        yield from disclosure.attribute(
            "attribute_f1", micro_f1, own, control, key.fold(k), floor=floor, ceiling=ceiling,
            known=f"{size // 2:,} of {size:,} codes", neighbours=str(k),
        )  # fmt: skip


def blocks(people: Codes, released: Codes) -> Iterator[dict[str, np.ndarray]]:
    """Hamming's and Jaccard's distances, some people at a time, `(n, M)` each.

    Both are of the sets of codes, whatever their counts. Two subjects without codes are equal.
    """
    theirs, width = released.presence, sizes(released).astype(np.float32)
    step = min(max(BLOCK // max(len(released), 1), 1), AT_ONCE)
    for start in range(0, len(people), step):
        part = people.presence[start : start + step]
        both = np.ascontiguousarray((theirs @ part.T.toarray()).T)
        total = np.diff(part.indptr).astype(np.float32)[:, None] + width
        hamming = total - 2 * both
        yield {"hamming": hamming, "jaccard": hamming / np.maximum(total - both, 1)}


def nearest(people: Codes, released: Codes) -> dict[str, np.ndarray]:
    """Distance of each person to the nearest of the others, `(N,)` for each measure."""
    found = [{of: d.min(1) for of, d in block.items()} for block in blocks(people, released)]
    return {of: np.concatenate([part[of] for part in found]) for of in MEASURES}


def neighbours(people: Codes, released: Codes, most: int) -> np.ndarray:
    """The nearest others by Jaccard's distance, nearest first, `(N, most)`."""
    found = []
    for block in blocks(people, released):
        apart = block["jaccard"]
        near = np.argpartition(apart, min(most, len(released)) - 1, 1)[:, :most]
        order = np.take_along_axis(apart, near, 1).argsort(1, kind="stable")
        found.append(np.take_along_axis(near, order, 1))
    return np.concatenate(found)


def guesses(
    people: Codes, released: Codes, splits: Sequence[np.ndarray], ks: Sequence[int]
) -> dict[int, np.ndarray]:
    """What the nearest synthetic subjects say of codes that are not known.

    Args:
        people: Whose codes are guessed.
        released: Subjects that vote; a code is guessed when more than half of them have it.
        splits: Which codes are known, several times.
        ks: How many of the nearest vote.

    Returns:
        By k, `(N, 3)`: codes guessed rightly, guessed, and had, over all splits.
    """
    every = np.arange(len(people.names))
    total = {k: np.zeros((len(people), 3)) for k in ks}
    for known in splits:
        rest = np.setdiff1d(every, known)
        near = neighbours(_columns(people, known), _columns(released, known), max(ks))
        truth, votes = people.presence[:, rest], released.presence[:, rest]
        for k in ks:
            chosen = near[:, :k]
            shape = len(people), len(released)
            at = np.repeat(np.arange(len(people)), chosen.shape[1]), chosen.ravel()
            voters = sparse.csr_matrix((np.ones(chosen.size, np.float32), at), shape)
            guess = (voters @ votes) > chosen.shape[1] / 2
            right = guess.multiply(truth)
            total[k] += np.stack(
                [np.asarray(x.sum(1), float).ravel() for x in (right, guess, truth)], 1
            )
    return total


def micro_f1(guessed: np.ndarray) -> float:
    """F1 of all guesses of all people together; `(N, 3)` as `guesses` gives them.

    Accuracy would say little: nobody has most codes.
    """
    right, said, had = guessed.sum(0)
    return float(2 * right / max(said + had, 1))


def _columns(codes: Codes, at: np.ndarray) -> Codes:
    return Codes(codes.matrix[:, at], tuple(codes.names[i] for i in at))
