"""Clips that are judged one by one: all rows of the table, and what stands below it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from python_core.clips.prepared import PreparedClip, PreparedClips
from python_core.contract.motion import Motion
from python_core.contract.plan import MAX_BEATS, Plan, parse_plan
from python_core.evaluation.bootstrap import draw_weights
from python_core.evaluation.evaluation import (
    NEAREST,
    NOTE,
    OURS,
    REAL,
    Bench,
    NearestMotions,
    Repeat,
    Spoken,
    decode,
    features_of,
    measure_replies,
    motions_of,
    say_how_drawn,
)
from python_core.evaluation.generation import Prompt, Reply
from python_core.evaluation.judgement import Judged, QualityMeans, bootstrap_scores, estimate_scores, measure_motions
from python_core.evaluation.judgement_table import Judgement, ListedClip, ModelRow
from python_core.evaluation.metrics import Estimate, distances, multimodality, over_repeats
from python_core.evaluation.plan_measures import NUM_OTHERS, PlanMeasures, measure_plans, with_other_plans
from python_core.evaluation.protocols import PROTOCOLS, choose_clips
from python_core.evaluation.told_apart import SwappedTexts, ToldApart, swap_texts, tell_apart
from python_core.evaluation.val_composed import compose_val
from python_core.evaluators.evaluator import Evaluator
from python_core.processes import open_processes
from python_core.vqvae import FRAMES_PER_CODE

if TYPE_CHECKING:
    from python_core.stages.evaluate import EvaluateConfig

Take = Callable[[Sequence[int]], list[NDArray[np.float32] | None]]
"""Gives the features of the motions of texts, by the places of these."""


class ClipEvaluation:
    """One run."""

    def __init__(
        self, config: "EvaluateConfig", judge: Evaluator, prepared: PreparedClips, spoken: Spoken | None
    ) -> None:
        self.config, self.judge, self.prepared = config, judge, prepared
        protocol = PROTOCOLS[config.protocol]
        self.made_of: dict[str, tuple[str, ...]] = {}
        self.evaluated, meanings, self.notes = prepared, {}, [NOTE]
        composed = None
        if config.protocol == "val_composed":
            with open_processes().main_process_first():
                composed = compose_val(config.prepared, config.compositions, config.composed)
            self.evaluated, self.made_of, meanings = composed.prepared, composed.made_of, composed.meanings
        clips = choose_clips(self.evaluated, protocol, config.split)
        if composed is not None:
            num = len(clips)
            clips = [clip for clip in clips if not composed.is_for_choosing(clip.clip_id)]
            self.notes.append(
                f"Texts are {len(clips)} of {num} compositions; the others choose weights in train-grpo, and no model "
                "is judged on what chose it."
            )
        self.bench = Bench(
            judge=judge, prepared=self.evaluated, clips=clips, protocol=protocol, seed=config.seed, meanings=meanings
        )
        self.nearest = NearestMotions(prepared, protocol)
        self.spoken = spoken
        self.rate = self.evaluated.frame_rate_hz
        if spoken is not None:
            self.notes.append(say_how_drawn(config.sampling))

    def judge_all(self) -> Judgement:
        """All rows."""
        config, names = self.config, [REAL, NEAREST, *([OURS] if self.spoken else [])]
        repeats = [self.bench.repeat(number) for number in range(config.repeats)]
        replies = [self._replies(repeat) for repeat in repeats] if self.spoken else []
        judged: dict[str, list[Judged]] = {name: [] for name in names}
        for repeat in repeats:
            judged[REAL].append(repeat.judged(repeat.real, repeat.real_again))
            nearest = self.nearest.find([sample.caption for sample in repeat.samples])
            judged[NEAREST].append(repeat.judged(self.bench.embed(nearest)))
        first: list[Motion | None] = []
        for repeat, of_repeat in zip(repeats, replies, strict=False):
            motions = self._decode(of_repeat)
            first = first or motions
            judged[OURS].append(repeat.judged(self.bench.embed(features_of(motions))))
        weights = None
        if self.made_of and config.bootstrap:
            made_of = [self.made_of[clip.clip_id] for clip in self.bench.clips]
            weights = draw_weights(made_of, config.bootstrap, config.seed)
        swapped: dict[str, SwappedTexts] = {}
        if config.protocol == "val_composed":
            swapped = swap_texts([sample.caption for sample in repeats[0].samples], self.judge)
        rows, draws = [], {}
        for name in names:
            scores = [r.score(j, config.seed) for r, j in zip(repeats, judged[name], strict=True)]
            intervals: dict[str, Estimate] = {}
            if weights is not None:
                intervals, drawn = bootstrap_scores(judged[name], weights)
                draws |= {f"{name}.{measure}": values for measure, values in drawn.items()}
            shares = None
            if name == OURS and self.spoken is not None:
                shares = measure_replies([r for of in replies for r in of], self.spoken.speaker, self.rate)
            features = self._features(name, repeats[0], first)
            rows.append(
                ModelRow(
                    name=name,
                    scores=estimate_scores(scores),
                    over_recordings=intervals,
                    well_formed=shares and shares.well_formed,
                    planned=shares and shares.planned,
                    planned_error_s=shares and shares.planned_error_s,
                    as_long_as_planned=shares and shares.as_long_as_planned,
                    multimodality=self._vary(repeats[0]) if name == OURS else None,
                    quality=self._quality(name, features, first),
                    plans=self._plans(features),
                    told_apart=_tell_all_apart(swapped, repeats[0], judged[name][0], weights),
                )
            )
        if draws and open_processes().is_main_process:
            np.savez(config.out / "draws.npz", **draws)
        return Judgement(
            protocol=config.protocol,
            judge=str(config.judge),
            num_texts=len(self.bench.clips),
            num_repeats=config.repeats,
            num_recordings=len({name for names in self.made_of.values() for name in names}) or None,
            rows=tuple(rows),
            plans_by_chance=self._plans(self._features(REAL, repeats[0], first), of_others=True),
            listed=tuple(self._list()) if config.protocol == "val_composed" else (),
            notes=tuple(self.notes),
        )

    def _replies(self, repeat: Repeat) -> list[Reply]:
        assert self.spoken is not None
        path = self.config.out / "replies" / f"repeat-{repeat.number:02}.jsonl"
        prompts = [Prompt(sample.caption) for sample in repeat.samples]
        return self.spoken.speaker.reply(path, prompts, [self.config.seed, 0, repeat.number])

    def _decode(self, replies: Sequence[Reply]) -> list[Motion | None]:
        assert self.spoken is not None
        return decode(replies, self.spoken.motion_tokenizer)

    def _features(self, name: str, repeat: Repeat, ours: Sequence[Motion | None]) -> Take:
        """Features of motions of the first repeat; whole clips where they are real."""

        def take(places: Sequence[int]) -> list[NDArray[np.float32] | None]:
            samples = [repeat.samples[place] for place in places]
            if name == OURS:
                return features_of([ours[place] for place in places])
            if name == NEAREST:
                return [*self.nearest.find([sample.caption for sample in samples])]
            return [np.array(self.evaluated.features(sample.clip)) for sample in samples]

        return take

    def _quality(
        self,
        name: str,
        features: Take,
        ours: Sequence[Motion | None],
    ) -> QualityMeans | None:
        places = self._draw_places(self.config.quality_motions, 7)
        if name == OURS:
            return measure_motions([motion for place in places if (motion := ours[place]) is not None])
        return measure_motions(motions_of([rows for rows in features(places) if rows is not None], self.rate))

    def _draw_places(self, num: int, purpose: int) -> list[int]:
        """Places of so many texts, in order. The first ones would be mostly pairs: chains come last in the file."""
        size = len(self.bench.clips)
        drawn = np.random.default_rng([self.config.seed, purpose]).permutation(size)[:num]
        return sorted(drawn.tolist())

    def _plans(self, features: Take, of_others: bool = False) -> PlanMeasures | None:
        clips = self.bench.clips
        known = [place for place, clip in enumerate(clips) if clip.plan is not None]
        num = min(self.config.plans, len(known))
        texts = {beat.text for place in known for beat in parse_plan(clips[place].plan or "").beats}
        if not num or len(texts) < NUM_OTHERS + MAX_BEATS:
            return None
        chosen = np.random.default_rng([self.config.seed, 4]).choice(known, num, replace=False)
        plans = [parse_plan(clips[place].plan or "") for place in chosen]
        held: list[tuple[int, Plan]] = with_other_plans(plans) if of_others else [*enumerate(plans)]
        if not held:
            return None
        motions = features([int(chosen[place]) for place, _ in held])
        plans = [plan for _, plan in held]
        return measure_plans(self.judge, plans, motions, self.rate, self.config.seed, sorted(texts))

    def _vary(self, repeat: Repeat) -> Estimate | None:
        config = self.config
        if self.spoken is None or not config.varied_texts:
            return None
        captions = [repeat.samples[place].caption for place in self._draw_places(config.varied_texts, 8)]
        prompts = [Prompt(caption) for caption in captions for _ in range(config.varied_replies)]
        replies = self.spoken.speaker.reply(config.out / "replies" / "varied.jsonl", prompts, [config.seed, 1])
        embedded = self.bench.embed(features_of(self._decode(replies))).reshape(
            len(captions), config.varied_replies, -1
        )
        values = [multimodality(embedded, np.random.default_rng([config.seed, 5, k])) for k in range(config.repeats)]
        found = [value for value in values if value is not None]
        return over_repeats(found) if found else None

    def _list(self) -> list[ListedClip]:
        """Val clips of the listed sources, their first caption each."""
        config = self.config
        clips = [clip for clip in self.prepared.split(config.composed.split) if clip.source in config.listed]
        if not clips or self.spoken is None:
            return []
        captions = [clip.captions[0] for clip in clips]
        path = config.out / "replies" / "listed.jsonl"
        replies = self.spoken.speaker.reply(path, [Prompt(text) for text in captions], [config.seed, 2])
        texts = self.judge.embed_texts(captions)
        real = np.diagonal(distances(texts, self.bench.embed([_whole(self.prepared, clip) for clip in clips])))
        nearest = np.diagonal(distances(texts, self.bench.embed([*self.nearest.find(captions)])))
        ours = distances(texts, self.bench.embed(features_of(self._decode(replies))))
        return [
            ListedClip(
                clip_id=clip.clip_id,
                caption=captions[k],
                plan=self.spoken.speaker.reasoning(replies[k]) or "",
                real_s=clip.num_rows / self.rate,
                ours_s=FRAMES_PER_CODE * len(replies[k].codes) / self.rate,
                real_distance=float(real[k]),
                nearest_distance=float(nearest[k]),
                ours_distance=float(ours[k, k]) if replies[k].codes else None,
                ours_rank=float((ours[k] < ours[k, k]).sum() + 1) if replies[k].codes else None,
            )
            for k, clip in enumerate(clips)
        ]


def _tell_all_apart(
    swapped: dict[str, SwappedTexts], repeat: Repeat, judged: Judged, weights: NDArray[np.float64] | None
) -> dict[str, ToldApart]:
    """By the kind of swap; without weights a repeat has no interval."""
    found = {name: tell_apart(one, repeat.texts, judged.motions, weights) for name, one in swapped.items()}
    return {name: one for name, one in found.items() if one is not None}


def _whole(prepared: PreparedClips, clip: PreparedClip) -> NDArray[np.float32]:
    return np.array(prepared.features(clip)[: clip.num_rows // FRAMES_PER_CODE * FRAMES_PER_CODE])
