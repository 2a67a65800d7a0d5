"""Several actions one after the other, each asked for while the last one moves: segments and the transitions between.

The model is given the last codes of what it said, as a game gives them when it steers. Segments of one recording come
in the order in which they were recorded, as BABEL's labels have it; recordings are shuffled and follow each other, so
that sequences are as long as is asked for. Segments are judged as clips are; transitions, one second around each
boundary, apart from them: Frechet distance and diversity against windows of real motion, and how the jerk at the
boundary stands out from that of real motion.

Source: Barquero et al. 2024, Seamless Human Motion Composition with Blended Positional Encodings, and its code; it has
30 frames a second and asks for lengths, so its numbers do not compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_core.clips.clip import part_of
from python_core.contract.motion import Motion
from python_core.evaluation.generation import Prompt, Reply
from python_core.evaluation.metrics import Embeddings, Gaussian, diversity, frechet_distance
from python_core.evaluation.protocols import Sample
from python_core.evaluation.reply_file import Speaker
from python_core.vqvae import FRAMES_PER_CODE

TRANSITION_S = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class SpokenSequence:
    """What a model said to a sequence of captions."""

    replies: tuple[Reply, ...]

    @property
    def codes(self) -> list[int]:
        """Of all segments, one after the other; a malformed reply adds none."""
        return [code for reply in self.replies for code in reply.codes]

    @property
    def frames(self) -> list[tuple[int, int]]:
        """First frame and end of each segment; empty where its reply is malformed."""
        ends = np.cumsum([FRAMES_PER_CODE * len(reply.codes) for reply in self.replies]).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


@dataclass(frozen=True, kw_only=True)
class TransitionScores:
    """Windows around boundaries against windows of real motion."""

    num: int
    fid: float
    diversity: float
    diversity_from_real: float
    peak_jerk_m: float
    """Largest mean over transitions of `frame_jerk`, at any place of the window; metres a frame cubed."""
    area_under_jerk_m: float
    """Sum over the places of how far that mean is from real motion's."""


def draw_sequences(samples: Sequence[Sample], length: int, random: np.random.Generator) -> list[list[Sample]]:
    """Shuffle recordings, keep the parts of each in their order, and cut into sequences; what fills none is left out.

    Raises:
        ValueError: Fewer samples than one sequence takes, or a sequence of one.
    """
    if length < 2 or len(samples) < length:
        raise ValueError(f"a sequence takes 2 segments or more, and all of {length} from {len(samples)} clips")
    recordings: dict[str, list[tuple[int, Sample]]] = {}
    for sample in samples:
        name, first_frame = part_of(sample.clip.clip_id) or (sample.clip.clip_id, 0)
        recordings.setdefault(name, []).append((first_frame, sample))
    shuffled = list(recordings.values())
    chain = [
        sample
        for place in random.permutation(len(shuffled))
        for _, sample in sorted(shuffled[place], key=lambda part: part[0])
    ]
    return [chain[first : first + length] for first in range(0, len(chain) - length + 1, length)]


def speak_sequences(
    speaker: Speaker, folder: Path, sequences: Sequence[Sequence[Sample]], num_history: int, seed: Sequence[int]
) -> list[SpokenSequence]:
    """Ask for segment after segment, all sequences side by side.

    Args:
        speaker: The model.
        folder: Where replies are kept.
        sequences: All of one length.
        num_history: Codes of what was said before that each prompt is given, at most.
        seed: Of this folder.

    Raises:
        ValueError: The model has no room for prompt, history and reply.
    """
    said: list[list[Reply]] = [[] for _ in sequences]
    codes: list[list[int]] = [[] for _ in sequences]
    for place in range(len(sequences[0])):
        prompts = [
            Prompt(sequence[place].caption, tuple(before[-num_history:] if num_history else []))
            for sequence, before in zip(sequences, codes, strict=True)
        ]
        replies = speaker.reply(folder / f"segment-{place:02}.jsonl", prompts, [*seed, place])
        for number, reply in enumerate(replies):
            said[number].append(reply)
            codes[number] += reply.codes
    return [SpokenSequence(replies=tuple(replies)) for replies in said]


def boundaries(sequence: SpokenSequence) -> list[int]:
    """Frames at which one segment ends and the next begins."""
    last = sequence.frames[-1][1]
    return sorted({end for _, end in sequence.frames if 0 < end < last})


def windows_at(num_frames: int, places: Sequence[int], frame_rate_hz: float) -> list[tuple[int, int]]:
    """Frames of a transition around each place, those left out that a motion does not hold whole."""
    length = round(TRANSITION_S * frame_rate_hz)
    found = [(place - length // 2, place - length // 2 + length) for place in places]
    return [(first, end) for first, end in found if first >= 0 and end <= num_frames]


def draw_windows(num_frames: int, frame_rate_hz: float, random: np.random.Generator) -> list[tuple[int, int]]:
    """One window of a transition's length anywhere in a real motion; none in a shorter one."""
    length = round(TRANSITION_S * frame_rate_hz)
    if num_frames < length:
        return []
    first = int(random.integers(num_frames - length + 1))
    return [(first, first + length)]


def frame_jerk(motion: Motion, window: tuple[int, int]) -> NDArray[np.float64]:
    """Third difference of the joint that jerks most, the sum of its parts along the axes, [frames - 3]; metres a frame
    cubed.
    """
    joints_m = motion.joint_positions_m()[window[0] : window[1]].astype(np.float64)
    return np.abs(np.diff(joints_m, n=3, axis=0)).sum(axis=-1).max(axis=-1)


def score_transitions(
    embeddings: Embeddings,
    jerks: Sequence[NDArray[np.float64]],
    real: Embeddings,
    real_jerks: Sequence[NDArray[np.float64]],
    seed: int,
) -> TransitionScores | None:
    """Compare windows with windows of real motion; None where there are fewer than 2.

    Args:
        embeddings: [N, E]
        jerks: `frame_jerk` of each.
        real: [M, E]
        real_jerks: `frame_jerk` of each.
        seed: Draws the pairs of diversity.
    """
    if min(len(embeddings), len(real)) < 2:
        return None
    mean = np.mean(jerks, axis=0)
    spread, of_real = (diversity(values, np.random.default_rng(seed)) for values in (embeddings, real))
    return TransitionScores(
        num=len(embeddings),
        fid=frechet_distance(Gaussian.of(embeddings), Gaussian.of(real)),
        diversity=spread,
        diversity_from_real=abs(spread - of_real),
        peak_jerk_m=float(mean.max()),
        area_under_jerk_m=float(np.abs(mean - np.mean(real_jerks)).sum()),
    )
