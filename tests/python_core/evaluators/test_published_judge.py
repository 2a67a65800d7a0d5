from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from python_core.clips.prepared import PreparedClips, read_prepared
from python_core.evaluators.evaluator import END, START, UNKNOWN, Judge, JudgeShape
from python_core.evaluators.published_judge import KnownWordsJudge, PublishedJudge, as_published
from python_core.evaluators.word_tags import TaggedWord
from python_core.features import canonical_joints, exact_features, published_features

SHAPE = JudgeShape(movement_width=8, motion_width=8, text_width=8, embedding_width=6, word_width=10)
WORDS = (UNKNOWN, START, END, "person", "walk", "left")


@pytest.fixture
def prepared(prepared_folder) -> PreparedClips:
    return read_prepared(prepared_folder)


@pytest.fixture
def judge(prepared: PreparedClips) -> PublishedJudge:
    torch.manual_seed(3)
    return PublishedJudge(KnownWordsJudge(SHAPE, WORDS, prepared.normalizer, train_words=False).eval())


@pytest.fixture
def joints_m(smooth_motions) -> NDArray[np.float32]:
    return canonical_joints(smooth_motions[0].joint_positions_m())


def test_published_features_of_a_clip_are_as_many_as_its_own_and_those_of_its_joints(joints_m: NDArray[np.float32]):
    clip = exact_features(joints_m, 20.0)
    found = as_published(clip)
    assert found.shape == clip.shape == (len(joints_m) - 1, 263)
    np.testing.assert_allclose(found, published_features(joints_m), atol=2e-4)


def test_all_49_movements_of_196_rows_are_seen(judge: PublishedJudge, joints_m: NDArray[np.float32]):
    clip = np.concatenate([exact_features(joints_m, 20.0)] * 4)[:196]
    assert len(clip) == 196
    other = clip.copy()
    other[-4:] += 0.05
    assert np.abs(judge.embed_motions([clip]) - judge.embed_motions([other])).max() > 1e-4
    batch, lengths = judge.judge.batch([as_published(clip)])
    assert (batch.shape[1], lengths.tolist()) == (196, [196])


def test_a_piece_is_cut_from_the_published_features_of_its_whole_clip(
    judge: PublishedJudge, joints_m: NDArray[np.float32]
):
    clip = exact_features(joints_m, 20.0)
    whole = published_features(joints_m)
    found = judge.embed_pieces([clip, clip], [(5, 25), (0, len(clip))])
    np.testing.assert_allclose(found[0], judge.judge.embed_motions([whole[5:25]])[0], atol=1e-3)
    np.testing.assert_allclose(found[1], judge.embed_motions([clip])[0], atol=1e-5)
    # Published features of the piece alone begin with a jump of the heading.
    assert np.abs(found[0] - judge.embed_motions([clip[5:25]])[0]).max() > 1e-3


def test_words_without_a_vector_have_no_part_of_speech(judge: PublishedJudge, prepared: PreparedClips):
    (tagged,) = judge.judge.tag(["a person quickly walks left"])
    unknown = TaggedWord(UNKNOWN, "OTHER")
    assert tagged == (
        unknown,
        TaggedWord("person", "NOUN"),
        unknown,
        TaggedWord("walk", "Act"),
        TaggedWord("left", "Loc"),
    )
    torch.manual_seed(3)
    plain = Judge(SHAPE, WORDS, prepared.normalizer, train_words=False).eval()
    known, mixed = ["person walk left"], ["a person quickly walks left"]
    np.testing.assert_array_equal(judge.embed_texts(known), plain.embed_texts(known))
    # "quickly" and "dance" are as unknown as each other.
    np.testing.assert_array_equal(judge.embed_texts(["person quickly"]), judge.embed_texts(["person dance"]))
    assert np.abs(judge.embed_texts(mixed) - plain.embed_texts(mixed)).max() > 1e-4


def test_captions_are_read_by_the_words_of_their_text_files(judge: PublishedJudge, prepared: PreparedClips):
    # Each line says something else than spaCy would.
    tagged = ("walk/NOUN person/VERB", "", "left/OTHER walks/VERB dance/VERB")
    captions = ("a person walks", "a person walks left", "left to walk")
    clip = replace(prepared.clips[0], captions=captions, tagged=tagged)
    assert judge.know_words([clip, replace(clip, captions=captions[1:2], tagged=())]) == 1
    known, spoken, left = judge.judge.tag(captions)
    assert known == (TaggedWord("walk", "Act"), TaggedWord("person", "VERB"))
    assert spoken == (
        TaggedWord(UNKNOWN, "OTHER"), TaggedWord("person", "NOUN"), TaggedWord("walk", "Act"), TaggedWord("left", "Loc")
    )  # fmt: skip
    # A word that is unknown has no part of speech, and lists count more than the file.
    unknown = TaggedWord(UNKNOWN, "OTHER")
    assert left == (TaggedWord("left", "Loc"), unknown, unknown)
    other = PublishedJudge(judge.judge)
    other.judge.know_words({"by hand": (TaggedWord("walk", "Act"), TaggedWord("person", "VERB"))})
    np.testing.assert_array_equal(judge.embed_texts(captions[:1]), other.embed_texts(["by hand"]))


def test_a_clip_that_is_too_short_is_refused(judge: PublishedJudge):
    with pytest.raises(ValueError, match="4 rows or more of 263"):
        judge.embed_motions([np.zeros((3, 263), np.float32)])
