"""Draws the next token from logits: mask, temperature, top-p, seed.

There is no repetition penalty: held poses repeat codes.
"""

import numpy as np
from numpy.typing import NDArray

from python_core.contract.bundle import BundleError

_FIRST_LOOK = 256
"""Likeliest tokens that are sorted first: most nuclei are smaller, and sorting a whole vocabulary is slow."""


class Sampler:
    """The random choices of one request; the same seed and the same logits give the same tokens.

    Raises:
        ValueError: A temperature below 0, or top-p not in (0, 1].
    """

    def __init__(self, seed: int, temperature: float, top_p: float) -> None:
        if not temperature >= 0:
            raise ValueError(f"temperature must be 0 or more, got {temperature}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be more than 0 and at most 1, got {top_p}")
        self._random = np.random.Generator(np.random.Philox(seed))
        self._temperature, self._top_p = temperature, top_p

    def draw(self, logits: NDArray[np.float32], allowed: NDArray[np.bool_]) -> int:
        """Choose a token.

        Args:
            logits: Of the next token, [V].
            allowed: Tokens that may be chosen, [V]; at least one.

        Raises:
            BundleError: An allowed token's logit is not finite.
        """
        token_ids = np.flatnonzero(allowed)
        assert token_ids.size, "a reply always has a token that may come next"
        scores = logits[token_ids].astype(np.float64)
        if not np.isfinite(scores).all():
            raise BundleError("the language model wrote logits that are not finite; export the bundle again")
        if token_ids.size == 1 or self._temperature == 0:
            return int(token_ids[scores.argmax()])
        weights = np.exp((scores - scores.max()) / self._temperature)
        candidates, weights = nucleus(weights / weights.sum(), self._top_p)
        cumulative = np.cumsum(weights)
        drawn = np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right")
        return int(token_ids[candidates[min(drawn, candidates.size - 1)]])


def nucleus(probabilities: NDArray[np.float64], top_p: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The smallest set of likeliest tokens whose probability reaches `top_p`, and their probabilities.

    Of equally likely tokens the one with the smaller index comes first.

    Source: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration.
    """
    everything = np.arange(probabilities.size)
    if top_p >= 1:
        return everything, probabilities
    indices = everything
    if probabilities.size > _FIRST_LOOK:
        floor = np.partition(probabilities, -_FIRST_LOOK)[-_FIRST_LOOK]
        likeliest = np.flatnonzero(probabilities >= floor)
        if probabilities[likeliest].sum() >= top_p:
            indices = likeliest
    indices = indices[np.argsort(-probabilities[indices], kind="stable")]
    size = int(np.searchsorted(np.cumsum(probabilities[indices]), top_p, side="left")) + 1
    indices = indices[:size]
    return indices, probabilities[indices]
