import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from python_core.clips.prepared import PreparedClip, PreparedClips
from python_core.evaluation.val_composed import SPLIT, ValComposed
from python_core.features import Normalizer
from python_core.grpo.best_checkpoint import JUDGED, best_checkpoint
from python_core.grpo.judged_replies import HeldOutTexts, JudgedReplies, judge_replies

NUM, WIDTH = 64, 16
POOLS = np.arange(NUM).reshape(2, 32)
JUDGED_ONCE = JudgedReplies(step=0, r_at_3=0.5, mm_dist=3.0, kid=0.1, kid_spread=0.02, fid=9.0, diversity_over_real=1.0)


class MeanJudge:
    """A motion by the mean of its rows, a text by the number that it ends in."""

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([np.full(4, float(caption.split()[-1]), dtype=np.float32) for caption in captions])

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack([rows.mean(axis=0)[:4] for rows in clips])


def compositions(num: int) -> ValComposed:
    """Two pieces of each choice of clips, in the order of their numbers, each of rows that are its number."""
    clips, rows = [], []
    for number in range(num):
        clips.append(
            PreparedClip(
                clip_id=f"J{number // 2}+x@1.{number}",
                split=SPLIT,
                source="composed",
                licence="CC0-1.0",
                take=f"{number // 2}+x",
                captions=(f"a person does trick {number // 2}",),
                plan=f"1. do trick {number // 2}, 1.0 s",
                first_row=20 * number,
                num_rows=20,
            )
        )
        rows.append(np.full((20, 263), number // 2, dtype=np.float32))
    normalizer = Normalizer(np.zeros(263, dtype=np.float32), np.ones(263, dtype=np.float32))
    names = [clip.clip_id for clip in clips]
    return ValComposed(
        PreparedClips(tuple(clips), np.concatenate(rows), normalizer, 20.0),
        dict.fromkeys(names, ("x",)),
        {name: name.split("@")[0] for name in names},
    )


def test_a_model_with_one_good_motion_for_all_texts_is_not_chosen():
    random = np.random.default_rng(1)
    texts = random.standard_normal((NUM, WIDTH))
    real = texts + 0.3 * random.standard_normal((NUM, WIDTH))
    varied = texts + 1.7 * random.standard_normal((NUM, WIDTH))
    collapsed = real.mean(axis=0) + 0.3 * random.standard_normal((NUM, WIDTH))
    start, fallen, best = (
        judge_replies(step, texts, motions, real, POOLS, seed=1)
        for step, motions in enumerate((varied, collapsed, texts))
    )
    assert fallen.fid < start.fid
    assert not fallen.is_better(start)
    assert best.is_better(start)
    assert best.r_at_3 == 1
    assert fallen.diversity_over_real < 0.5 < start.diversity_over_real
    # Nor would it be if its motions were told apart by chance.
    assert dataclasses.replace(fallen, r_at_3=1.0).has_drifted(best)
    assert not best.has_drifted(best)


def test_replies_that_find_their_texts_as_often_are_compared_by_distance_and_drift_by_spread():
    assert dataclasses.replace(JUDGED_ONCE, mm_dist=2.9).is_better(JUDGED_ONCE)
    assert not dataclasses.replace(JUDGED_ONCE, r_at_3=0.4, mm_dist=1.0).is_better(JUDGED_ONCE)
    assert not JUDGED_ONCE.is_better(JUDGED_ONCE)
    assert not dataclasses.replace(JUDGED_ONCE, kid=0.119).has_drifted(JUDGED_ONCE)
    assert dataclasses.replace(JUDGED_ONCE, kid=0.121).has_drifted(JUDGED_ONCE)


def test_captions_are_drawn_from_all_of_one_half_and_no_text_is_in_both_halves():
    composed = compositions(400)
    clips = composed.prepared.clips
    halves: dict[bool, set[str]] = {True: set(), False: set()}
    for clip in clips:
        halves[composed.is_for_choosing(clip.clip_id)] |= {*clip.captions}
    assert not halves[True] & halves[False]
    assert 70 < len(halves[True]) < 130
    held_out = HeldOutTexts(MeanJudge(), composed, 60, seed=1)
    assert len(held_out.captions) == 60
    assert {*held_out.captions} <= halves[True]
    # The first in the file are pairs; chains come last.
    numbers = [int(caption.split()[-1]) for caption in held_out.captions]
    assert min(numbers) < 30
    assert max(numbers) > 170
    assert held_out.captions == HeldOutTexts(MeanJudge(), composed, 60, seed=1).captions
    assert held_out.captions != HeldOutTexts(MeanJudge(), composed, 60, seed=2).captions
    found = held_out.measure(3, [np.full((8, 263), number, dtype=np.float32) for number in numbers])
    assert (found.step, found.r_at_3, found.mm_dist) == (3, 1, 0)


def test_compositions_that_say_too_few_things_choose_nothing():
    with pytest.raises(ValueError, match=r"at least 4 different things, got \d from \d compositions; raise judge_rep"):
        HeldOutTexts(MeanJudge(), compositions(4), 60, seed=1)


def test_what_a_kill_leaves_is_passed_over(tmp_path: Path):
    assert best_checkpoint(tmp_path) is None
    for step, r_at_3 in ((10, 0.6), (20, 0.8)):
        (tmp_path / f"best-{step}").mkdir()
        found = dataclasses.replace(JUDGED_ONCE, step=step, r_at_3=r_at_3)
        (tmp_path / f"best-{step}" / JUDGED).write_text(json.dumps(dataclasses.asdict(found)))
    for name, text in (("best-30", None), ("best-40", '{"step": 40, "r_at'), ("best-50", '{"step": 50, "fid": 1.0}')):
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / JUDGED).write_text(text)
    (tmp_path / "best-60.partial").mkdir()
    better = dataclasses.replace(JUDGED_ONCE, step=60, r_at_3=1.0)
    (tmp_path / "best-60.partial" / JUDGED).write_text(json.dumps(dataclasses.asdict(better)))
    best = best_checkpoint(tmp_path)
    assert best is not None
    assert (best[0].name, best[1].step) == ("best-20", 20)
