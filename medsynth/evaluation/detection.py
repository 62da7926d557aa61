"""Can a learner tell real records from synthetic ones? Knows arrays of features only."""

import numpy as np

from medsynth.core.random import Key
from medsynth.evaluation.statistics import Estimate, auc, bootstrap

FOLDS = 3
DRAWS = 200


def has_values(rows: np.ndarray) -> np.ndarray:
    """Which features are not missing everywhere; gradient boosting cannot bin the others."""
    return ~np.isnan(rows).all(0)


def told_apart(real: np.ndarray, made: np.ndarray, key: Key) -> Estimate:
    """Cross-validated area under the curve of telling real from synthetic, 0.5 at best.

    Args:
        real: Features `(N, F)`, NaN where missing.
        made: Features `(M, F)`; as many as real ones, so that 0.5 is chance for any threshold.
        key: Bootstrap of the records within each fold, for the interval.

    Returns:
        The mean over folds. The interval is of these learners: it knows nothing of other splits.

    Source:
        Classifier two-sample test: Lopez-Paz and Oquab (arXiv 1610.06545).
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    rows, truth = np.concatenate([real, made]), np.repeat([0, 1], (len(real), len(made)))
    sides: list[np.ndarray] = []
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(rows, truth):
        model = HistGradientBoostingClassifier(max_iter=80, random_state=0, early_stopping=False)
        seen = has_values(rows[train])
        model.fit(rows[train][:, seen], truth[train])
        scores = model.predict_proba(rows[test][:, seen])[:, 1]
        sides += [scores[truth[test] == 1], scores[truth[test] == 0]]

    def mean(*drawn: np.ndarray) -> float:
        return float(np.mean([auc(drawn[i], drawn[i + 1]) for i in range(0, len(drawn), 2)]))

    return bootstrap(mean, *sides, key=key, draws=DRAWS)
