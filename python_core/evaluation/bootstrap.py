"""How sure a number is when few recordings stand behind many compositions.

Compositions that share a recording are not independent, so recordings are drawn anew, with replacement, and a
composition counts as often as all of its recordings together: the product of their counts. Two models that are judged
on the same compositions with the same seed see the same draws, so their difference has an interval as well: that of the
differences of their draws, as they are, since what a draw of few recordings adds to both falls out.

Source: Owen 2007, The pigeonhole bootstrap; for interval, Efron and Tibshirani 1993, An Introduction to the Bootstrap.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from python_core.evaluation.metrics import Estimate

CONFIDENCE = 0.95
MAX_EMPTY_SHARE = 0.5
"""If so many draws count nothing that can be measured, there are too few recordings for an interval."""


def draw_weights(made_of: Sequence[Sequence[str]], num: int, seed: int) -> NDArray[np.float64]:
    """How often each item counts in each draw.

    Args:
        made_of: The recordings of each item; one that is in it twice is one.
        num: Draws.
        seed: Of the draws.

    Returns:
        [num, items]

    Raises:
        ValueError: An item is made of nothing.
    """
    if any(not sources for sources in made_of):
        raise ValueError(f"item {[bool(sources) for sources in made_of].index(False)} is made of no recording")
    names = sorted({source for sources in made_of for source in sources})
    numbers = {name: number for number, name in enumerate(names)}
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=num)
    columns = [counts[:, sorted({numbers[source] for source in sources})].prod(axis=1) for sources in made_of]
    return np.stack(columns, axis=1).astype(np.float64)


def bootstrap_draws(
    measure: Callable[[NDArray[np.float64]], float], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A measure under each draw, [draws]; NaN where the draw leaves too little to measure.

    Args:
        measure: Takes how often each item counts, [items]; a ValueError says that it is too little.
        weights: What `draw_weights` gives.
    """

    def one(counts: NDArray[np.float64]) -> float:
        try:
            return measure(counts)
        except ValueError:
            return float("nan")

    return np.array([one(counts) for counts in weights])


def percentile_interval(value: float, draws: NDArray[np.float64], recentre: bool = False) -> Estimate | None:
    """The middle 95 % of the draws around a value; None where most draws could not be measured.

    Args:
        value: Of all items.
        draws: [draws]
        recentre: Moves the draws so that their mean is the value (value + draws - mean of draws). For what is biased:
            a draw repeats some items and leaves others out, and of fewer distinct ones FID is larger, so that the
            spread of its draws says how sure the value is, but not their mean. Such an interval may begin below 0.
    """
    found = draws[np.isfinite(draws)]
    if len(found) <= MAX_EMPTY_SHARE * len(draws):
        return None
    if recentre:
        found = value + found - found.mean()
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(found, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def weighted_mean(values: NDArray[np.floating], weights: NDArray[np.floating]) -> float:
    """Mean of the values that are numbers.

    Raises:
        ValueError: None of them counts.
    """
    kept = np.isfinite(values)
    total = weights[kept].sum()
    if not total > 0:
        raise ValueError("no value counts")
    return float(values[kept] @ weights[kept] / total)
