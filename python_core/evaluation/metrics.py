"""How well generated motions fit their texts and the real motions, from embeddings by an evaluator.

Embeddings are [N, E], float64 inside. A reply that is no motion has an embedding of NaN: it misses in R-Precision, is
nobody's neighbour, and is left out of all else; how many there are stands beside every table.

Source: Guo et al. 2022, Generating Diverse and Natural 3D Human Motions from Text; Binkowski et al. 2018, Demystifying
MMD GANs, for the kernel distance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.floating]

POOL_SIZE = 32
DIVERSITY_PAIRS = 300
MULTIMODALITY_PAIRS = 10
TIE_SHARE = 1e-9
"""Distances nearer to each other than this share of the smaller one are equal but for rounding."""


def distances(texts: Embeddings, motions: Embeddings) -> NDArray[np.float64]:
    """Euclidean distances, [N, E] and [M, E] -> [N, M]; infinite from and to what is not a motion."""
    left, right = _checked(texts, "texts"), _checked(motions, "motions")
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"embeddings of one width expected, got {left.shape[1]} and {right.shape[1]}")
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.sqrt(np.nan_to_num(squares, nan=np.inf).clip(0))


def retrieval_hits(texts: Embeddings, motions: Embeddings, pools: NDArray[np.intp]) -> NDArray[np.float64]:
    """Whether each text's own motion is among its 1, 2 and 3 nearest of its pool.

    Where others are exactly as near, the hit counts with the chance that a random order of them gives: a model whose
    embeddings are all the same scores as guessing does.

    Args:
        texts: [N, E]
        motions: [N, E], in the same order.
        pools: Rows that are compared with each other, [P, pool size]; no row twice.

    Returns:
        [P, pool size, 3], between 0 and 1. Its mean over the first two is R-Precision.
    """
    hits = [hits_of_pool(distances(texts[pool], motions[pool])) for pool in pools]
    return np.array(hits).reshape(*pools.shape, 3)


def hits_of_pool(apart: NDArray[np.floating]) -> NDArray[np.float64]:
    """The same for one pool, from the distances of its texts to its motions, [P, P], 0 or more -> [P, 3]."""
    ranks = np.arange(1, 4)
    moves = np.isfinite(np.diagonal(apart))[:, None]
    own = np.where(moves, np.diagonal(apart)[:, None], 0)
    closer = (apart < own * (1 - TIE_SHARE)).sum(axis=1)[:, None]
    # The own motion is one of those that are as near as it.
    equal = (apart <= own * (1 + TIE_SHARE)).sum(axis=1)[:, None] - closer
    return np.where(moves, ((ranks - closer) / np.maximum(equal, 1)).clip(0, 1), 0)


def matching_distances(texts: Embeddings, motions: Embeddings) -> NDArray[np.float64]:
    """Distance of each text to its own motion, [N]; NaN where that is no motion. Its mean is MM-Dist."""
    return np.linalg.norm(_checked(texts, "texts") - _checked(motions, "motions"), axis=1)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and spread of embeddings."""

    mean: NDArray[np.float64]
    """[E]"""
    factor: NDArray[np.float64]
    """The covariance is factor.T @ factor, [R, E]; fewer rows than E where there are fewer embeddings."""

    @classmethod
    def of(cls, embeddings: Embeddings, weights: NDArray[np.floating] | None = None) -> "Gaussian":
        """Fit one.

        Args:
            embeddings: [N, E]; what is no motion is left out.
            weights: How many times each counts, [N]; None counts each once.

        Raises:
            ValueError: Fewer than 2 motions, which have no spread.
        """
        _, counted, counts = _counted(embeddings, weights)
        total = counts.sum()
        if len(counted) < 2 or total <= 1:
            raise ValueError(f"a spread needs at least 2 motions, got {len(counted)}")
        mean = counts @ counted / total
        factor = (counted - mean) * np.sqrt(counts / (total - 1))[:, None]
        if len(factor) > factor.shape[1]:
            factor = np.asarray(np.linalg.qr(factor, mode="r"))
        return cls(mean, factor)


def frechet_distance(generated: Gaussian, real: Gaussian) -> float:
    """FID: the Frechet distance of two Gaussians, |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    With C = F^T F the last trace is the sum of the singular values of F1 F2^T, which needs no square root of a matrix
    and no full rank.
    """
    spread = (generated.factor**2).sum() + (real.factor**2).sum()
    shared = np.linalg.svd(generated.factor @ real.factor.T, compute_uv=False).sum()
    # Of equal Gaussians rounding may leave less than nothing.
    return max(float(((generated.mean - real.mean) ** 2).sum() + spread - 2 * shared), 0.0)


