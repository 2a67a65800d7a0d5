"""What a judge says of generated motions, a row a model, real motions first.

A row's numbers are means over repeats with their 95 % intervals, as published tables have them. Where compositions
stand for few recordings, an interval over recordings stands below: that one says how sure the numbers are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from python_core.contract.motion import Motion
from python_core.contract.quality import QualityReport, measure_quality
from python_core.contract.quality_thresholds import Verdict
from python_core.evaluation.bootstrap import bootstrap_draws, percentile_interval, weighted_mean
from python_core.evaluation.metrics import (
    Embeddings,
    Estimate,
    Gaussian,
    diversity,
    frechet_distance,
    kernel_distance,
    matching_distances,
    over_repeats,
    retrieval_hits,
)
from python_core.features import exact_features


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One model in one repeat."""

    r_at_1: float
    r_at_2: float
    r_at_3: float
    fid: float
    kid: float
    mm_dist: float
    """NaN where there is no motion at all; so are the other distances."""
    diversity: float
    diversity_from_real: float
    """How far diversity is from that of the real motions."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """A model's motions in one repeat, embedded."""

    texts: Embeddings
    """[N, E]"""
    motions: Embeddings
    """[N, E]; NaN where there is no motion."""
    real: Embeddings
    """What the motions are compared with: those of the same texts, and others after them, [N or more, E]."""
    pools: NDArray[np.intp]
    """[P, pool size]"""


@dataclass(frozen=True, kw_only=True)
class QualityMeans:
    """Means of `quality` over motions."""

    num_motions: int
    report: QualityReport
    good: float
    """Share of motions with this verdict."""
    poor: float


def judged_features(motion: Motion) -> NDArray[np.float32]:
    """Exact features of a motion as a judge reads them, a row a frame, [F, D].

    Of what is sent and not of what the decoder's network says before the solver. The last frame has no next one, so it
    goes on as it did.

    Raises:
        ValueError: A single frame has no step.
    """
    joints_m = motion.joint_positions_m()
    if len(joints_m) < 2:
        raise ValueError(f"a judged motion has 2 frames or more, got {len(joints_m)}")
    return exact_features(np.concatenate([joints_m, 2 * joints_m[-1:] - joints_m[-2:-1]]), motion.frame_rate_hz)


def score(judged: Judged, random: np.random.Generator) -> Scores:
    """All scores; the same state of `random` draws the same pairs for every model."""
    hits = retrieval_hits(judged.texts, judged.motions, judged.pools).mean(axis=(0, 1))
    moves = np.isfinite(judged.motions).all(axis=1)
    seed = int(random.integers(2**63))
    spread, of_real = float("nan"), diversity(judged.real, np.random.default_rng(seed))
    fid = kid = mm_dist = float("nan")
    if moves.any():
        mm_dist = float(matching_distances(judged.texts[moves], judged.motions[moves]).mean())
    if moves.sum() > 1:
        fid = frechet_distance(Gaussian.of(judged.motions), Gaussian.of(judged.real))
        kid = kernel_distance(judged.motions, judged.real, paired=True)
        spread = diversity(judged.motions, np.random.default_rng(seed))
    return Scores(
        r_at_1=float(hits[0]),
        r_at_2=float(hits[1]),
        r_at_3=float(hits[2]),
        fid=fid,
        kid=kid,
        mm_dist=mm_dist,
        diversity=spread,
        diversity_from_real=abs(spread - of_real),
    )


def estimate_scores(repeats: Sequence[Scores]) -> dict[str, Estimate]:
    """Means and intervals over repeats, by the names in `Scores`."""
    return {field.name: over_repeats([getattr(scores, field.name) for scores in repeats]) for field in fields(Scores)}


def bootstrap_scores(
    repeats: Sequence[Judged], weights: NDArray[np.float64]
) -> tuple[dict[str, Estimate], dict[str, NDArray[np.float64]]]:
    """Intervals over recordings, and the draws that they are of: those of two models belong together.

    Hits and distances of a text are averaged over repeats; FID and KID are of the first. The interval of FID is moved
    to its value (`percentile_interval`), since FID of a draw is biased; the draws are as they come.

    Args:
        repeats: The same N texts and real motions in each.
        weights: How often each text counts in each draw, [draws, N].
    """
    hits, apart = _by_text(repeats)
    first = repeats[0]
    everyone = np.ones(len(apart))

    def fid(counts: NDArray[np.float64]) -> float:
        return frechet_distance(Gaussian.of(first.motions, counts), Gaussian.of(first.real, counts))

    def kid(counts: NDArray[np.float64]) -> float:
        return kernel_distance(first.motions, first.real, counts, paired=True)

    measures = {
        "r_at_1": lambda counts: weighted_mean(hits[:, 0], counts),
        "r_at_2": lambda counts: weighted_mean(hits[:, 1], counts),
        "r_at_3": lambda counts: weighted_mean(hits[:, 2], counts),
        "mm_dist": lambda counts: weighted_mean(apart, counts),
        "fid": fid,
        "kid": kid,
    }
    estimates, draws = {}, {}
    for name, measure in measures.items():
        (value,) = bootstrap_draws(measure, everyone[None])
        draws[name] = bootstrap_draws(measure, weights)
        if (estimate := percentile_interval(float(value), draws[name], recentre=name == "fid")) is not None:
            estimates[name] = estimate
    return estimates, draws


def measure_motions(motions: Sequence[Motion]) -> QualityMeans | None:
    """Quality of motions that are long enough for it; None where none is."""
    reports = [measure_quality(motion) for motion in motions if motion.num_frames >= 4]
    if not reports:
        return None
    names = [field.name for field in fields(QualityReport)]
    verdicts = [report.verdict for report in reports]
    return QualityMeans(
        num_motions=len(reports),
        report=QualityReport(**{name: float(np.mean([getattr(r, name) for r in reports])) for name in names}),
        good=verdicts.count(Verdict.GOOD) / len(reports),
        poor=verdicts.count(Verdict.POOR) / len(reports),
    )


def _by_text(repeats: Sequence[Judged]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hits [N, 3] and distance [N] of each text, means over the repeats in which it was in a pool, and had a motion."""
    num = len(repeats[0].texts)
    hits = np.full((len(repeats), num, 3), np.nan)
    apart = np.stack([matching_distances(judged.texts, judged.motions) for judged in repeats])
    for place, judged in enumerate(repeats):
        hits[place, judged.pools] = retrieval_hits(judged.texts, judged.motions, judged.pools)
    return _mean_of_numbers(hits), _mean_of_numbers(apart)


def _mean_of_numbers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is a number; NaN where nothing is."""
    known = np.isfinite(values)
    return np.where(
        known.any(axis=0), np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
    )
