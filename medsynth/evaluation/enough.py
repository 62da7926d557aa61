"""How many people each measurement needs before it says anything; the one place that knows.

Below these numbers a figure stands in the report as *refused*, or a verdict as *unknown*, with the
number needed. Knows no measurement, so that `medsynth index` can warn in time.
"""

MIN_PEOPLE = 6
"""People below which no interval and no test is given: a signed-rank test of fewer pairs cannot
reach p < 0.05 whatever the data, and a bootstrap over fewer people is far too narrow."""

MIN_SEEDS = 3
"""Training runs a cell from which the utility table is judged."""

MIN_ATTACKED = 8
"""Members and held-out people below which neither nearness nor an attack's curve says anything."""

MIN_FOR_TPR = 100
"""Held-out people below which 1 % of false accusations cannot be measured."""

MIN_SETS = 4
"""Real people from which two halves of them can be compared at all."""

MIN_COMPARED = 8
"""Real people from which fidelity is judged, and tested: halves of four, 35 ways to split."""


def short_of(training: int, test: int) -> list[str]:
    """What `medsynth evaluate` will not be able to judge, in words.

    Args:
        training: People of the training split.
        test: People of the test split.
    """
    words = []
    if test < MIN_PEOPLE:
        words.append(
            f"utility is judged from {MIN_PEOPLE} test people on (or rotate them with `folds`: "
            "every person is tested once)"
        )
    if min(training, test) < MIN_ATTACKED:
        words.append(
            f"privacy from {MIN_ATTACKED} training and {MIN_ATTACKED} held-out people on "
            "(or --held-out OTHERS)"
        )
    if training + test < MIN_COMPARED:
        words.append(f"fidelity from {MIN_COMPARED} people on")
    return words
