import dataclasses
import re
from pathlib import Path

import pytest

from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips, read_prepared
from python_core.clips.takes import clip_takes
from python_core.evaluators.halves import training_clips


def made(clip_id: str, split: str = "train", source: str = "made", take: str = "") -> PreparedClip:
    return PreparedClip(
        clip_id=clip_id,
        split=split,
        source=source,
        licence="CC0-1.0",
        take=take,
        captions=(f"a person does {clip_id}.",),
        plan=None,
        first_row=0,
        num_rows=40,
    )


@pytest.fixture
def many(prepared_folder: Path) -> PreparedClips:
    """200 takes, each with a mirrored copy and a part, 40 of another split, and compositions of neighbours."""
    clips = []
    for number in range(200):
        split = "val" if number % 5 == 0 else "train"
        clips += [made(f"{number:06}", split=split), made(f"M{number:06}", split=split)]
        clips += [made(f"{number:06}@10-50", split=split)]
        # As `prepare` names them: of recordings without a take, the ids.
        take = f"{number:06}+{(number + 1) % 200:06}"
        clips += [made(f"{take}@1.{number}", source=COMPOSED, take=take)]
        clips += [made(f"M{take}@1.{number}", source=COMPOSED, take=take)]
    return dataclasses.replace(read_prepared(prepared_folder), clips=tuple(clips))


def test_no_take_is_in_both_evaluators_and_none_of_val_in_either(many: PreparedClips):
    takes = {}
    for kind in ("judge", "reward"):
        # Read anew from the names, since `clip_takes` is what is tested.
        takes[kind] = {number for clip in training_clips(many, kind) for number in re.findall(r"\d{6}", clip.clip_id)}
        assert len(takes[kind]) > 50
    assert not takes["judge"] & takes["reward"]
    val = {clip.clip_id for clip in many.clips if clip.split == "val"}
    assert not val & (takes["judge"] | takes["reward"])
    assert len(takes["judge"] | takes["reward"]) == 160


def test_copies_parts_and_compositions_go_with_their_take(many: PreparedClips):
    for kind in ("judge", "reward"):
        own = {clip.clip_id for clip in training_clips(many, kind)}
        singles = {clip_id for clip_id in own if clip_id.isdigit()}
        for clip_id in singles:
            assert {f"M{clip_id}", f"{clip_id}@10-50"} <= own
        composed = {clip_id for clip_id in own if "+" in clip_id}
        assert composed
        for clip in many.clips:
            if clip.source == COMPOSED:
                assert (clip.clip_id in composed) == (set(clip.take.split("+")) <= singles)


def test_a_take_stays_with_its_evaluator_whatever_else_was_prepared(many: PreparedClips):
    whole = {clip.clip_id for clip in training_clips(many, "reward")}
    fewer = dataclasses.replace(many, clips=many.clips[:500])
    assert {clip.clip_id for clip in training_clips(fewer, "reward")} <= whole


def test_clips_of_one_recording_share_its_take():
    clips = [made("a", take="01_05"), made("b", take="01_05"), made("Ma", take="01_05")]
    ids = frozenset(clip.clip_id for clip in clips)
    assert {clip_takes(clip, ids) for clip in clips} == {frozenset(["01_05"])}


def test_m_begins_a_mirrored_copy_only_where_there_is_an_original():
    ids = frozenset(["Mesh_walk", "Mwave", "wave"])
    assert clip_takes(made("Mesh_walk"), ids) == {"Mesh_walk"}
    assert clip_takes(made("Mwave"), ids) == {"wave"}


def test_an_evaluator_without_takes_is_an_error(many: PreparedClips):
    reward_only = dataclasses.replace(many, clips=tuple(training_clips(many, "reward")))
    with pytest.raises(ValueError, match="belong to the judge; it needs clips of more takes"):
        training_clips(reward_only, "judge")
