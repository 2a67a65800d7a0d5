"""Real motions, a language model's and those of the nearest training captions, put before one judge.

Everything is drawn from the seed and the number of the repeat alone, so a run that goes on judges the same texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from python_core.clips.prepared import PreparedClip, PreparedClips
from python_core.contract.motion import Motion
from python_core.contract.plan import PlanError, parse_plan
from python_core.evaluation.generation import Reply, Sampling
from python_core.evaluation.judgement import Judged, Scores, judged_features, score
from python_core.evaluation.metrics import draw_pools
from python_core.evaluation.nearest_caption import NearestCaption
from python_core.evaluation.protocols import Protocol, Sample, draw_samples, group_texts
from python_core.evaluation.reply_file import Speaker
from python_core.evaluators.evaluator import Evaluator
from python_core.evaluators.published_judge import PublishedJudge
from python_core.features import features_to_motion
from python_core.motion_tokenizer import MotionTokenizer
from python_core.processes import process_index
from python_core.vqvae import FRAMES_PER_CODE

REAL, NEAREST, OURS = "real", "nearest caption", "ours"
AT_ONCE = 64
"""Replies that are decoded side by side."""
NOTE = (
    "Numbers of a judge that was trained here do not compare with published ones. The model chooses how long a motion "
    "is. A malformed reply is no motion: it misses in R-Precision and is left out of all else."
)


def say_how_drawn(sampling: Sampling) -> str:
    """How replies were drawn, a sentence for the table."""
    held = "as the bridge draws them" if sampling.constrained else "free of the grammar"
    reasoning = "with" if sampling.reasoning else "without"
    return (
        f"Replies are drawn {held}, {reasoning} reasoning, at temperature {sampling.temperature:g}, "
        f"{sampling.depth_temperature:g} times that for the levels of a code after its first, "
        f"{sampling.reasoning_temperature:g} times that for the reasoning, and top-p {sampling.top_p:g}."
    )


@dataclass(frozen=True, eq=False)
class Spoken:
    """A language model, and what turns its codes into motion."""

    speaker: Speaker
    motion_tokenizer: MotionTokenizer


@dataclass(frozen=True, eq=False, kw_only=True)
class Repeat:
    """The texts of one repeat, and the real motions."""

    number: int
    samples: list[Sample]
    texts: NDArray[np.float32]
    """[N, E]"""
    real: NDArray[np.float32]
    """[N, E]"""
    real_again: NDArray[np.float32]
    """Other pieces of the same clips; the Frechet distance to them is what pieces alone make."""
    pools: NDArray[np.intp]

    def judged(self, motions: NDArray[np.float32], real: NDArray[np.float32] | None = None) -> Judged:
        return Judged(texts=self.texts, motions=motions, real=self.real if real is None else real, pools=self.pools)

    def score(self, judged: Judged, seed: int) -> Scores:
        return score(judged, np.random.default_rng([seed, self.number, 3]))


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """Judge, clips and rules."""

    judge: Evaluator
    prepared: PreparedClips
    """Whose clips are evaluated."""
    clips: list[PreparedClip]
    protocol: Protocol
    seed: int
    meanings: Mapping[str, str] = field(default_factory=dict)
    """What compositions say, by their ids; see `group_texts`."""

    def repeat(self, number: int) -> Repeat:
        """Draw texts, pieces and pools of a repeat, and embed what is real.

        Raises:
            ValueError: Not enough texts that say different things for a pool.
        """
        rate = self.prepared.frame_rate_hz
        samples, again = (
            draw_samples(self.clips, self.protocol, rate, np.random.default_rng([self.seed, number, draw]))
            for draw in (0, 1)
        )
        groups = group_texts(samples, self.meanings) if self.protocol.apart else None
        return Repeat(
            number=number,
            samples=samples,
            texts=self.judge.embed_texts([sample.caption for sample in samples]),
            real=self._embed_pieces(samples),
            real_again=self._embed_pieces(again),
            pools=draw_pools(groups, len(samples), np.random.default_rng([self.seed, number, 2])),
        )

    def _embed_pieces(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        if isinstance(self.judge, PublishedJudge):
            whole = [np.array(self.prepared.features(sample.clip)) for sample in samples]
            return self.judge.embed_pieces(whole, [(one.first, one.first + one.num_rows) for one in samples])
        return self.judge.embed_motions([sample.features(self.prepared) for sample in samples])

    def embed(self, motions: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
        """Embeddings of features, [N, E]; NaN for what is missing."""
        found = [rows for rows in motions if rows is not None]
        width = self.judge.embed_texts([self.clips[0].captions[0]]).shape[1]
        embedded = np.full((len(motions), width), np.nan, dtype=np.float32)
        if found:
            embedded[[rows is not None for rows in motions]] = self.judge.embed_motions(found)
        return embedded


class NearestMotions:
    """Motions of the training clips with the nearest captions."""

    def __init__(self, training: PreparedClips, protocol: Protocol) -> None:
        clips = [clip for clip in training.split("train") if clip.num_rows >= FRAMES_PER_CODE]
        self.training, self.captions = training, NearestCaption(clips)
        self.longest = int(protocol.longest_s * training.frame_rate_hz + 1e-6)

    def find(self, prompts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Features of whole codes, [F, D] each; one array where several prompts have one clip."""
        found: dict[str, NDArray[np.float32]] = {}
        clips = self.captions.find(prompts)
        for clip in clips:
            if clip.clip_id not in found:
                rows = self.training.features(clip)[: self.longest]
                found[clip.clip_id] = np.array(rows[: len(rows) // FRAMES_PER_CODE * FRAMES_PER_CODE])
        return [found[clip.clip_id] for clip in clips]


def decode(replies: Sequence[Reply], tokenizer: MotionTokenizer) -> list[Motion | None]:
    """Motions of replies; None for a malformed one, of which no motion is made."""
    series = [reply.codes for reply in replies if reply.codes]
    starts = track(range(0, len(series), AT_ONCE), "decoding", disable=len(series) < 2 or process_index() > 0)
    motions = (motion for first in starts for motion in tokenizer.decode_all(series[first : first + AT_ONCE]))
    return [next(motions) if reply.codes else None for reply in replies]


def features_of(motions: Sequence[Motion | None]) -> list[NDArray[np.float32] | None]:
    """Features of motions as the judge reads them, [F, D] each."""
    return [None if motion is None else judged_features(motion) for motion in motions]


def motions_of(rows: Sequence[NDArray[np.float32]], frame_rate_hz: float) -> list[Motion]:
    """Motions of features, for measures of quality."""
    return [features_to_motion(features, frame_rate_hz) for features in rows]


@dataclass(frozen=True, kw_only=True)
class ReplyShares:
    """What replies are like, apart from their motion."""

    well_formed: float
    planned: float | None
    """Share of well-formed replies whose reasoning is a plan; None where none is well-formed, or none has reasoning."""
    planned_error_s: float | None
    """Mean difference between how long those plans are and their motions; None without plans."""
    as_long_as_planned: float | None
    """Share of those motions that differ from their plans by at most a code; None without plans."""


def measure_replies(replies: Sequence[Reply], speaker: Speaker, frame_rate_hz: float) -> ReplyShares:
    """Count what is well-formed, and hold plans against the motions that follow them."""
    well_formed = [reply for reply in replies if reply.parsed is not None]
    code_s = FRAMES_PER_CODE / frame_rate_hz
    errors_s, num_reasoned = [], 0
    for reply in well_formed:
        text = speaker.reasoning(reply)
        if text is None:
            continue
        num_reasoned += 1
        try:
            plan = parse_plan(text)
        except PlanError:
            continue
        errors_s.append(abs(plan.duration_s - code_s * len(reply.codes)))
    return ReplyShares(
        well_formed=len(well_formed) / len(replies),
        planned=len(errors_s) / len(well_formed) if num_reasoned else None,
        planned_error_s=float(np.mean(errors_s)) if errors_s else None,
        # Durations of plans are whole tenths of a second.
        as_long_as_planned=float(np.mean([error_s <= code_s + 1e-6 for error_s in errors_s])) if errors_s else None,
    )
