"""The whole of `evaluate --protocol val_composed`: compositions, a model, intervals, the clips that are listed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from python_core.clips.prepared import read_prepared
from python_core.evaluation.generation import Sampling
from python_core.evaluation.judgement_table import Judgement
from python_core.evaluation.val_composed import ValComposedConfig
from python_core.stages.evaluate import PRESETS, EvaluateConfig, judge_it
from tests.conftest import moved, write_clips

MOVES = {
    "raise": ((17, 2, 0.9), "a person raises the right arm."),
    "lift": ((16, 2, -0.9), "someone lifts the left hand."),
    "nod": ((12, 0, 0.4), "a person nods."),
    "bow": ((3, 0, 0.5), "a man bows."),
    "look": ((12, 1, 0.6), "a person looks to the left."),
    "glance": ((12, 1, -0.6), "a person glances to the right."),
    "lean": ((3, 2, 0.4), "a person leans to one side."),
    "twist": ((3, 1, 0.5), "a person twists the waist."),
    "stretch": ((3, 0, -0.3), "someone stretches backward."),
    "tilt": ((12, 2, 0.4), "a person tilts the head."),
}
LISTED = ("bow", "nod")


class WordJudge:
    """A text by the sum of directions of its words, a motion by a view of its mean row."""

    def __init__(self) -> None:
        self.view = np.random.default_rng(5).standard_normal((263, 8)).astype(np.float32)

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([sum(_direction(word) for word in caption.split()) for caption in captions])

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack([clip.mean(axis=0) @ self.view for clip in clips])


def _direction(word: str) -> NDArray[np.float32]:
    return np.random.default_rng(sum(map(ord, word))).standard_normal(8).astype(np.float32)


@pytest.fixture(scope="module")
def config(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluateConfig:
    folder = tmp_path_factory.mktemp("val_composed_run")
    made = []
    for number, (name, ((joint, axis, angle), caption)) in enumerate([*MOVES.items(), ("train", MOVES["nod"])]):
        split, source = "train" if name == "train" else "val", "cmu" if name in LISTED else "made"
        fields = {"clip_id": name, "captions": (caption,), "split": split, "source": source}
        made.append((moved(joint, axis, angle, 36 + 2 * number), fields))
    write_clips(folder / "clips", made)
    return replace(
        PRESETS["tiny"],
        checkpoint=tiny_checkpoint,
        judge=folder / "judge",
        prepared=folder / "clips",
        compositions=folder / "val_composed",
        out=folder / "out",
        composed=ValComposedConfig(num=110),
        sampling=Sampling(constrained=True, reasoning=False, max_codes=12),
        varied_texts=0,
        listed=("cmu",),
    )


@pytest.fixture(scope="module")
def judgement(config: EvaluateConfig) -> Judgement:
    return judge_it(config, WordJudge())


def test_every_row_has_intervals_over_recordings_whose_draws_are_kept(judgement: Judgement, config: EvaluateConfig):
    assert [row.name for row in judgement.rows] == ["real", "nearest caption", "ours"]
    assert judgement.num_recordings == len(MOVES)
    draws = np.load(config.out / "draws.npz")
    for row in judgement.rows:
        for name in ("r_at_1", "mm_dist", "kid"):
            estimate = row.over_recordings[name]
            assert estimate.low <= estimate.value <= estimate.high
            assert draws[f"{row.name}.{name}"].shape == (config.bootstrap,)
        assert row.over_recordings["mm_dist"].low < row.over_recordings["mm_dist"].high
    assert f"95 % intervals over {len(MOVES)} recordings (bootstrap):" in (config.out / "judgement.md").read_text()


def test_clips_that_people_captioned_are_listed_one_by_one(judgement: Judgement, config: EvaluateConfig):
    judge, prepared = WordJudge(), read_prepared(config.prepared)
    clips = {clip.clip_id: clip for clip in prepared.clips}
    assert sorted(one.clip_id for one in judgement.listed) == sorted(LISTED)
    lines = (config.out / "replies" / "listed.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == [one.caption for one in judgement.listed]
    for one in judgement.listed:
        clip = clips[one.clip_id]
        assert (one.caption, one.plan) == (MOVES[one.clip_id][1], "")
        assert one.real_s == clip.num_rows / 20
        assert 0 < one.ours_s <= 12 * 0.2
        whole = np.array(prepared.features(clip))[: clip.num_rows // 4 * 4]
        text = judge.embed_texts([one.caption])[0]
        assert one.real_distance == pytest.approx(np.linalg.norm(text - judge.embed_motions([whole])[0]), rel=1e-5)
        train = np.array(prepared.features(clips["train"]))[: clips["train"].num_rows // 4 * 4]
        assert one.nearest_distance == pytest.approx(np.linalg.norm(text - judge.embed_motions([train])[0]), rel=1e-5)
        assert one.ours_distance is not None
        assert one.ours_distance > 0
        assert one.ours_rank in (1, 2)
    table = (config.out / "judgement.md").read_text()
    assert "| rank of 2 |" in table
    assert f"| bow | a man bows. | - | {clips['bow'].num_rows / 20:.1f} |" in table


def test_one_repeat_has_no_interval_of_repeats_in_the_table(judgement: Judgement, config: EvaluateConfig):
    table = (config.out / "judgement.md").read_text()
    assert judgement.num_repeats == 1
    assert "±" not in table
    assert ", 1 repeat.\n" in table
