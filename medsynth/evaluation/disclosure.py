"""What attackers learn about people behind synthetic records, every attack beside its control.

Knows scores, distances and guesses, not how they were come by: tables and codes share it. Each
attack is run on people whom the model was fitted on (members) and on as many held-out people, of
whom it can know no more than what holds for everybody.

Source:
    Choi et al., MedGAN (arXiv 1703.06490), section 5.3: attribute and presence disclosure.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from medsynth.core.random import Key
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.samples import P
from medsynth.evaluation.statistics import (
    auc,
    bootstrap,
    halved,
    mean_interval,
    relabelled,
    true_positives_at,
)

NAME = "table"
"""The section of the report that tables and codes share."""

MIN_ROWS = 100
"""People a side below which nothing is said of them; a false-positive rate of 1 % is one person."""

FALSE_POSITIVES = 0.01
CONTROL = "members against members"
CLAIMS = 10
"""Claims below which their precision is not given: of three, all are right by chance often."""

OTHERS = "held-out people"
RELABELLED = "random people for members"
TOLERANCE = 1e-6
"""Distances that differ by less are equal; they are sums of float32."""

ATTACKS = (
    "nearer_to_members", "membership_auc", "membership_tpr_at_1_fpr", "presence_sensitivity",
    "presence_precision", "attribute_f1",
)  # fmt: skip
NEIGHBOURS = (1, 10)
"""How many of the nearest synthetic records vote on what is not known of a person."""

SPLITS = 3
"""Random choices of the columns that an attacker knows."""


def unknown(held_out: int) -> Iterator[Record]:
    """Every attack, refused for want of held-out people.

    Args:
        held_out: How many there are.
    """
    for metric in ATTACKS:
        yield refused(NAME, metric, f"needs {MIN_ROWS} held-out rows, there are {held_out}")


def membership(members: np.ndarray, others: np.ndarray, key: Key, **where: str) -> Iterator[Record]:
    """Can an attacker tell who was trained on? Area, and members found at 1 % false positives.

    Args:
        members: Scores `(N,)` of people whom the model was fitted on, high for a suspect.
        others: Scores `(M,)` of people held out.
        key: Bootstrap, and the halves of the control.
        where: What the scores are.
    """

    def found(inside: np.ndarray, outside: np.ndarray) -> float:
        return true_positives_at(inside, outside, FALSE_POSITIVES)

    for metric, figure, chance in (
        ("membership_auc", auc, 0.5),
        ("membership_tpr_at_1_fpr", found, FALSE_POSITIVES),
    ):
        own = bootstrap(figure, members, others, key=key.fold(metric))
        n = len(members) + len(others)
        yield Record(NAME, metric, where, *own, floor=chance, ceiling=1.0, n=n)
        control = halved(figure, members, key.fold(metric, "control"))
        told = {**where, "control": CONTROL}
        yield Record(NAME, metric, told, *control, floor=chance, n=len(members))


def presence(
    members: np.ndarray,
    others: np.ndarray,
    thresholds: Sequence[float],
    key: Key,
    **where: str,
) -> Iterator[Record]:
    """An attacker claims that a person was trained on when a synthetic record is near enough.

    Args:
        members: Distance of each member to the nearest synthetic record, `(N,)`.
        others: The same of held-out people; as many, so that half of all claims are right by
            chance.
        thresholds: Largest distances that are near enough.
        key: Bootstrap.
        where: What the distances are.

    Returns:
        For each threshold sensitivity (floor: share of held-out people who are claimed, too) and
        precision (floor: chance).
    """

    def precision(inside: np.ndarray, outside: np.ndarray) -> float:
        claims = inside.sum() + outside.sum()
        return float(inside.sum() / claims) if claims else float("nan")

    for threshold in thresholds:
        inside, outside = (side <= threshold + TOLERANCE for side in (members, others))
        place = {**where, "within": f"{threshold:g}"}
        share = mean_interval(inside, key.fold("sensitivity"))
        n = len(members)
        yield Record(
            NAME, "presence_sensitivity", place, *share, floor=float(outside.mean()),
            ceiling=1.0, n=n,
        )  # fmt: skip
        claims = int(inside.sum() + outside.sum())
        if claims < CLAIMS:
            reason = f"needs {CLAIMS} claims, there are {claims}"
            yield refused(NAME, "presence_precision", reason, **place)
            continue
        right = bootstrap(precision, inside, outside, key=key.fold("precision"))
        chance = n / (n + len(others))
        yield Record(NAME, "presence_precision", place, *right, floor=chance, ceiling=1.0, n=n)


def attribute(
    metric: str,
    figure: Callable[[np.ndarray], float],
    members: np.ndarray,
    others: np.ndarray,
    key: Key,
    *,
    floor: np.ndarray,
    ceiling: np.ndarray,
    **where: str,
) -> Iterator[Record]:
    """How well an attacker guesses what is not known of a member, and of somebody held out.

    Args:
        metric: Name of the figure.
        figure: Of guesses, `(N, …)` with people along the first axis.
        members: Guesses about people whom the model was fitted on.
        others: Guesses about people held out.
        key: Bootstrap over people.
        floor: Guesses about members from independent columns.
        ceiling: Guesses about members from the real rows themselves.
        where: What the attacker knows.

    Returns:
        The figure of members, that of held-out people, and the gain: their difference.
    """

    def beyond(inside: np.ndarray, outside: np.ndarray) -> float:
        return figure(inside) - figure(outside)

    low, high, n = figure(floor), figure(ceiling), len(members)
    own = bootstrap(figure, members, key=key.fold(metric))
    yield Record(NAME, metric, where, *own, floor=low, ceiling=high, n=n)
    control = bootstrap(figure, others, key=key.fold(metric, "control"))
    told = {**where, "control": OTHERS}
    yield Record(NAME, metric, told, *control, floor=low, n=len(others))
    gain = bootstrap(beyond, members, others, key=key.fold(metric, "gain"))
    yield Record(NAME, f"{metric}_gain", where, *gain, floor=0.0, ceiling=high - control.value, n=n)


def chosen(real: P, held_out: P | None, rng: np.random.Generator) -> tuple[np.ndarray, P | None]:
    """Who is attacked.

    Args:
        real: Records that the model was fitted on.
        held_out: Those of other people; None without.
        rng: Draws.

    Returns:
        The order in which real records are attacked, and other people in random order, no more
        than there are real ones.
    """
    order = rng.permutation(len(real))
    if not held_out:
        return order, None
    return order, held_out.take(rng.permutation(len(held_out))[: len(real)])


def copies_among(
    fingerprints: Callable[[P], Sequence[bytes]], made: P, real: P, others: P | None, key: Key
) -> Iterator[Record]:
    """`copies` of records, with `others` as `chosen` gives them."""
    held_out = fingerprints(others) if others else ()
    yield from copies(fingerprints(made), fingerprints(real), held_out, key)


def copies(
    made: Sequence[bytes], real: Sequence[bytes], others: Sequence[bytes], key: Key
) -> Iterator[Record]:
    """Synthetic records that a real person has, too: all of them against all members.

    Frequent records are met by chance, the more of them the more people there are. So the gain
    over held-out people stands beside what it is when as many random people of both kinds are
    called members: where fewer are held out, that is above 0.

    Args:
        made: Every synthetic record, as bytes.
        real: Every record that the model was fitted on.
        others: Held-out records, no more than real ones; none leaves the control out.
        key: Bootstrap, and labels of the control.
    """
    known, n = frozenset(real), len(made)
    whole = mean_interval(np.array([row in known for row in made], float), key.fold("whole"))
    of = {"of": f"{len(real):,} members"}
    yield Record(NAME, "exact_copies", of, *whole, ceiling=1.0, n=n)
    if not others:
        return
    often = Counter(made)
    records, place = np.unique(np.array([*real, *others], object), return_inverse=True)
    weight = np.array([often[row] for row in records]) / n

    def share(people: np.ndarray) -> float:
        met = np.bincount(place[people], minlength=len(weight)) > 0
        return float(weight[met].sum())

    def gain(labels: np.ndarray) -> float:
        return share(labels) - share(~labels)

    truth = np.arange(len(place)) < len(real)
    held_out = {"of": f"{len(others):,} held out", "control": OTHERS}
    yield Record(NAME, "exact_copies", held_out, share(~truth), n=n)
    both = {"of": f"{len(real):,} members, {len(others):,} held out"}
    control = relabelled(gain, truth, key.fold("control"))
    floor = control.value
    yield Record(NAME, "exact_copies_gain", both, gain(truth), floor=floor, ceiling=1.0, n=n)
    told = {**both, "control": RELABELLED}
    yield Record(NAME, "exact_copies_gain", told, *control, floor=floor, n=n)


@dataclass(frozen=True, eq=False)
class Nearest:
    """Who stands nearest to synthetic records, among members and held-out people.

    Args:
        near: Distance of each synthetic record to the nearest member, `(N,)`.
        far: To the nearest held-out person.
        ties: Everybody who is nearest of all, CSR `(N, members + others)` of ones.
        members: How many stand in the first columns.
    """

    near: np.ndarray
    far: np.ndarray
    ties: Any
    members: int

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray], members: int) -> "Nearest":
        """From distances `(n, members + others)`, some records at a time."""
        near, far, ties = [], [], []
        for block in blocks:
            near.append(block[:, :members].min(1))
            far.append(block[:, members:].min(1))
            least = np.minimum(near[-1], far[-1])[:, None]
            ties.append(sparse.csr_matrix((block <= least + TOLERANCE).astype(np.float32)))
        return cls(np.concatenate(near), np.concatenate(far), sparse.vstack(ties), members)

    def closer(self, labels: np.ndarray) -> float:
        """Share of records whose nearest person has a label; half where both have."""
        inside, outside = (self.ties @ side.astype(np.float32) for side in (labels, ~labels))
        return float(0.5 * (1 + (outside == 0).mean() - (inside == 0).mean()))


def nearness(nearest: Nearest, key: Key, **where: str) -> Iterator[Record]:
    """Are synthetic records nearer to members than to as many held-out people?

    A few people without much to tell are nearest to many records, so the bootstrap over records
    is too sure of itself: the control gives *member* to random people instead.

    Args:
        nearest: Distances.
        key: Bootstrap, and labels of the control.
        where: What the distances are.
    """
    n, near, far = nearest.members, nearest.near, nearest.far
    yield Record(
        NAME, "distance_to_closest", where, *mean_interval(near, key.fold("distance")),
        floor=float(far.mean()), ceiling=0.0, n=n,
    )  # fmt: skip
    truth = np.arange(nearest.ties.shape[1]) < n
    yield Record(
        NAME, "nearer_to_members", where, nearest.closer(truth), floor=0.5, ceiling=1.0, n=n
    )
    control = relabelled(nearest.closer, truth, key.fold("control"))
    told = {**where, "control": RELABELLED}
    yield Record(NAME, "nearer_to_members", told, *control, floor=0.5, n=n)
