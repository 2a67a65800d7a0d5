"""Rewards of replies, in TRL's form: format, motion and semantic similarity as in the paper; plan agreement, duration
and physical quality of our own.

Every reward lies in 0 to 1, 0 is the worst, and None says that it does not apply. A reply whose format fails has no
motion to judge and gets 0 from all of them. Replies are read from their token ids with the bridge's parser, and motions
are those that the bridge would send.

Source: Motion-R1 (Ouyang et al. 2025) for the first three.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils import gather
from numpy.typing import NDArray

from python_core.clips.prepared import PreparedClips
from python_core.contract.plan import Beat
from python_core.evaluation.judgement import judged_features
from python_core.evaluators.beat_captions import beat_caption
from python_core.evaluators.evaluator import Evaluator
from python_core.grpo.replies import ReplyReader, Rollout
from python_core.vqvae import FRAMES_PER_CODE

BEAT_WINDOW_S = 1.0
"""A shorter beat is looked for in a window of this length around its middle."""
ORDER_MARGIN = 0.1
"""Two beats that fit their places by this much more cosine than each other's are in order by 0.73 of 1."""
VARIANCE_FLOOR = 1e-3
"""Rewards of a group that differ by less are the same."""
NO_EVIDENCE = 0.5
"""Order of two beats that cannot be told: they say the same, or there is one only."""
LENGTH_FITS = (0.75, 1.25)
"""A motion is as long as its clip if it is between these shares of it."""
LENGTH_FAILS = (1 / 3, 3.0)
"""At these shares and beyond it is worth nothing."""

RewardFunction = Callable[..., Sequence[float | None]]


class RewardError(ValueError):
    """A reward that is no number between 0 and 1; says which, of what, and what to do."""


class Log(Protocol):
    """TRL's `log_metric`."""

    def __call__(self, name: str, value: float) -> None: ...


@dataclass(frozen=True)
class RewardWeights:
    """How much each reward counts; 0 leaves it out."""

    format: float = 0.1
    motion_similarity: float = 0.45
    semantic_similarity: float = 0.45
    plan_agreement: float = 0.3
    duration: float = 0.1
    physical_quality: float = 0.2

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0 or not any(vars(self).values()):
            raise ValueError(f"weights of rewards are 0 or more, and one is more, got {vars(self)}")


PAPER_WEIGHTS = RewardWeights(1.0, 2.0, 2.0, 0.0, 0.0, 0.0)
"""The paper adds up format and two cosines. Ours are (1 + cosine) / 2, so twice as much of them is the paper's sum and
a constant, which the mean of the group takes out. A reply that fails counts as two cosines of -1.
"""


