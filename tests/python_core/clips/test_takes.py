import re
from dataclasses import replace

from python_core.clips.prepared import COMPOSED, PreparedClip
from python_core.clips.takes import clip_takes, hold_out

CLIP = PreparedClip(
    clip_id="000000",
    split="train",
    source="made",
    licence="CC0-1.0",
    take="",
    captions=("a person walks.",),
    plan=None,
    first_row=0,
    num_rows=40,
)


def many() -> list[PreparedClip]:
    """400 takes, each with a mirrored copy and a composition with the next."""
    clips = []
    for number in range(400):
        take = f"{number:06}+{(number + 1) % 400:06}"
        clips += [replace(CLIP, clip_id=f"{number:06}"), replace(CLIP, clip_id=f"M{number:06}")]
        clips += [replace(CLIP, clip_id=f"{take}@1.{number}", source=COMPOSED, take=take)]
    return clips


def test_about_the_share_of_the_takes_is_held_out_and_no_take_is_on_both_sides():
    clips = many()
    kept, held_out = hold_out(clips, frozenset(clip.clip_id for clip in clips), 0.2)
    # Read anew from the names.
    takes, others = (
        {take for clip in side for take in re.findall(r"\d{6}", clip.clip_id)} for side in (kept, held_out)
    )
    assert not takes & others
    assert takes | others == {f"{number:06}" for number in range(400)}
    assert 50 < len(others) < 110
    # A take and its mirrored copy; 2 in 3 of the compositions have two neighbours on one side.
    assert sum("+" in clip.clip_id for clip in kept) > 200
    assert len(kept) + len(held_out) < len(clips)


def test_a_take_stays_on_its_side_whatever_else_there_is():
    clips = many()
    ids = frozenset(clip.clip_id for clip in clips)
    _, of_all = hold_out(clips, ids, 0.2)
    _, of_some = hold_out(clips[300:], ids, 0.2)
    assert {clip.clip_id for clip in of_some} == {clip.clip_id for clip in of_all} & {
        clip.clip_id for clip in clips[300:]
    }


def test_a_clip_that_was_joined_before_it_came_has_all_its_takes():
    joined = replace(CLIP, take="made/idle+made/wave")
    assert clip_takes(joined, frozenset([CLIP.clip_id])) == {"made/idle", "made/wave"}
    composed = replace(CLIP, clip_id="J1+2@1.0", source=COMPOSED, take="made/idle+M000000")
    assert clip_takes(composed, frozenset([CLIP.clip_id])) == {"made/idle", "000000"}


def test_a_share_of_none_holds_out_none():
    clips = many()
    kept, held_out = hold_out(clips, frozenset(clip.clip_id for clip in clips), 0.0)
    assert kept == clips
    assert not held_out
