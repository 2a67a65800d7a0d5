import re

import numpy as np
import pytest

from python_core.clips.clip import Caption, Clip, mirror_clip, mirror_text
from python_core.composed_captions import Phrase, join_captions, mix_captions, mix_phrases, read_phrases
from python_core.contract.skeleton import BODY_22
from python_core.reasoning.planner import MAX_WORDS, Planner

READ = {
    "a person walks forward.": ("walk forward", "walks forward", "walking forward"),
    "person jogs in place": ("jog in place", "jogs in place", "jogging in place"),
    "he sits down on a chair": ("sit down on a chair", "sits down on a chair", "sitting down on a chair"),
    "walking in a straight line": (
        "walk in a straight line",
        "walks in a straight line",
        "walking in a straight line",
    ),
    "a man waves his right hand": ("wave their right hand", "waves their right hand", "waving their right hand"),
    "someone is pushed backwards": ("be pushed backwards", "is pushed backwards", "being pushed backwards"),
    "a person slowly lies down": ("slowly lie down", "slowly lies down", "slowly lying down"),
    "a figure turns around and sits down": (
        "turn around and sit down",
        "turns around and sits down",
        "turning around and sitting down",
    ),
    "a person aims a pistol one-handed": (
        "aim a pistol one-handed",
        "aims a pistol one-handed",
        "aiming a pistol one-handed",
    ),
    "a person stands still and waits": ("stand still and wait", "stands still and waits", "standing still and waiting"),
    "a person swings arms and legs": ("swing arms and legs", "swings arms and legs", "swinging arms and legs"),
}
UNJOINABLE = [
    "the right arm is raised",
    "slow salsa dance",
    "a person walks forward, turns around, sits down and waves",
    "a person walks towards another person",
]
WALK = Phrase("walk forward", "walks forward", "walking forward", "walk")
TURN = Phrase("turn to the left", "turns to the left", "turning to the left", "turn")
SIT = Phrase("sit down", "sits down", "sitting down", "sit")
JUMP = Phrase("jump", "jumps", "jumping", "jump")
BOW = Phrase("bow", "bows", "bowing", "bow")
WAVE = Phrase("wave the right hand", "waves the right hand", "waving the right hand", "wave", ("right hand",))
CHICKEN = Phrase(
    "run and flap the elbows", "runs and flaps the elbows", "running and flapping the elbows", "run", ("both arms",), 2
)


def clip_of(*captions: str, clip_id: str = "c") -> Clip:
    joints_m = np.tile(BODY_22.rest_joints_m, (2, 1, 1))
    return Clip(clip_id, joints_m, tuple(Caption(text) for text in captions))


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner()


@pytest.mark.parametrize("caption", READ)
def test_a_caption_gives_this_phrase(planner, caption):
    found, skipped = read_phrases([clip_of(caption)], planner)
    (phrase,) = found["c"]
    assert (phrase.text, phrase.finite, phrase.gerund) == READ[caption]
    assert not skipped


@pytest.mark.parametrize("caption", UNJOINABLE)
def test_a_caption_that_cannot_be_joined_is_skipped_and_counted(planner, caption):
    found, skipped = read_phrases([clip_of(caption)], planner)
    assert found == {"c": ()}
    assert skipped.total() == 1


def test_phrases_of_one_beat_come_first_and_captions_of_parts_are_left_alone(planner):
    clip = clip_of("a person sits down and waves", "a person sits down.")
    clip = Clip(clip.clip_id, clip.joints_m, (*clip.captions, Caption("a person jumps", 1.0, 2.0)))
    found, skipped = read_phrases([clip], planner)
    assert [phrase.text for phrase in found["c"]] == ["sit down", "sit down and wave"]
    assert not skipped


def test_a_mirrored_clip_has_the_mirrored_phrases(planner):
    clip = clip_of("a person turns left and raises the right arm", "a person steps right with the left foot")
    found, _ = read_phrases([clip, mirror_clip(clip)], planner)
    assert found["Mc"] == tuple(phrase.mirrored() for phrase in found["c"])
    assert found["Mc"][0].body_parts == ("right foot",)


@pytest.mark.parametrize(
    "phrases", [(WALK, TURN), (WALK, TURN, SIT), (WALK, TURN, SIT, BOW), (WALK, TURN, JUMP, SIT, BOW)]
)
def test_the_planner_reads_joined_captions_back_as_the_beats_in_their_order(planner, phrases):
    captions = {text for seed in range(12) for text in join_captions(phrases, 8, np.random.default_rng(seed))}
    assert len(captions) > 10
    for caption in captions:
        beats = planner.plan(caption, 10.0).beats
        assert [beat.text for beat in beats] == [phrase.text for phrase in phrases], caption


def test_the_planner_reads_mixed_captions_as_both_actions(planner):
    for seed in range(12):
        for caption in mix_captions(WALK, WAVE, 6, np.random.default_rng(seed)):
            texts = " ".join(beat.text for beat in planner.plan(caption, 4.0).beats)
            assert re.search(r"\bwalk(?:ing)? forward", texts), caption
            assert re.search(r"\bwav(?:e|ing) the right hand", texts), caption


def test_the_sentences_of_one_composition_differ_and_have_one_subject():
    for seed in range(20):
        captions = join_captions((WALK, TURN, SIT), 4, np.random.default_rng(seed))
        assert len(set(captions)) == 4
        for caption in captions:
            assert len(re.findall(r"\b(?:person|someone|somebody|figure|man|he)\b", caption)) == 1


def test_phrases_of_two_actions_are_joined_by_words_that_leave_no_doubt():
    for seed in range(20):
        for caption in join_captions((CHICKEN, SIT), 4, np.random.default_rng(seed)):
            assert re.search(r"\bthen sits down|after that sits down", caption)
            assert "running" not in caption


def test_he_is_never_the_subject_of_their():
    their = Phrase("raise their arms", "raises their arms", "raising their arms", "raise", ("both arms",))
    for seed in range(40):
        for caption in join_captions((WALK, their), 4, np.random.default_rng(seed)):
            assert not re.search(r"\b(?:he|man)\b", caption)


def test_words_of_sides_stay_with_their_action_when_all_is_mirrored():
    for seed in range(10):
        captions = join_captions((TURN, WAVE), 4, np.random.default_rng(seed))
        mirrored = join_captions((TURN.mirrored(), WAVE.mirrored()), 4, np.random.default_rng(seed))
        assert mirrored == tuple(mirror_text(caption) for caption in captions)


def test_the_same_seed_gives_the_same_sentences():
    assert join_captions((WALK, SIT), 3, np.random.default_rng(7)) == join_captions(
        (WALK, SIT), 3, np.random.default_rng(7)
    )


def test_two_actions_at_one_time_are_one_beat():
    both = mix_phrases(WALK, WAVE)
    assert both is not None
    assert both.text == "walk forward while waving the right hand"
    assert both.body_parts == ("right hand",)
    assert mix_phrases(CHICKEN, WAVE) is None
    long = Phrase("walk " + "on " * MAX_WORDS, "", "", "walk")
    assert mix_phrases(long, WAVE) is None


def test_phrases_that_cannot_be_joined_are_refused():
    with pytest.raises(ValueError, match="joins 2 to 5 phrases, got 1"):
        join_captions((WALK,), 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="two short phrases"):
        mix_captions(CHICKEN, WAVE, 1, np.random.default_rng(0))
