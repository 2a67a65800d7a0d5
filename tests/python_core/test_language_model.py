from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from python_core.contract.vocabulary import CodebookSize, motion_tokens
from python_core.language_model import (
    LoraShape,
    add_motion_rows,
    add_motion_tokens,
    load_backbone,
    merge_lora,
    text_ids,
    token_layout,
    train_text_tokenizer,
    with_lora,
)

TEXTS = ("a person walks forward.", "1. walk forward, 2.0 s 2. turn around, 1.4 s", "someone squats")
CODEBOOK = CodebookSize(8)


@pytest.fixture
def text_tokenizer() -> Tokenizer:
    return train_text_tokenizer(TEXTS, 300, CODEBOOK)


@pytest.fixture
def backbone() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=310,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def embeddings(model: LlamaForCausalLM) -> torch.Tensor:
    return model.model.embed_tokens.weight


def test_text_round_trips_in_lower_case_and_motion_tokens_are_one_token_each(text_tokenizer: Tokenizer):
    text = "A person WALKS, über 3.5 s!"
    assert text_tokenizer.decode(text_ids(text_tokenizer, text)) == text.lower()
    for token in motion_tokens(CODEBOOK):
        ids = text_ids(text_tokenizer, f"walk{token}.")
        assert text_tokenizer.token_to_id(token) in ids
        # Ordinary tokens: decoding keeps them.
        assert token in text_tokenizer.decode(ids)


def test_codes_have_consecutive_ids_at_the_end_of_the_vocabulary(text_tokenizer: Tokenizer):
    layout = token_layout(text_tokenizer, CODEBOOK)
    assert layout.first_code + CODEBOOK.num_tokens == layout.vocabulary_size
    assert [text_tokenizer.id_to_token(layout.code_ids(code)[0]) for code in (0, 7)] == ["<Motion_0>", "<Motion_7>"]


def test_motion_tokens_are_added_once(text_tokenizer: Tokenizer):
    with pytest.raises(ValueError, match="were there already"):
        add_motion_tokens(text_tokenizer, CODEBOOK)


def test_every_new_row_is_near_the_mean_of_the_old_ones_also_on_padding_rows(
    text_tokenizer: Tokenizer, backbone: LlamaForCausalLM
):
    layout = token_layout(text_tokenizer, CODEBOOK)
    first = layout.think_open
    with torch.no_grad():
        embeddings(backbone)[first:] = 100.0
    old = embeddings(backbone)[:first].clone()
    add_motion_rows(backbone, text_tokenizer, CODEBOOK)
    rows = embeddings(backbone)
    assert torch.equal(rows[:first], old)
    distances = (rows[first : layout.vocabulary_size] - old.mean(0)).abs().amax(1)
    assert (distances < 6 * 0.02 * old.std(0).max()).all()
    assert (distances > 0).all()
    assert backbone.lm_head.weight is rows


def test_lora_trains_the_new_rows_keeps_the_tie_and_merges_to_the_same_logits(
    text_tokenizer: Tokenizer, backbone: LlamaForCausalLM
):
    layout = token_layout(text_tokenizer, CODEBOOK)
    add_motion_rows(backbone, text_tokenizer, CODEBOOK)
    new_rows = range(layout.think_open, layout.vocabulary_size)
    before = embeddings(backbone).detach().clone()
    model = with_lora(backbone, LoraShape(rank=2, dropout=0.0), new_rows)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    ids = torch.tensor([[1, 2, layout.think_open, layout.first_code, layout.first_code + 3]])
    for _ in range(3):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = model.eval()(input_ids=ids).logits
    merged = merge_lora(model)
    assert isinstance(merged, LlamaForCausalLM)
    assert merged(input_ids=ids).logits.detach().numpy() == pytest.approx(trained.detach().numpy(), abs=1e-5)
    rows = embeddings(merged)
    assert merged.lm_head.weight is rows
    changed = (rows - before).abs().amax(1) > 1e-4
    assert changed[[layout.first_code, layout.first_code + 3]].all()
    assert not changed[: layout.think_open].any()


def test_a_folder_without_a_tokenizer_is_no_backbone(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no tokenizer\.json; get a backbone"):
        load_backbone(str(tmp_path))


def test_a_damaged_backbone_is_refused_with_its_file(
    backbone: LlamaForCausalLM, text_tokenizer: Tokenizer, tmp_path: Path
):
    backbone.save_pretrained(tmp_path)
    text_tokenizer.save(str(tmp_path / "tokenizer.json"))
    load_backbone(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json: missing, or no tokenizer .*; copy it again"):
        load_backbone(str(tmp_path))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{tmp_path}: weights are damaged.*get it again with .* fetch-backbone"):
        load_backbone(str(tmp_path))


def test_tokens_of_codes_that_are_not_in_a_row_are_refused():
    tokenizer = train_text_tokenizer(TEXTS, 300, CodebookSize(4))
    tokenizer.add_tokens(["<Between>", *motion_tokens(CODEBOOK)])
    with pytest.raises(ValueError, match="expected 8 tokens of codes in a row, the tokenizer has them from 302 to 310"):
        token_layout(tokenizer, CODEBOOK)
