"""Models that predict one column from the others, and how well they rank real people."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medsynth.core.table import Schema, Table
from medsynth.evaluation.detection import has_values
from medsynth.evaluation.statistics import auc
from medsynth.evaluation.tables.figures import features

Scores = tuple[np.ndarray, tuple[int, ...]]
"""`(N, 1 + L)`: the truth, then a score for each of the levels that were trained on; and these."""


def predicted(train: Sequence[Table], test: Table, target: str) -> dict[str, float]:
    """Area under the curve on a test table of models trained on others, by learner."""
    known = test.take(np.flatnonzero(test.absent(target) == 0))
    return {name: area(*scores) for name, scores in fitted(train, known, target).items()}


def fitted(train: Sequence[Table], test: Table, target: str) -> dict[str, Scores]:
    """Scores on a test table of models trained on others, by learner."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parts = [_split(table, target) for table in train]
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    there, truth = _split(test, target)
    seen = has_values(x)
    x, there = x[:, seen], there[:, seen]
    learners: dict[str, Any] = {
        "gradient boosting": HistGradientBoostingClassifier(max_iter=80, random_state=0),
        "logistic": make_pipeline(
            SimpleImputer(keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(max_iter=500),
        ),
    }
    if len(np.unique(y)) < 2:
        return dict.fromkeys(learners, (truth[:, None].astype(float), ()))
    found: dict[str, Scores] = {}
    for name, learner in learners.items():
        scores = learner.fit(x, y).predict_proba(there)
        found[name] = np.column_stack([truth, scores]), tuple(map(int, learner.classes_))
    return found


def area(scores: np.ndarray, levels: Sequence[int]) -> float:
    """Area under the curve, mean over the levels of the truth; 0.5 for a level never trained on.

    Args:
        scores: `(N, 1 + L)`, see `Scores`.
        levels: Those that were trained on.

    Returns:
        NaN when the truth has one level only.
    """
    truth = scores[:, 0].astype(int)
    there = np.unique(truth)
    if len(there) < 2:
        return float("nan")
    areas = []
    for level in there[1:] if len(there) == 2 else there:  # of two, one says it all
        if level in levels:
            own = scores[:, 1 + levels.index(level)]
            areas.append(auc(own[truth == level], own[truth != level]))
        else:
            areas.append(0.5)
    return float(np.mean(areas))


def _split(table: Table, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Features of the other columns, and the target, of rows in which it is known."""
    known = table.take(np.flatnonzero(table.absent(target) == 0))
    others = tuple(c for c in known.schema.modelled if c.name != target)
    rest = Table(
        Schema(others),
        {c.name: known.values[c.name] for c in others},
        {c.name: known.missing[c.name] for c in others if c.name in known.missing},
    )
    return features(rest), known.values[target].astype(int)