def kernel_distance(
    generated: Embeddings,
    real: Embeddings,
    weights: NDArray[np.floating] | None = None,
    paired: bool = False,
) -> float:
    """KID: the squared maximum mean discrepancy under the kernel (x . y / E + 1)^3, without bias, so that it may be
    negative; unlike FID it does not depend on how many motions there are.

    Args:
        generated: [N, E]; what is no motion is left out.
        real: [M, E]
        weights: How many times each row of both counts, [N]; None counts each once.
        paired: Row i of both belongs to one text. Such rows resemble each other more than two texts do, and are not
            held against each other, as a row is not held against itself.

    Raises:
        ValueError: Fewer than 2 motions on either side, or sides of different lengths with weights.

    Source: Gretton et al. 2012, A Kernel Two-Sample Test, equation 5, for pairs.
    """
    left_places, left, left_counts = _counted(generated, weights)
    right_places, right, right_counts = _counted(real, weights)
    if min(len(left), len(right)) < 2:
        raise ValueError(f"a kernel distance needs 2 motions a side, got {len(left)} and {len(right)}")

    def kernel(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        return (first @ second.T / first.shape[1] + 1) ** 3

    def within(values: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
        # A motion that counts twice is not a pair with itself.
        return _weighted_mean(kernel(values, values), counts, counts, ~np.eye(len(values), dtype=np.bool_))

    held = left_places[:, None] != right_places if paired else np.ones((len(left), len(right)), dtype=np.bool_)
    across = _weighted_mean(kernel(left, right), left_counts, right_counts, held)
    return within(left, left_counts) + within(right, right_counts) - 2 * across


def diversity(motions: Embeddings, random: np.random.Generator, num_pairs: int = DIVERSITY_PAIRS) -> float:
    """Mean distance of random pairs, as the published code draws them; of fewer motions as many pairs as there are.

    Raises:
        ValueError: Fewer than 2 motions.
    """
    _, found, _ = _counted(motions, None)
    if len(found) < 2:
        raise ValueError(f"diversity needs at least 2 motions, got {len(found)}")
    num_pairs = min(num_pairs, len(found))
    first, second = (random.choice(len(found), num_pairs, replace=False) for _ in range(2))
    return float(np.linalg.norm(found[first] - found[second], axis=1).mean())


def multimodality(
    motions: Embeddings, random: np.random.Generator, num_pairs: int = MULTIMODALITY_PAIRS
) -> float | None:
    """How much the motions of one text differ: mean distance of random pairs of its motions.

    Args:
        motions: [texts, motions of each, E]; what is no motion is left out, and a text with fewer than 2.
        random: Draws the pairs.
        num_pairs: Of each text; of fewer motions as many as there are.

    Returns:
        None where no text has 2 motions.
    """
    means = []
    for of_text in motions:
        _, found, _ = _counted(of_text, None)
        if len(found) > 1:
            first, second = (random.choice(len(found), min(num_pairs, len(found)), replace=False) for _ in range(2))
            means.append(np.linalg.norm(found[first] - found[second], axis=1).mean())
    return float(np.mean(means)) if means else None


@dataclass(frozen=True)
class Estimate:
    """A number and the 95 % interval that it is in."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def over_repeats(values: list[float]) -> Estimate:
    """Mean of repeated runs, +- 1.96 standard deviations / sqrt(repeats), as the published tables have it.

    Raises:
        ValueError: No value.
    """
    if not values:
        raise ValueError("an estimate needs at least one repeat, got none")
    mean = float(np.mean(values))
    half = 1.96 * float(np.std(values)) / np.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def draw_pools(
    groups: NDArray[np.intp] | None, num: int, random: np.random.Generator, size: int = POOL_SIZE
) -> NDArray[np.intp]:
    """Shuffle and cut into pools; what fills no pool is left out.

    Args:
        groups: Texts that say the same have the same number and are never in one pool, [num]; None for texts as they
            come, which is what the published protocols do.
        num: How many texts there are.
        random: Shuffles.
        size: Of a pool.

    Returns:
        [P, size]

    Raises:
        ValueError: Not enough texts, or not enough different ones, for a single pool.
    """
    order = random.permutation(num)
    num_pools = num // size
    if groups is not None:
        # Texts of a group follow each other and are dealt to one pool after the other; no group is larger than that.
        ranks = random.permutation(int(groups.max(initial=-1)) + 1)
        order = order[np.argsort(ranks[groups[order]], kind="stable")]
        places = np.arange(num) - np.searchsorted(ranks[groups[order]], ranks[groups[order]])
        while num_pools and (places < num_pools).sum() // size < num_pools:
            num_pools = int((places < num_pools).sum()) // size
        order = order[places < num_pools]
    if not num_pools:
        raise ValueError(
            f"a pool takes {size} texts that say different things, got {num} texts"
            + ("" if groups is None else f" of {len(np.unique(groups))} kinds")
        )
    dealt = order[: num_pools * size].reshape(size, num_pools).T
    return np.stack([random.permutation(pool) for pool in dealt])


def _checked(embeddings: Embeddings, name: str) -> NDArray[np.float64]:
    if embeddings.ndim != 2:
        raise ValueError(f"{name}: embeddings [N, E] expected, got {embeddings.shape}")
    return embeddings.astype(np.float64)


def _weighted_mean(
    values: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64], held: NDArray[np.bool_]
) -> float:
    """Mean of the values [n, m] that are held, each counted as often as its row and its column together."""
    return float(rows @ np.where(held, values, 0) @ columns / (rows @ held @ columns))


def _counted(
    embeddings: Embeddings, weights: NDArray[np.floating] | None
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Places of what is of a motion and counts, the embeddings, and how many times, [n], [n, E] and [n]."""
    found = _checked(embeddings, "motions")
    counts = np.ones(len(found)) if weights is None else weights.astype(np.float64)
    if counts.shape != (len(found),):
        raise ValueError(f"weights: one for each of {len(found)} motions expected, got {counts.shape}")
    kept = np.flatnonzero(np.isfinite(found).all(axis=1) & (counts > 0))
    return kept, found[kept], counts[kept]
