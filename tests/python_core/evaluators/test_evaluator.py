import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from python_core.clips.prepared import PreparedClips, read_prepared
from python_core.evaluators.evaluator import END, START, UNKNOWN, Judge, JudgeShape, judge_normalizer
from python_core.evaluators.evaluator_checkpoint import embedding_distances, load_evaluator, load_judge, save_judge
from python_core.evaluators.published_judge import load_published_judge, read_word_vectors
from python_core.stages import evaluate

TINY = JudgeShape(movement_width=8, motion_width=8, text_width=8, embedding_width=6, word_width=10, max_words=5)
WORDS = (UNKNOWN, START, END, "person", "walk", "wave", "left")
CAPTIONS = ("a person walks forward", "someone waves the left hand", "walks")


@pytest.fixture
def prepared(prepared_folder: Path) -> PreparedClips:
    return read_prepared(prepared_folder)


@pytest.fixture
def clips(prepared: PreparedClips) -> list[NDArray[np.float32]]:
    rows = [np.array(prepared.features(clip)) for clip in prepared.clips[:3]]
    return [rows[0], rows[1][:41], np.concatenate([rows[2]] * 5)]


@pytest.fixture
def judge(prepared: PreparedClips) -> Judge:
    torch.manual_seed(3)
    return Judge(TINY, WORDS, judge_normalizer(prepared.normalizer)).eval()


def num_weights(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_the_default_shape_has_the_published_numbers_of_weights(prepared: PreparedClips):
    judge = Judge(JudgeShape(), WORDS, prepared.normalizer)
    # Worked out by hand from the published layers.
    assert num_weights(judge.movement_encoder) == (259 * 4 * 512 + 512) + (512 * 4 * 512 + 512) + (512 * 512 + 512)
    gru_1024, gru_512 = (2 * (3 * width * (width + width) + 6 * width) for width in (1024, 512))
    assert num_weights(judge.motion_encoder) == (
        (512 * 1024 + 1024) + gru_1024 + 2 * 1024 + (2048 * 1024 + 1024) + 2 * 1024 + (1024 * 512 + 512)
    )
    assert num_weights(judge.text_encoder) == (
        (15 * 300 + 300) + (300 * 512 + 512) + gru_512 + 2 * 512 + (1024 * 512 + 512) + 2 * 512 + (512 * 512 + 512)
    )


def test_a_clip_and_a_caption_have_the_same_embedding_alone_and_among_others(
    judge: Judge, clips: list[NDArray[np.float32]]
):
    together = judge.embed_motions(clips)
    assert together.shape == (3, 6)
    for row, clip in enumerate(clips):
        np.testing.assert_allclose(judge.embed_motions([clip])[0], together[row], atol=1e-6)
    together = judge.embed_texts(CAPTIONS)
    for row, caption in enumerate(CAPTIONS):
        np.testing.assert_allclose(judge.embed_texts([caption])[0], together[row], atol=1e-6)
    assert judge.embed_texts([]).shape == judge.embed_motions([]).shape == (0, 6)


def test_contacts_and_rows_after_the_last_multiple_of_4_are_not_seen(judge: Judge, clips: list[NDArray[np.float32]]):
    changed = clips[1].copy()
    changed[:, -4:] += 3
    np.testing.assert_array_equal(judge.embed_motions([changed]), judge.embed_motions([clips[1]]))
    np.testing.assert_array_equal(judge.embed_motions([clips[1][:40]]), judge.embed_motions([clips[1]]))
    changed[20, 10] += 0.5
    assert np.abs(judge.embed_motions([changed]) - judge.embed_motions([clips[1]])).max() > 1e-5


def test_captions_that_are_cut_are_counted_once(judge: Judge, caplog: pytest.LogCaptureFixture):
    long = ["a person walks forward very slowly", "someone waves the left hand twice", "walks"]
    judge.embed_texts(long)
    assert caplog.messages == ["2 of 3 captions have more than 5 words; the judge does not read the rest"]
    judge.embed_texts([*long, "walks"])
    assert len(caplog.messages) == 1


def test_dropout_is_for_training_alone(prepared: PreparedClips, clips: list[NDArray[np.float32]], judge: Judge):
    dropped = Judge(TINY, WORDS, judge_normalizer(prepared.normalizer), dropout=0.5)
    # No weights of its own, so that published ones fit.
    assert dropped.state_dict().keys() == judge.state_dict().keys()
    one, other = dropped.texts(CAPTIONS), dropped.texts(CAPTIONS)
    assert (one - other).abs().max() > 1e-3
    dropped.load_state_dict(judge.state_dict())
    np.testing.assert_array_equal(dropped.eval().embed_motions(clips), judge.embed_motions(clips))
    np.testing.assert_array_equal(dropped.embed_texts(CAPTIONS), judge.embed_texts(CAPTIONS))


def test_words_after_the_last_that_is_read_change_nothing(judge: Judge):
    five = "a person walks forward slowly"
    np.testing.assert_array_equal(judge.embed_texts([five + " and waves"]), judge.embed_texts([five]))
    assert np.abs(judge.embed_texts(["a person walks"]) - judge.embed_texts([five])).max() > 1e-4
    # A caption without words is no error: it is only its start and end.
    assert np.isfinite(judge.embed_texts([""])).all()


def test_the_roots_parts_count_five_times(prepared: PreparedClips):
    ratio = prepared.normalizer.std / judge_normalizer(prepared.normalizer).std
    np.testing.assert_allclose(ratio, [5.0] * 4 + [1.0] * 255 + [5.0] * 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.zeros((3, 263), np.float32), r"4 rows or more of 263, got \[3, 263\]"),
        (np.zeros((8, 260), np.float32), r"got \[8, 260\]"),
        (np.full((8, 263), np.nan, np.float32), "must be finite, got 2104"),
    ],
)
def test_what_cannot_be_embedded_is_an_error(judge: Judge, clip: NDArray[np.float32], message: str):
    with pytest.raises(ValueError, match=message):
        judge.embed_motions([clip])


