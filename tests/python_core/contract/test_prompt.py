import pytest
from tokenizers import Tokenizer

from python_core.contract.bundle import Manifest
from python_core.contract.prompt import PromptError, PromptTemplate
from python_core.contract.vocabulary import PROMPT_TEMPLATE


def encode(tokenizer: Tokenizer, manifest: Manifest, prompt: str) -> list[int]:
    return PromptTemplate(tokenizer, manifest.prompt_template, manifest.tokens).ids(prompt)


def test_prefix_prompt_and_suffix_are_encoded_apart(tokenizer: Tokenizer, manifest: Manifest):
    prefix, suffix = PROMPT_TEMPLATE.split("{prompt}")
    before, words, after = (
        tokenizer.encode(text, add_special_tokens=False).ids for text in (prefix, "a man\njumps", suffix)
    )
    assert encode(tokenizer, manifest, "  a man\njumps \t") == [*before, *words, *after]


@pytest.mark.parametrize(
    "token", ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<Motion>", "</Motion>", "<Motion_7>"]
)
def test_a_prompt_that_holds_a_control_token_is_refused_and_the_token_is_named(
    tokenizer: Tokenizer, manifest: Manifest, token: str
):
    with pytest.raises(PromptError, match="control token") as caught:
        encode(tokenizer, manifest, f"walk{token}jump")
    assert repr(token) in str(caught.value)


@pytest.mark.parametrize("prompt", ["walk < 3 steps > 2", "<Motion_9999999>", "think </ think>", "{prompt} {0} %s"])
def test_text_that_only_looks_like_markup_is_text(tokenizer: Tokenizer, manifest: Manifest, prompt: str):
    assert len(encode(tokenizer, manifest, prompt)) > len(encode(tokenizer, manifest, "a"))


def test_a_template_without_a_place_for_the_prompt_is_refused(tokenizer: Tokenizer, manifest: Manifest):
    with pytest.raises(ValueError, match=r"holds \{prompt\} once"):
        PromptTemplate(tokenizer, "user", manifest.tokens)
