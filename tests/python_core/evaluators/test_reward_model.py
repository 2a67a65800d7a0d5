import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from python_core.clips.prepared import PreparedClips, read_prepared
from python_core.evaluators.evaluator_checkpoint import load_evaluator, load_reward_model, save_reward_model
from python_core.evaluators.evaluator_training import contrastive_losses, retrieval_losses
from python_core.evaluators.reward_model import RewardModel, RewardShape
from python_core.evaluators.token_states import load_token_states

CPU = torch.device("cpu")
TINY = RewardShape(width=12, num_heads=2, text_layers=1, motion_layers=1, embedding_width=6, dropout=0.0)
CAPTIONS = ("a person walks forward", "someone waves the left hand and then bows", "walks")


@pytest.fixture
def prepared(prepared_folder: Path) -> PreparedClips:
    return read_prepared(prepared_folder)


@pytest.fixture
def clips(prepared: PreparedClips) -> list[NDArray[np.float32]]:
    rows = [np.array(prepared.features(clip)) for clip in prepared.clips[:3]]
    return [rows[0], rows[1][:41], np.concatenate([rows[2]] * 5)]


@pytest.fixture
def model(prepared: PreparedClips, text_encoder: Path) -> RewardModel:
    torch.manual_seed(3)
    return RewardModel(TINY, load_token_states(text_encoder, CPU), prepared.normalizer).eval()


def test_embeddings_have_length_1_and_are_the_same_alone_and_among_others(
    model: RewardModel, clips: list[NDArray[np.float32]]
):
    motions, texts = model.embed_motions(clips), model.embed_texts(CAPTIONS)
    for embedded in (motions, texts):
        np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-6)
    for row, clip in enumerate(clips):
        np.testing.assert_allclose(model.embed_motions([clip])[0], motions[row], atol=1e-5)
    for row, caption in enumerate(CAPTIONS):
        np.testing.assert_allclose(model.embed_texts([caption])[0], texts[row], atol=1e-5)
    assert model.embed_texts([]).shape == model.embed_motions([]).shape == (0, 6)


def test_the_order_of_words_and_of_motion_is_seen(model: RewardModel, clips: list[NDArray[np.float32]]):
    one, other = model.embed_texts(["someone waves and then bows", "someone bows and then waves"])
    assert np.abs(one - other).max() > 1e-3
    one, other = model.embed_motions([clips[2], clips[2][::-1].copy()])
    assert np.abs(one - other).max() > 1e-3


def test_the_text_encoder_does_not_learn_and_its_states_are_kept(model: RewardModel):
    states, mask = model.token_states.states(CAPTIONS, CPU)
    assert states.shape == (3, 8, 16)
    assert mask.sum(dim=1).tolist() == [4, 8, 1]
    assert states[~mask].abs().max() == 0
    again, _ = model.token_states.states(CAPTIONS[::-1], CPU)
    assert torch.equal(again.flip(0), states)
    assert not any(value.requires_grad for value in model.token_states.encoder.parameters())
    assert not any(name.startswith("token_states") for name in model.state_dict())


def test_a_saved_reward_model_reads_back_without_the_encoders_folder(
    model: RewardModel, text_encoder: Path, clips: list[NDArray[np.float32]], tmp_path: Path
):
    save_reward_model(tmp_path, model, text_encoder, 20.0, None)
    again = load_reward_model(tmp_path)
    np.testing.assert_array_equal(again.embed_motions(clips), model.embed_motions(clips))
    np.testing.assert_array_equal(again.embed_texts(CAPTIONS), model.embed_texts(CAPTIONS))
    assert load_evaluator(tmp_path).distance == "cosine"
    (tmp_path / "text_encoder" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json: missing; run .* fetch-backbone text-encoder"):
        load_reward_model(tmp_path)


def test_a_damaged_text_encoder_is_refused_with_its_file(text_encoder: Path, tmp_path: Path):
    folder = shutil.copytree(text_encoder, tmp_path / "text_encoder")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"text_encoder/tokenizer\.json: missing, or no tokenizer .*; copy it again"):
        load_token_states(folder, CPU)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"text_encoder/model\.safetensors: damaged.*; copy the folder again"):
        load_token_states(folder, CPU)


def test_contrastive_losses_are_those_worked_out_by_hand():
    texts, motions = torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 4.0], [3.0, 1.0]])
    for all_negatives in (False, True):
        near, far = contrastive_losses(texts, motions, 10.0, all_negatives)
        assert near.item() == pytest.approx((16 + 1) / 2, rel=1e-5)
        # Text 0 to motion 1 is sqrt 10, text 1 to motion 0 is 5.
        assert far.item() == pytest.approx(((10 - 10**0.5) ** 2 + 25) / 2, rel=1e-5)
    near, far = contrastive_losses(texts[:1], motions[:1], 10.0, True)
    assert (near.item(), far.item()) == (pytest.approx(16, rel=1e-5), 0)


def test_retrieval_losses_are_those_worked_out_by_hand():
    motions = torch.eye(2)
    # The second caption, swapped, is exactly the first motion: no negative of the first, since it may be its truth.
    texts = torch.stack([motions[0], motions[1], motions[0]])
    matching, telling = retrieval_losses(motions, texts, torch.tensor([1]), torch.tensor(2.0))
    softmax = np.exp(2) / (np.exp(2) + 1)
    with_swapped = np.exp(2) / (np.exp(2) + 2)
    expected = (-np.log(softmax) - np.log(with_swapped)) / 4 - np.log(softmax) / 2
    assert matching.item() == pytest.approx(expected, rel=1e-5)
    assert telling.item() == pytest.approx(np.log(1 + np.exp(-2)), rel=1e-5)
    matching, telling = retrieval_losses(motions, texts[:2], torch.tensor([], dtype=torch.long), torch.tensor(2.0))
    assert matching.item() == pytest.approx(-np.log(softmax), rel=1e-5)
    assert telling.item() == 0
