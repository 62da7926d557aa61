"""Dimension-wise prediction: each frequent code from all others, tested on real subjects."""

from collections.abc import Iterator

import numpy as np

from medsynth.core.codes import Codes
from medsynth.core.random import Key
from medsynth.evaluation.codes.figures import MOST_ROWS, correlation, frequent, root_mean_square
from medsynth.evaluation.disclosure import NAME
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.statistics import mean_interval

PREDICTED = 30
"""Most frequent codes that are predicted."""

LEAST = 10
"""Held-out subjects with, and without, a code below which it is not predicted."""


def prediction(
    real: Codes, made: Codes, independent: Codes, held_out: Codes, key: Key
) -> Iterator[Record]:
    """How far prediction learnt from synthetic subjects is from that learnt from real ones.

    Args:
        real: Subjects that the model was fitted on.
        made: Synthetic subjects.
        independent: Independent codes: the floor.
        held_out: Real subjects for the test.
        key: Which subjects, bootstrap over codes.

    Source:
        Choi et al., MedGAN (arXiv 1703.06490), section 5.1.
    """
    at = predictable(real, held_out)
    if len(at) < 3:
        reason = f"needs 3 codes that {LEAST} held-out subjects have, there are {len(at)}"
        yield refused(NAME, "prediction_auc", reason)
        return
    rng = key.fold("rows").numpy()
    rows = min(len(real), len(made), len(independent), MOST_ROWS)
    again = real.take(rng.integers(0, len(real), rows))
    test = held_out.take(rng.permutation(len(held_out))[:MOST_ROWS])
    own, theirs, none = (
        scores(side.take(rng.permutation(len(side))[:rows]), test, at)
        for side in (real, made, independent)
    )
    best = scores(again, test, at)
    for column, metric in enumerate(("auc", "f1")):
        by = [side[:, column] for side in (own, theirs, none, best)]
        mean = mean_interval(by[1], key.fold("mean", metric))
        yield Record(
            NAME, f"prediction_{metric}", {}, *mean, floor=float(by[2].mean()),
            ceiling=float(by[0].mean()), n=len(at),
        )  # fmt: skip
        for name, figure in (("correlation", correlation), ("rmse", root_mean_square)):
            value, floor, ceiling = (figure(by[0], side) for side in by[1:])
            yield Record(
                NAME, f"prediction_{metric}_{name}", {}, value, floor=floor, ceiling=ceiling,
                n=len(at),
            )  # fmt: skip


def predictable(real: Codes, held_out: Codes) -> np.ndarray:
    """The most frequent codes that enough held-out subjects have, and enough do not."""
    had = held_out.rates * len(held_out)
    told = (had >= LEAST) & (len(held_out) - had >= LEAST)
    often = frequent(real, len(real.names))
    return often[told[often]][:PREDICTED]


def scores(train: Codes, test: Codes, at: np.ndarray) -> np.ndarray:
    """Area under the curve and F1 of each code, predicted from all others, `(len(at), 2)`.

    Logistic regression on which codes are there, sparse. A code that no training subject has, or
    all have, cannot be learnt: 0.5, and F1 of saying so of everybody.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score, roc_auc_score

    found = []
    columns, wanted = train.presence.tocsc(), test.presence.tocsc()
    for code in at:
        others = np.delete(np.arange(len(train.names)), code)
        y, truth = (np.asarray(x[:, [code]].todense()).ravel() > 0 for x in (columns, wanted))
        if y.all() or not y.any():
            guess = np.full(len(truth), bool(y.all()))
            found.append((0.5, f1_score(truth, guess, zero_division=0.0)))
            continue
        model = LogisticRegression(solver="liblinear", random_state=0)
        model.fit(columns[:, others].tocsr(), y)
        chance = model.predict_proba(wanted[:, others].tocsr())[:, 1]
        found.append(
            (roc_auc_score(truth, chance), f1_score(truth, chance > 0.5, zero_division=0.0))
        )
    return np.array(found, float)
