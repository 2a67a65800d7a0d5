"""How often a motion is nearer to its text than to the same text with its actions in another order, or sides exchanged.

Of real motions it says what the judge can tell: guessing is one half, and where it is no better, its other numbers say
nothing of order or sides. Of a model's motions it says whether the model heeds them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_core.evaluation.bootstrap import bootstrap_draws, percentile_interval, weighted_mean
from python_core.evaluation.metrics import Embeddings, Estimate, matching_distances
from python_core.evaluators.evaluator import Evaluator
from python_core.evaluators.swapped_captions import swap_order, swap_sides

SWAPS: dict[str, Callable[[str], str | None]] = {"order": swap_order, "sides": swap_sides}


@dataclass(frozen=True, kw_only=True)
class ToldApart:
    """One model and one kind of swap."""

    num: int
    """Texts that can be swapped and have a motion."""
    share: float
    """Of them, those whose motion is nearer to the text as it is; half of those where it is as near."""
    over_recordings: Estimate | None
    """The share with its interval; None where too few recordings are known for one."""


@dataclass(frozen=True, eq=False)
class SwappedTexts:
    """Texts of one repeat with something exchanged."""

    places: NDArray[np.intp]
    """Of the texts that can be swapped, [S]."""
    texts: Embeddings
    """Swapped, [S, E]."""


def swap_texts(captions: Sequence[str], judge: Evaluator) -> dict[str, SwappedTexts]:
    """Swapped texts by the kind of swap; kinds that no text has are left out."""
    found = {}
    for name, swap in SWAPS.items():
        swapped = {place: other for place, caption in enumerate(captions) if (other := swap(caption)) is not None}
        if swapped:
            found[name] = SwappedTexts(np.array([*swapped]), judge.embed_texts([*swapped.values()]))
    return found


def tell_apart(
    swapped: SwappedTexts, texts: Embeddings, motions: Embeddings, weights: NDArray[np.float64] | None
) -> ToldApart | None:
    """Compare distances to texts as they are and swapped; None where no text that can be swapped has a motion.

    Args:
        swapped: Of one kind.
        texts: As they are, [N, E].
        motions: Of the same texts, [N, E]; NaN where there is none.
        weights: How often each text counts in each draw of recordings, [draws, N].
    """
    true = matching_distances(texts[swapped.places], motions[swapped.places])
    other = matching_distances(swapped.texts, motions[swapped.places])
    known = np.isfinite(true)
    if not known.any():
        return None
    nearer = np.where(known, (np.sign(other - true) + 1) / 2, np.nan)
    share = float(nearer[known].mean())
    interval = None
    if weights is not None:
        draws = bootstrap_draws(lambda counts: weighted_mean(nearer, counts), weights[:, swapped.places])
        interval = percentile_interval(share, draws)
    return ToldApart(num=int(known.sum()), share=share, over_recordings=interval)
