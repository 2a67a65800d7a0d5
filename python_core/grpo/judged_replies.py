"""What the judge says of a model in training: replies to captions of compositions of val clips, beside those.

The half of the compositions that chooses weights is in no table of `evaluate`, since scores on it were picked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_core.evaluation.bootstrap import bootstrap_draws
from python_core.evaluation.metrics import (
    POOL_SIZE,
    Embeddings,
    Gaussian,
    diversity,
    draw_pools,
    frechet_distance,
    kernel_distance,
    matching_distances,
    retrieval_hits,
)
from python_core.evaluation.protocols import PROTOCOLS, choose_clips, draw_samples, group_texts
from python_core.evaluation.val_composed import ValComposed
from python_core.evaluators.evaluator import Evaluator

MIN_KINDS = 4
"""Of fewer texts that say different things, each would be among the 3 nearest."""
SPREAD_DRAWS = 100


@dataclass(frozen=True, kw_only=True)
class JudgedReplies:
    """One step of a run."""

    step: int
    r_at_3: float
    """Share of the texts whose reply is among the 3 nearest of its pool."""
    mm_dist: float
    kid: float
    kid_spread: float
    """Standard deviation of `kid`, if the texts were drawn again."""
    fid: float
    """Of far fewer motions than it has dimensions: to be compared with other steps only."""
    diversity_over_real: float
    """1 where replies differ from each other as the compositions do."""

    def is_better(self, other: "JudgedReplies") -> bool:
        """Whether its motions fit their texts better; a tie is decided by MM-Dist."""
        return (self.r_at_3, -self.mm_dist) > (other.r_at_3, -other.mm_dist)

    def has_drifted(self, start: "JudgedReplies") -> bool:
        """Whether its motions are less like real ones than they were, by more than chance."""
        return self.kid > start.kid + start.kid_spread


class HeldOutTexts:
    """Captions that a model in training answers, the same ones at every measure.

    Args:
        judge: Measures.
        composed: Compositions of val clips, of which the half for choosing is taken.
        num: Captions; of fewer compositions as many as there are.
        seed: Draws compositions, captions, pieces and pools.

    Raises:
        ValueError: The compositions of the half do not say `MIN_KINDS` different things.
    """

    def __init__(self, judge: Evaluator, composed: ValComposed, num: int, seed: int) -> None:
        self.judge, self.seed = judge, seed
        protocol, prepared = PROTOCOLS["val_composed"], composed.prepared
        clips = [clip for clip in choose_clips(prepared, protocol) if composed.is_for_choosing(clip.clip_id)]
        random = np.random.default_rng(seed)
        places = random.choice(len(clips), min(num, len(clips)), replace=False) if clips else []
        samples = draw_samples([clips[place] for place in places], protocol, prepared.frame_rate_hz, random)
        kinds = group_texts(samples, composed.meanings)
        num_kinds = len(np.unique(kinds))
        if num_kinds < MIN_KINDS:
            raise ValueError(
                f"choosing weights takes captions that say at least {MIN_KINDS} different things, got {num_kinds} from "
                f"{len(clips)} compositions; raise judge_replies or composed.num, or take --judge None"
            )
        self.captions = [sample.caption for sample in samples]
        self.pools = draw_pools(kinds, len(samples), random, min(POOL_SIZE, num_kinds))
        self.texts = judge.embed_texts(self.captions)
        self.real = judge.embed_motions([sample.features(prepared) for sample in samples])

    def measure(self, step: int, motions: Sequence[NDArray[np.float32]]) -> JudgedReplies:
        """Judge the replies to `captions`, exact features [F, D] each."""
        return judge_replies(step, self.texts, self.judge.embed_motions(motions), self.real, self.pools, self.seed)


def judge_replies(
    step: int, texts: Embeddings, motions: Embeddings, real: Embeddings, pools: NDArray[np.intp], seed: int
) -> JudgedReplies:
    """Measure motions that are embedded.

    Args:
        step: When they were made.
        texts: [N, E]
        motions: [N, E], in the same order.
        real: The compositions of these texts, [N, E].
        pools: Texts that are compared with each other, [P, pool size].
        seed: Of the draws.
    """
    num = len(texts)
    counts = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=SPREAD_DRAWS)
    kids = bootstrap_draws(lambda weights: kernel_distance(motions, real, weights, paired=True), counts.astype(float))
    spread, of_real = (diversity(found, np.random.default_rng(seed)) for found in (motions, real))
    return JudgedReplies(
        step=step,
        r_at_3=float(retrieval_hits(texts, motions, pools)[..., 2].mean()),
        mm_dist=float(matching_distances(texts, motions).mean()),
        kid=kernel_distance(motions, real, paired=True),
        kid_spread=float(np.nanstd(kids)),
        fid=frechet_distance(Gaussian.of(motions), Gaussian.of(real)),
        diversity_over_real=spread / of_real,
    )
