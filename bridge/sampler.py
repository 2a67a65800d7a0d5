"""Draws next tokens from logits: allowed ids, temperature, top-p, seed.

There is no repetition penalty: held poses repeat codes. Many rows are drawn at once; a row's token is the same as if it
had been drawn alone, because sums run along a row from left to right and what fills a row up adds nothing to them.
"""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from python_core.contract.bundle import BundleError

FEW = 4096
"""Rows with at most so many tokens to choose from are drawn together; others, which write text, one by one."""
FARTHEST = 30.0
"""A token that is less likely than e to the minus this times the likeliest is not drawn as text; in a vocabulary of a
million, all of them together have one chance in ten million."""


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
        self._numbers = _random_numbers(seed)
        self.temperature, self.top_p = temperature, top_p

    def colder(self, times: float) -> "Sampler":
        """One that draws the same random numbers at a multiple of the temperature."""
        other = copy.copy(self)
        other.temperature *= times
        return other

    def draw(self, logits: NDArray[np.float32], allowed: Sequence[range]) -> int:
        """Choose a token.

        Args:
            logits: Of the next token, [V].
            allowed: Ids that may be chosen, at least one.

        Raises:
            BundleError: An allowed token's logit is not finite.
        """
        drawn = draw([logits], [allowed], [self])[0]
        if isinstance(drawn, BundleError):
            raise drawn
        return drawn

    def random(self) -> float:
        """The next random number, from 0 to less than 1."""
        return next(self._numbers)


def _random_numbers(seed: int) -> Iterator[float]:
    """From 0 to less than 1, asked for many at a time: numpy takes as long for one."""
    random = np.random.Generator(np.random.Philox(seed))
    while True:
        yield from random.random(32).tolist()


def draw(
    logits: Sequence[NDArray[np.float32]], allowed: Sequence[Sequence[range]], samplers: Sequence[Sampler]
) -> list[int | BundleError]:
    """Choose a token for each row; an error for a row with an allowed logit that is not finite.

    Args:
        logits: Of each row's next token, [V].
        allowed: Ids that may be chosen in each row, at least one.
        samplers: Of each row.
    """
    drawn: list[int | BundleError] = [0] * len(logits)
    sizes = [sum(map(len, ranges)) for ranges in allowed]
    few = [row for row, size in enumerate(sizes) if size <= FEW]
    if few:
        scores = np.full((len(few), max(sizes[row] for row in few)), -np.inf)
        for place, row in enumerate(few):
            first = 0
            for ids in allowed[row]:
                scores[place, first : first + len(ids)] = logits[row][ids.start : ids.stop]
                first += len(ids)
        finite = np.isfinite(scores).sum(axis=1) == [sizes[row] for row in few]
        for row, choice in zip(few, _choose_where(finite, scores, [samplers[row] for row in few]), strict=True):
            drawn[row] = choice if isinstance(choice, BundleError) else _nth(allowed[row], choice)
    for row, size in enumerate(sizes):
        if size > FEW:
            drawn[row] = _draw_text(logits[row], allowed[row], samplers[row])
    return drawn


def _choose_where(
    finite: NDArray[np.bool_], scores: NDArray[np.float64], samplers: Sequence[Sampler]
) -> list[int | BundleError]:
    """Columns that are drawn, and an error for each other row."""
    scores[~finite] = 0
    choices = _choose(scores, samplers).tolist()
    return [choice if whole else not_finite() for choice, whole in zip(choices, finite.tolist(), strict=True)]


def _draw_text(logits: NDArray[np.float32], allowed: Sequence[range], sampler: Sampler) -> int | BundleError:
    parts = [logits[ids.start : ids.stop] for ids in allowed]
    if not all(np.isfinite(part).all() for part in parts):
        return not_finite()
    floor = max(part.max() for part in parts) - FARTHEST * sampler.temperature
    token_ids = np.concatenate(
        [np.flatnonzero(part >= floor) + ids.start for part, ids in zip(parts, allowed, strict=True)]
    )
    return int(token_ids[_choose(logits[token_ids].astype(np.float64)[None], [sampler])[0]])


def _choose(scores: NDArray[np.float64], samplers: Sequence[Sampler]) -> NDArray[np.int64]:
    """Columns that are drawn, [rows, N] -> [rows].

    Of the likeliest tokens only the smallest set is left whose probability reaches top-p, and what is as likely as the
    least of them.

    Source: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration.
    """
    temperatures = np.array([sampler.temperature for sampler in samplers])
    greedy = temperatures == 0
    top_p = np.array([sampler.top_p for sampler in samplers])
    temperatures[greedy] = 1
    best = scores.max(axis=1, keepdims=True)
    weights = np.exp((scores - best) / temperatures[:, None])
    if (top_p < 1).any():
        ordered = np.sort(weights, axis=1)[:, ::-1]
        reached = np.cumsum(ordered, axis=1)
        last = (reached < (top_p * reached[:, -1])[:, None]).sum(axis=1)
        least = ordered[np.arange(len(last)), np.minimum(last, scores.shape[1] - 1)]
        weights *= (weights >= least[:, None]) | (top_p == 1)[:, None]
    cumulative = np.cumsum(weights, axis=1)
    random = np.array([sampler.random() if sampler.temperature else 0.0 for sampler in samplers])
    whole = cumulative[:, -1]
    aims = np.minimum(random * whole, np.nextafter(whole, 0))
    drawn = (cumulative <= aims[:, None]).sum(axis=1)
    return np.where(greedy, scores.argmax(axis=1), drawn) if greedy.any() else drawn


def _nth(ranges: Sequence[range], index: int) -> int:
    for ids in ranges:
        if index < len(ids):
            return ids[index]
        index -= len(ids)
    raise AssertionError("the index is within the ranges")


def not_finite() -> BundleError:
    """What logits mean that are no numbers."""
    return BundleError("the language model wrote logits that are not finite; export the bundle again")
