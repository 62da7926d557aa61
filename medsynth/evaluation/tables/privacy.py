"""What synthetic rows give away about the people whose rows a model was fitted on.

Every attack sees the whole release (up to a limit that the report names): a copy that is left out
of the comparison would make a bad model look good.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.evaluation import disclosure
from medsynth.evaluation.disclosure import NAME, NEIGHBOURS, SPLITS
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.tables.figures import GROUPS, MOST_ROWS, grouped
from medsynth.evaluation.tables.gower import blocks, joined, nearest, neighbours, ready
from medsynth.tabular.codec import Codec

PEOPLE = 2_000
"""People a side who are looked for, and synthetic rows whose nearest people are looked for."""

GUESSED = 500
"""People a side about whom is guessed."""

MOST_RELEASED = 50_000
"""Synthetic rows that an attacker looks through."""

WITHIN = (0.0, 0.02, 0.05, 0.1)
"""Gower distances at which an attacker claims that a person was trained on."""


def privacy(
    real: Table, made: Table, held_out: Table | None, independent: Table, key: Key
) -> Iterator[Record]:
    """All attacks.

    Args:
        real: Rows that the model was fitted on.
        made: Synthetic rows.
        held_out: At least 100 rows of other people; None refuses the attacks.
        independent: Rows of independent columns, for the floor of guesses.
        key: Who is attacked, bootstrap.
    """
    rng = key.fold("people").numpy()
    order, others = disclosure.chosen(real, held_out, rng)
    yield from disclosure.copies_among(fingerprints, made, real, others, key.fold("copies"))
    if others is None:
        return
    size = others.rows
    released = made.take(rng.permutation(made.rows)[:MOST_RELEASED])
    rows = ready(released.take(np.arange(min(released.rows, PEOPLE))), real)
    most = min(size, MOST_ROWS)
    pool = joined(ready(real.take(order[:most]), real), ready(others.take(np.arange(most)), real))
    near = disclosure.Nearest.of(blocks(rows, pool), most)
    yield from disclosure.nearness(near, key.fold("nearest"))
    asked = min(size, PEOPLE)
    everything = ready(released, real)
    inside, outside = (
        nearest(ready(people, real), everything)
        for people in (real.take(order[:asked]), others.take(np.arange(asked)))
    )
    yield from disclosure.membership(-inside, -outside, key.fold("membership"))
    yield from disclosure.presence(inside, outside, WITHIN, key.fold("presence"))
    some = min(size, GUESSED)
    whole = real.take(order[:MOST_RELEASED])
    members = real.take(order[:some])
    yield from attributes(
        members, others.take(np.arange(some)), released, independent, whole, key.fold("attribute")
    )


def attributes(
    members: Table, others: Table, released: Table, independent: Table, real: Table, key: Key
) -> Iterator[Record]:
    """Attribute disclosure: an attacker knows columns of a person and guesses the others.

    Half of the columns are known, or all but one.

    Args:
        members: People whom the model was fitted on.
        others: People held out.
        released: Synthetic rows.
        independent: Rows of independent columns: the floor.
        real: Rows that the model was fitted on, members among them: the ceiling, as if the real
            rows had been released.
        key: Which columns are known, bootstrap.

    Source:
        Choi et al. (arXiv 1703.06490), section 5.3.
    """
    names = [column.name for column in real.schema.modelled]
    if len(names) < 2:
        yield refused(NAME, "attribute_f1", "needs 2 columns")
        return
    rng, codec = key.fold("known").numpy(), Codec.fit(real)
    for known in sorted({len(names) // 2, len(names) - 1}):
        splits = [tuple(rng.permutation(names)[:known]) for _ in range(SPLITS)]
        found = [
            guesses(people, rows, real, codec, splits, NEIGHBOURS)
            for people, rows in (
                (members, released),
                (others, released),
                (members, independent),
                (members, real),
            )
        ]
        for k in NEIGHBOURS:
            own, control, floor, ceiling = (guess[k] for guess in found)
            for metric, figure in (("attribute_accuracy", accuracy), ("attribute_f1", macro_f1)):
                yield from disclosure.attribute(
                    metric, figure, own, control, key.fold(known, k), floor=floor,
                    ceiling=ceiling, known=f"{known} of {len(names)} columns", neighbours=str(k),
                )  # fmt: skip


def guesses(
    people: Table,
    released: Table,
    real: Table,
    codec: Codec,
    splits: Sequence[Sequence[str]],
    ks: Sequence[int],
) -> dict[int, np.ndarray]:
    """What the nearest synthetic rows say of columns that are not known.

    Args:
        people: Whose columns are guessed.
        released: Rows that vote.
        real: Rows that ranges and groups of columns come from.
        codec: Fitted on these.
        splits: Names of the columns that are known, several times.
        ks: How many of the nearest rows vote.

    Returns:
        By k, `(N, 2, Q)`: groups that are true and groups that are guessed, for the unknown columns
        of all splits, one after the other. Numbers are guessed as tenths of the real rows.
    """
    truth, votes = grouped(codec, real, people), grouped(codec, real, released)
    found: dict[int, list[np.ndarray]] = {k: [] for k in ks}
    for known in splits:
        unknown = [i for i, name in enumerate(codec.names) if name not in known]
        near = neighbours(ready(people, real, known), ready(released, real, known), max(ks))
        for k in ks:
            cast = votes[near[:, :k]][:, :, unknown]
            counts = (cast[..., None] == np.arange(GROUPS)).sum(1)
            found[k].append(np.stack([truth[:, unknown], counts.argmax(-1)], 1))
    return {k: np.concatenate(parts, 2) for k, parts in found.items()}


def accuracy(guessed: np.ndarray) -> float:
    """Share of guesses that are right; `(N, 2, Q)` as `guesses` gives them."""
    return float((guessed[:, 0] == guessed[:, 1]).mean())


def macro_f1(guessed: np.ndarray) -> float:
    """F1, mean over the groups that occur, then over columns; as scikit-learn's macro average.

    Unlike accuracy it does not reward the guess that everybody has the most frequent level.
    """
    places = (guessed[:, 0] * GROUPS + guessed[:, 1]).astype(int)
    columns = []
    for place in places.T:
        table = np.bincount(place, minlength=GROUPS**2).reshape(GROUPS, GROUPS)
        either = table.sum(0) + table.sum(1)
        columns.append((2 * np.diag(table)[either > 0] / either[either > 0]).mean())
    return float(np.mean(columns))


def fingerprints(table: Table) -> list[bytes]:
    """Each row without its identifiers as bytes, equal when rows are."""
    columns = []
    for column in table.schema.modelled:
        absent = table.absent(column.name)
        columns += [np.where(absent > 0, 0.0, table.values[column.name]) + 0.0, absent]
    rows = np.stack(columns, 1).astype(float)
    return [row.tobytes() for row in rows]