class Rewards:
    """Rewards of replies to prompts about known clips.

    Args:
        reader: Reads replies.
        evaluator: The reward model; its cosine says what is similar.
        prepared: The clips that the column `clip_id` names.
        group: Replies of a prompt.
        codes: Of clips, by their ids; those of others are searched for, which takes about as long as their rollouts.
    """

    def __init__(
        self,
        reader: ReplyReader,
        evaluator: Evaluator,
        prepared: PreparedClips,
        group: int,
        codes: Mapping[str, list[int]] | None = None,
    ) -> None:
        self.reader, self.evaluator, self.prepared, self.group = reader, evaluator, prepared, group
        self._codes = codes or {}
        self._clips = {clip.clip_id: clip for clip in prepared.clips}
        self._references: dict[str, NDArray[np.float32]] = {}
        self._embedded: tuple[list[Rollout | None], list[NDArray[np.float32]]] = ([], [])
        self._values: dict[str, Sequence[float | None]] = {}

    def functions(self, weights: RewardWeights) -> tuple[list[RewardFunction], list[float]]:
        """The rewards that count, and their weights; TRL calls them in this order."""
        counting = [name for name, weight in vars(weights).items() if weight > 0]
        functions = [self._checked(getattr(self, name), last=name == counting[-1]) for name in counting]
        return functions, [getattr(weights, name) for name in counting]

    def format(
        self, completion_ids: list[list[int]], reasoning_asked: list[bool], **columns: Any
    ) -> list[float | None]:
        """1 for a reply of the form that was asked for, with a plan of numbered beats if it has reasoning; else 0."""
        return [float(rollout is not None) for rollout in self.reader.read(completion_ids, reasoning_asked)]

    def motion_similarity(
        self,
        completion_ids: list[list[int]],
        reasoning_asked: list[bool],
        clip_id: list[str],
        log_metric: Log,
        **columns: Any,
    ) -> Sequence[float | None]:
        """(1 + cosine) / 2 of the motion and the caption's own clip, which has gone through its codes as well."""
        references = self._embed_references(clip_id)
        pairs = list(zip(self._embed_rollouts(completion_ids, reasoning_asked), references, strict=True))
        distances = [float(np.linalg.norm(found - wanted)) for found, wanted in pairs if found is not None]
        if distances:
            log_metric("motion_similarity/distance", float(np.mean(distances)))
        return [0.0 if found is None else _likeness(float(found @ wanted)) for found, wanted in pairs]

    def semantic_similarity(
        self, prompts: list[str], completion_ids: list[list[int]], reasoning_asked: list[bool], **columns: Any
    ) -> Sequence[float | None]:
        """(1 + cosine) / 2 of the motion and the caption."""
        wanted = self._embed_texts(prompts)
        embeddings = self._embed_rollouts(completion_ids, reasoning_asked)
        return [
            0.0 if found is None else _likeness(float(found @ wanted[prompt]))
            for found, prompt in zip(embeddings, prompts, strict=True)
        ]

    def plan_agreement(
        self, completion_ids: list[list[int]], reasoning_asked: list[bool], num_beats: list[int], **columns: Any
    ) -> list[float | None]:
        """How well each beat is seen in its part of the motion, times how far the beats are in the plan's order, times
        how near their number is to `num_beats`, that of the prompt's known plan.

        The motion is cut into parts as long, relative to each other, as the beats. Two beats are in order if they fit
        their own parts better than each other's. Without a plan there is nothing to agree with.
        """
        rollouts = self.reader.read(completion_ids, reasoning_asked)
        beats = [rollout.plan.beats if rollout and rollout.plan else () for rollout in rollouts]
        texts = self._embed_texts([beat_caption(beat.text) for of_reply in beats for beat in of_reply])
        windows = [
            window
            for rollout, of_reply in zip(rollouts, beats, strict=True)
            if rollout
            for window in beat_windows(rollout.rows, of_reply, rollout.motion.frame_rate_hz)
        ]
        embedded = iter(_unit(self.evaluator.embed_motions(windows)) if windows else ())
        values: list[float | None] = []
        for rollout, of_reply, num_known in zip(rollouts, beats, num_beats, strict=True):
            if rollout is None:
                values.append(0.0)
            elif not of_reply:
                values.append(None)
            else:
                seen = np.stack([next(embedded) for _ in of_reply])
                cosines = np.stack([texts[beat_caption(beat.text)] for beat in of_reply]) @ seen.T
                values.append(agreement(cosines, of_reply, num_known))
        return values

    def duration(
        self, completion_ids: list[list[int]], reasoning_asked: list[bool], clip_id: list[str], **columns: Any
    ) -> list[float | None]:
        """How well the motion's length fits the clip's, a person's choice and not the only good one, times the shorter
        over the longer of plan and motion, which is 1 where they differ by no more than a code. Without a plan the
        clip's length alone counts.
        """
        values: list[float | None] = []
        for rollout, name in zip(self.reader.read(completion_ids, reasoning_asked), clip_id, strict=True):
            if rollout is None:
                values.append(0.0)
                continue
            rate_hz = rollout.motion.frame_rate_hz
            value = length_fit(rollout.motion.num_frames / self._clips[name].num_rows)
            if rollout.plan is not None:
                shorter_s, longer_s = sorted((rollout.plan.duration_s, rollout.motion.duration_s))
                # Durations of plans are whole tenths of a second.
                as_planned = longer_s - shorter_s <= FRAMES_PER_CODE / rate_hz + 1e-6
                value *= 1.0 if as_planned else shorter_s / longer_s
            values.append(value)
        return values

    def physical_quality(
        self, completion_ids: list[list[int]], reasoning_asked: list[bool], **columns: Any
    ) -> list[float | None]:
        """The score that the bridge reports with a motion. Held poses cost nothing."""
        rollouts = self.reader.read(completion_ids, reasoning_asked)
        return [rollout.quality.score if rollout else 0.0 for rollout in rollouts]

    def _embed_rollouts(
        self, completion_ids: list[list[int]], reasoning_asked: list[bool]
    ) -> list[NDArray[np.float32] | None]:
        """Embeddings of length 1 of motions, made once a batch; None where there is none."""
        rollouts = self.reader.read(completion_ids, reasoning_asked)
        if self._embedded[0] is not rollouts:
            rows = [rollout.rows for rollout in rollouts if rollout]
            self._embedded = (rollouts, list(_unit(self.evaluator.embed_motions(rows))) if rows else [])
        embeddings = iter(self._embedded[1])
        return [next(embeddings) if rollout else None for rollout in rollouts]

    def _embed_references(self, clip_ids: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embeddings of clips that went through their codes, each made when it is first asked for."""
        for clip_id in clip_ids:
            if clip_id not in self._references:
                # One alone, so that its numbers do not depend on which clips came with it.
                tokenizer, codes = self.reader.motion_tokenizer, self._codes.get(clip_id)
                if codes is None:
                    (codes,) = tokenizer.encode([np.array(self.prepared.features(self._clips[clip_id]))])
                self._references[clip_id] = _unit(
                    self.evaluator.embed_motions([judged_features(tokenizer.decode(codes))])
                )[0]
        return [self._references[clip_id] for clip_id in clip_ids]

    def _embed_texts(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        different = list(dict.fromkeys(texts))
        return dict(zip(different, _unit(self.evaluator.embed_texts(different)), strict=True)) if different else {}

    def _checked(self, reward: RewardFunction, last: bool) -> RewardFunction:
        """The reward, with its numbers checked, and after the last one what alarms watch, whichever rewards count."""

        @functools.wraps(reward)
        def checked(prompts: list[str], trainer_state: Any, log_metric: Log, **columns: Any) -> Sequence[float | None]:
            values = reward(prompts=prompts, log_metric=log_metric, **columns)
            for prompt, value in zip(prompts, values, strict=True):
                # Not a number is not within 0 and 1 either.
                if value is not None and not 0 <= value <= 1:
                    raise RewardError(
                        f"step {trainer_state.global_step}: {reward.__name__} of a reply to {prompt!r} is {value}, "
                        "expected 0 to 1; nothing was learned from this step. Check the reward model and the motion "
                        "tokenizer, then run again: training goes on from its last checkpoint"
                    )
            self._values[reward.__name__] = values
            if last:
                rollouts = self.reader.read(columns["completion_ids"], columns["reasoning_asked"])
                _log_replies(rollouts, columns["constrained"], log_metric)
                self._log_groups([rollout is not None for rollout in rollouts], log_metric)
                self._values = {}
            return values

        return checked

    def _log_groups(self, well_formed: Sequence[bool], log_metric: Log) -> None:
        """Of the groups of all processes: the share in which no reward tells one reply from another, and the share
        with both well-formed and malformed replies, from which the form is learned.
        """
        columns = [[math.nan if value is None else value for value in values] for values in self._values.values()]
        local = torch.tensor([well_formed, *columns], dtype=torch.float32).T.contiguous()
        values: Any = gather(local.to("cuda") if torch.cuda.is_available() else local)
        grouped = values.cpu().unflatten(0, (-1, self.group))
        spans = grouped.nan_to_num(-math.inf).amax(1) - grouped.nan_to_num(math.inf).amin(1)
        log_metric("groups_without_variance", float((spans[:, 1:] <= VARIANCE_FLOOR).all(dim=1).float().mean()))
        log_metric("groups_of_mixed_format", float(spans[:, 0].mean()))


def _log_replies(rollouts: Sequence[Rollout | None], constrained: Sequence[bool], log_metric: Log) -> None:
    """Means over the replies that have what is measured."""
    found = [rollout for rollout in rollouts if rollout is not None]
    measures = {
        "format/unconstrained": [
            rollout is not None for rollout, held in zip(rollouts, constrained, strict=True) if not held
        ],
        "plan/tokens": [rollout.num_plan_tokens for rollout in found if rollout.num_plan_tokens],
        "plan/beats": [len(rollout.plan.beats) for rollout in found if rollout.plan],
        "foot_skate_m_s": [rollout.quality.foot_skate_m_s for rollout in found],
    }
    for name, values in measures.items():
        if values:
            log_metric(name, float(np.mean(values)))


def beat_windows(rows: NDArray[np.float32], beats: Sequence[Beat], frame_rate_hz: float) -> list[NDArray[np.float32]]:
    """The part of a motion in which each beat should be, [F, D] -> [F', D] each.

    The beats share the motion as their durations say; a part shorter than `BEAT_WINDOW_S` is widened on both sides, as
    far as there is motion.
    """
    if not beats:
        return []
    ends = np.cumsum([beat.duration_s for beat in beats])
    edges = np.concatenate([[0.0], ends / ends[-1]]) * len(rows)
    shortest = min(len(rows), round(BEAT_WINDOW_S * frame_rate_hz))
    windows = []
    for start, end in pairwise(edges):
        length = max(round(end - start), shortest)
        first = min(max(round((start + end - length) / 2), 0), len(rows) - length)
        windows.append(rows[first : first + length])
    return windows


def length_fit(share: float) -> float:
    """How well a motion's length fits, from 0 to 1, by its share of the clip's length: 1 within `LENGTH_FITS`, and from
    there down to 0 at `LENGTH_FAILS`, along the logarithm of the share.
    """
    edges = np.log([LENGTH_FAILS[0], *LENGTH_FITS, LENGTH_FAILS[1]])
    return float(np.interp(math.log(share), edges, [0.0, 1.0, 1.0, 0.0]))


def agreement(cosines: NDArray[np.float32], beats: Sequence[Beat], num_known: int) -> float:
    """Agreement of a plan and a motion, 0 to 1.

    Beats that are fewer than the known plan's, or more, cost: a plan of one beat, or of one that is said again, could
    not be out of order.

    Args:
        cosines: Of each beat's text and each beat's part of the motion, [N, N].
        beats: The plan's, N.
        num_known: Beats of the plan that is known for the prompt.
    """
    presence = float(np.mean([_likeness(cosine) for cosine in np.diag(cosines)]))
    orders = []
    for i, k in combinations(range(len(beats)), 2):
        margin = cosines[i, i] + cosines[k, k] - cosines[i, k] - cosines[k, i]
        same = beats[i].text == beats[k].text
        orders.append(NO_EVIDENCE if same else 1 / (1 + math.exp(-margin / ORDER_MARGIN)))
    order = float(np.mean(orders)) if orders else NO_EVIDENCE
    coverage = min(len(beats), num_known) / max(len(beats), num_known)
    return presence * order * coverage


def _likeness(cosine: float) -> float:
    """-1 to 1 -> 0 to 1. What rounding puts outside is put back; what is no number stays none."""
    value = (1 + float(cosine)) / 2
    return value if math.isnan(value) else min(max(value, 0.0), 1.0)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors at length 1, [N, E]; one of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)
