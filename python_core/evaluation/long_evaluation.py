"""Sequences of actions: segments are judged as clips are, transitions apart from them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from python_core.clips.prepared import PreparedClips
from python_core.contract.motion import Motion
from python_core.evaluation.evaluation import (
    NEAREST,
    NOTE,
    OURS,
    REAL,
    Bench,
    NearestMotions,
    Repeat,
    Spoken,
    measure_replies,
    motions_of,
    say_how_drawn,
)
from python_core.evaluation.generation import Reply
from python_core.evaluation.judgement import Judged, QualityMeans, estimate_scores, judged_features, measure_motions
from python_core.evaluation.judgement_table import Judgement, ModelRow
from python_core.evaluation.long_sequences import (
    SpokenSequence,
    TransitionScores,
    boundaries,
    draw_sequences,
    draw_windows,
    frame_jerk,
    score_transitions,
    speak_sequences,
    windows_at,
)
from python_core.evaluation.metrics import draw_pools
from python_core.evaluation.protocols import PROTOCOLS, Sample, choose_clips, group_texts
from python_core.evaluators.evaluator import Evaluator
from python_core.features import features_to_motion

if TYPE_CHECKING:
    from python_core.stages.evaluate import EvaluateConfig


class _Windows:
    """Embeddings and jerk of windows around transitions, or of real motion."""

    def __init__(self) -> None:
        self.rows: list[NDArray[np.float32]] = []
        self.jerks: list[NDArray[np.float64]] = []

    def add(self, motion: Motion, rows: NDArray[np.float32], windows: list[tuple[int, int]]) -> None:
        for first, end in windows:
            self.rows.append(rows[first:end])
            self.jerks.append(frame_jerk(motion, (first, end)))


def evaluate_sequences(
    config: "EvaluateConfig", judge: Evaluator, prepared: PreparedClips, spoken: Spoken | None
) -> Judgement:
    """All rows.

    Raises:
        ValueError: The split has too few segments for a sequence or a pool.
    """
    protocol = PROTOCOLS[config.protocol]
    clips = choose_clips(prepared, protocol, config.split)
    bench = Bench(judge=judge, prepared=prepared, clips=clips, protocol=protocol, seed=config.seed)
    nearest = NearestMotions(prepared, protocol)
    repeats = [bench.repeat(number) for number in range(config.repeats)]
    judged: dict[str, list[Judged]] = {REAL: [], NEAREST: []}
    for repeat in repeats:
        judged[REAL].append(repeat.judged(repeat.real, repeat.real_again))
        found = nearest.find([sample.caption for sample in repeat.samples])
        judged[NEAREST].append(repeat.judged(bench.embed(found)))
    transitions: dict[str, TransitionScores | None] = {}
    real = [_real_windows(prepared, repeats[0], config.seed, draw) for draw in (0, 1)]
    transitions[REAL] = _score(bench, real[1], real[0], config.seed)
    quality = {
        REAL: _quality(config, [sample.features(prepared) for sample in repeats[0].samples], prepared.frame_rate_hz),
        NEAREST: _quality(
            config, nearest.find([sample.caption for sample in repeats[0].samples]), prepared.frame_rate_hz
        ),
    }
    replies: list[Reply] = []
    if spoken is not None:
        judged[OURS] = []
        for repeat in repeats:
            order = np.random.default_rng([config.seed, 6, repeat.number])
            sequences = draw_sequences(repeat.samples, config.segments, order)
            folder = config.out / "replies" / f"repeat-{repeat.number:02}"
            said = speak_sequences(spoken.speaker, folder, sequences, config.history, [config.seed, 3, repeat.number])
            replies += [reply for sequence in said for reply in sequence.replies]
            segments, windows = _decode(said, spoken)
            judged[OURS].append(_judged(bench, repeat, sequences, segments))
            if repeat.number == 0:
                transitions[OURS] = _score(bench, windows, real[0], config.seed)
                of_segments = [rows for sequence in segments for rows in sequence if rows is not None]
                quality[OURS] = _quality(config, of_segments, prepared.frame_rate_hz)
    shares = measure_replies(replies, spoken.speaker, prepared.frame_rate_hz) if spoken is not None else None
    rows = []
    for name, of_name in judged.items():
        scores = [r.score(j, config.seed) for r, j in zip(repeats, of_name, strict=True)]
        ours = shares if name == OURS else None
        rows.append(
            ModelRow(
                name=name,
                scores=estimate_scores(scores),
                over_recordings={},
                well_formed=ours and ours.well_formed,
                planned=ours and ours.planned,
                planned_error_s=ours and ours.planned_error_s,
                as_long_as_planned=ours and ours.as_long_as_planned,
                quality=quality.get(name),
                transitions=transitions.get(name),
            )
        )
    return Judgement(
        protocol=config.protocol,
        judge=str(config.judge),
        num_texts=len(clips),
        num_repeats=config.repeats,
        num_recordings=None,
        rows=tuple(rows),
        notes=(
            NOTE,
            f"Sequences of {config.segments} actions, those of one recording in its order, each begun with "
            f"{config.history} codes of the last.",
            *([say_how_drawn(config.sampling)] if spoken is not None else []),
        ),
    )


def _quality(
    config: "EvaluateConfig", segments: Sequence[NDArray[np.float32]], frame_rate_hz: float
) -> QualityMeans | None:
    """Of as many segments as are asked for, drawn by the seed."""
    drawn = np.random.default_rng([config.seed, 9]).permutation(len(segments))[: config.quality_motions]
    return measure_motions(motions_of([segments[place] for place in sorted(drawn.tolist())], frame_rate_hz))


def _decode(said: list[SpokenSequence], spoken: Spoken) -> tuple[list[list[NDArray[np.float32] | None]], _Windows]:
    """Features of each segment of each sequence, and windows around the boundaries."""
    segments, windows = [], _Windows()
    for sequence in said:
        if not sequence.codes:
            segments.append([None] * len(sequence.replies))
            continue
        motion = spoken.motion_tokenizer.decode(sequence.codes)
        rows = judged_features(motion)
        segments.append([rows[first:end] if end > first else None for first, end in sequence.frames])
        windows.add(motion, rows, windows_at(motion.num_frames, boundaries(sequence), motion.frame_rate_hz))
    return segments, windows


def _judged(
    bench: Bench,
    repeat: Repeat,
    sequences: list[list[Sample]],
    segments: list[list[NDArray[np.float32] | None]],
) -> Judged:
    """Segments with their own texts, against all real motions of the repeat, the few that no sequence has last."""
    samples = [sample for sequence in sequences for sample in sequence]
    spoken = [sample.clip.clip_id for sample in samples]
    places = {sample.clip.clip_id: place for place, sample in enumerate(repeat.samples)}
    order = [places[clip_id] for clip_id in dict.fromkeys([*spoken, *places])]
    pools = draw_pools(
        group_texts(samples, bench.meanings), len(samples), np.random.default_rng([bench.seed, repeat.number, 7])
    )
    return Judged(
        texts=bench.judge.embed_texts([sample.caption for sample in samples]),
        motions=bench.embed([rows for sequence in segments for rows in sequence]),
        real=repeat.real[order],
        pools=pools,
    )


def _real_windows(prepared: PreparedClips, repeat: Repeat, seed: int, draw: int) -> _Windows:
    random, windows = np.random.default_rng([seed, 8, draw]), _Windows()
    for sample in repeat.samples:
        rows = sample.features(prepared)
        found = draw_windows(len(rows), prepared.frame_rate_hz, random)
        if found:
            windows.add(features_to_motion(rows, prepared.frame_rate_hz), rows, found)
    return windows


def _score(bench: Bench, windows: _Windows, real: _Windows, seed: int) -> TransitionScores | None:
    if min(len(windows.rows), len(real.rows)) < 2:
        return None
    embedded = [bench.judge.embed_motions(found.rows) for found in (windows, real)]
    return score_transitions(embedded[0], windows.jerks, embedded[1], real.jerks, seed)