def test_a_saved_judge_reads_back_with_the_same_embeddings(
    judge: Judge, clips: list[NDArray[np.float32]], tmp_path: Path
):
    save_judge(tmp_path, judge, 20.0, None)
    again = load_judge(tmp_path)
    np.testing.assert_array_equal(again.embed_motions(clips), judge.embed_motions(clips))
    np.testing.assert_array_equal(again.embed_texts(CAPTIONS), judge.embed_texts(CAPTIONS))
    assert load_evaluator(tmp_path).distance == "euclidean"
    with pytest.raises(ValueError, match=r"no checkpoint\.json"):
        load_evaluator(tmp_path / "nothing")


def test_a_damaged_judge_is_refused_with_its_file(judge: Judge, tmp_path: Path):
    save_judge(tmp_path, judge, 20.0, None)
    config = json.loads((tmp_path / "checkpoint.json").read_text())
    (tmp_path / "checkpoint.json").write_text(json.dumps(config | {"shape": {"colour": 2}}))
    with pytest.raises(ValueError, match=r"checkpoint\.json: no sizes of a JudgeShape .*colour.*; copy it again"):
        load_judge(tmp_path)
    (tmp_path / "checkpoint.json").write_text(json.dumps(config))
    (tmp_path / "words.json").write_text("[")
    with pytest.raises(ValueError, match=r"words\.json: missing or damaged .*; copy it again"):
        load_judge(tmp_path)
    (tmp_path / "checkpoint.json").write_text("{")
    with pytest.raises(ValueError, match=r"checkpoint\.json: missing or damaged .*; copy it again"):
        load_evaluator(tmp_path)


def test_distances_are_those_of_the_definition():
    texts, motions = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32), np.array([[0.0, 0.0], [4.0, -3.0]], np.float32)
    np.testing.assert_allclose(
        embedding_distances(texts, motions, "euclidean"), [[5, np.sqrt(50)], [1, np.sqrt(18)]], atol=1e-6
    )
    np.testing.assert_allclose(embedding_distances(texts, motions[1:], "cosine"), [[1.0], [0.2]], atol=1e-6)


