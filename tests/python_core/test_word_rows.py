from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from python_core.contract.vocabulary import CodebookSize
from python_core.evaluators.token_states import TokenStates, load_token_states
from python_core.language_model import token_layout, train_text_tokenizer
from python_core.word_rows import MEANING_SHARE, word_rows
from tests.python_core.conftest import ENCODER_WORDS

WIDTH, NUM_MEANINGS = 12, 8


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_text_tokenizer([f"{ENCODER_WORDS} {ENCODER_WORDS}"] * 3, 340, CodebookSize(8))


@pytest.fixture(scope="module")
def encoder(text_encoder: Path) -> TokenStates:
    return load_token_states(text_encoder, torch.device("cpu"))


@pytest.fixture(scope="module")
def rows(tokenizer: Tokenizer, encoder: TokenStates) -> torch.Tensor:
    return word_rows(tokenizer, token_layout(tokenizer, CodebookSize(8)).think_open, encoder, WIDTH, 1)


def row_of(rows: torch.Tensor, tokenizer: Tokenizer, token: str) -> torch.Tensor:
    found = tokenizer.token_to_id(token)
    assert found is not None, token
    return rows[found]


def test_rows_are_of_length_1_and_a_known_word_is_partly_its_meaning(rows: torch.Tensor, tokenizer: Tokenizer):
    assert torch.allclose(rows.norm(dim=1), torch.ones(len(rows)), atol=1e-6)
    shares = rows[:, :NUM_MEANINGS].square().sum(dim=1)
    assert shares[tokenizer.token_to_id("Ġwalks")] == pytest.approx(MEANING_SHARE)
    # Half a letter means nothing, and neither does a full stop.
    assert shares[tokenizer.token_to_id("Ã")] == 0
    assert shares[tokenizer.token_to_id(".")] == 0


def test_one_word_has_one_meaning_and_each_of_its_tokens_a_name(rows: torch.Tensor, tokenizer: Tokenizer):
    bare, spaced, other = (row_of(rows, tokenizer, token) for token in ("a", "Ġa", "Ġwalks"))
    assert torch.allclose(bare[:NUM_MEANINGS], spaced[:NUM_MEANINGS], atol=1e-6)
    assert (bare[NUM_MEANINGS:] - spaced[NUM_MEANINGS:]).norm() > 0.1
    assert (other[:NUM_MEANINGS] - bare[:NUM_MEANINGS]).norm() > 0.1


def test_meanings_keep_the_angles_that_the_encoder_has_where_all_its_components_fit(
    tokenizer: Tokenizer, encoder: TokenStates
):
    num_rows = token_layout(tokenizer, CodebookSize(8)).think_open
    wide = word_rows(tokenizer, num_rows, encoder, 24, 1)
    texts = [tokenizer.decode([token]).strip() for token in range(num_rows)]
    known = [k for k, text in enumerate(texts) if any(map(str.isalnum, text)) and "\ufffd" not in text]
    states, mask = encoder.states([texts[k] for k in known], torch.device("cpu"))
    means = torch.nn.functional.normalize((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
    centred = torch.nn.functional.normalize(means - means.mean(0))
    assert torch.allclose(wide[known, :16] @ wide[known, :16].T / MEANING_SHARE, centred @ centred.T, atol=1e-4)


def test_the_same_seed_gives_the_same_rows_and_another_one_other_names(
    rows: torch.Tensor, tokenizer: Tokenizer, encoder: TokenStates
):
    assert torch.equal(rows, word_rows(tokenizer, len(rows), encoder, WIDTH, 1))
    other = word_rows(tokenizer, len(rows), encoder, WIDTH, 2)
    assert torch.equal(rows[:, :NUM_MEANINGS], other[:, :NUM_MEANINGS])
    assert (rows[:, NUM_MEANINGS:] - other[:, NUM_MEANINGS:]).norm(dim=1).min() > 0