@pytest.fixture
def published(prepared: PreparedClips, tmp_path: Path) -> Path:
    """The published layout, with weights of our own."""
    torch.manual_seed(5)
    judge = Judge(JudgeShape(), WORDS, prepared.normalizer, train_words=False)
    for name in ("text_mot_match/model", "Comp_v6_KLD005/meta", "glove"):
        (tmp_path / name).mkdir(parents=True)
    encoders = ("movement_encoder", "motion_encoder", "text_encoder")
    state = {name: judge.get_submodule(name).state_dict() for name in encoders}
    torch.save(state | {"epoch": 1}, tmp_path / "text_mot_match/model/finest.tar")
    np.save(tmp_path / "Comp_v6_KLD005/meta/mean.npy", prepared.normalizer.mean)
    np.save(tmp_path / "Comp_v6_KLD005/meta/std.npy", prepared.normalizer.std)
    np.save(tmp_path / "glove/our_vab_data.npy", judge.words.weight.detach().numpy())
    (tmp_path / "glove/our_vab_words.pkl").write_bytes(pickle.dumps(list(WORDS)))
    return tmp_path


def test_published_weights_see_published_features(
    published: Path, prepared: PreparedClips, clips: list[NDArray[np.float32]]
):
    loaded = load_published_judge(published)
    torch.manual_seed(5)
    judge = Judge(JudgeShape(), WORDS, prepared.normalizer).eval()
    known = ["person walks left", "walks"]
    np.testing.assert_array_equal(loaded.embed_texts(known), judge.embed_texts(known))
    embedded = loaded.embed_motions(clips[:1])
    assert embedded.shape == (1, 512)
    assert np.abs(embedded - judge.embed_motions(clips[:1])).max() > 1e-4


def test_evaluate_gives_a_published_judge_the_words_of_text_files(
    published: Path, prepared: PreparedClips, caplog: pytest.LogCaptureFixture
):
    others = [replace(clip, tagged=()) for clip in prepared.clips]
    captions = {caption for clip in others for caption in clip.captions}
    clip = replace(prepared.clips[0], captions=("someone strolls",), tagged=("person/NOUN walk/VERB",))
    loaded, rate_hz = evaluate._load_judge(published, replace(prepared, clips=(*others, clip)))
    assert rate_hz == 20
    # spaCy finds neither word of the caption among those that have vectors.
    np.testing.assert_array_equal(
        loaded.embed_texts(["someone strolls"]), load_published_judge(published).embed_texts(["person walk"])
    )
    assert [record.message for record in caplog.records] == [
        f"{len(captions)} captions were prepared without parts of speech; spaCy finds them"
    ]


def test_published_files_that_are_not_what_they_should_be_are_errors(published: Path):
    (published / "text_mot_match/model/finest.tar").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"finest\.tar: not the published evaluator"):
        load_published_judge(published)
    (published / "glove/our_vab_words.pkl").write_bytes(pickle.dumps([print]))
    with pytest.raises(ValueError, match=r"our_vab_words\.pkl: damaged .asks for builtins\.print"):
        load_published_judge(published)
    (published / "glove/our_vab_words.pkl").write_bytes(pickle.dumps(list(WORDS[:-1])))
    with pytest.raises(ValueError, match=r"6 words, so expected vectors \[6, 300\], got \[7, 300\]"):
        load_published_judge(published)
    (published / "Comp_v6_KLD005/meta/mean.npy").unlink()
    with pytest.raises(ValueError, match=r"Comp_v6_KLD005.meta: missing"):
        load_published_judge(published)


def test_word_vectors_are_read_for_the_wanted_words_only(tmp_path: Path):
    path = tmp_path / "vectors.txt"
    path.write_text("walk 1 2 3\nrun 4 5 6\n, 7 8 9\n")
    vectors = read_word_vectors(path, {"walk", "jump"}, 3)
    assert {word: vector.tolist() for word, vector in vectors.items()} == {"walk": [1, 2, 3]}
    with pytest.raises(ValueError, match=r"vectors\.txt:2: expected 300 numbers, got 3"):
        read_word_vectors(path, {"run"}, 300)
