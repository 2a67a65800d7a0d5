"""A prompt as token ids, exactly as training encodes it.

The template's text before the prompt, the prompt and the text after it are encoded apart, so that no merge of the
tokenizer crosses their seams and a prompt cannot write the template's markers.
"""

from typing import Protocol

from python_core.contract.vocabulary import TURN_END, TURN_START, TokenLayout

_HOLE = "{prompt}"


class PromptError(ValueError):
    """A prompt that the model cannot be given; says what came and what to do."""


class Encoding(Protocol):
    """What the `tokenizers` library gives for a text."""

    @property
    def ids(self) -> list[int]: ...


class Tokenizer(Protocol):
    """The part of `tokenizers.Tokenizer` that is used here."""

    def encode(self, sequence: str, *, add_special_tokens: bool = True) -> Encoding: ...

    def id_to_token(self, id: int) -> str | None: ...

    def token_to_id(self, token: str) -> int | None: ...


def prompt_ids(tokenizer: Tokenizer, template: str, layout: TokenLayout, prompt: str) -> list[int]:
    """Encode a prompt in its template: ids(prefix) + ids(prompt without outer white space) + ids(suffix).

    Raises:
        PromptError: As `prompt_parts`.
        ValueError: As `prompt_parts`.
    """
    before, rest = prompt_parts(tokenizer, template, layout, prompt)
    return [*before, *rest]


def prompt_parts(tokenizer: Tokenizer, template: str, layout: TokenLayout, prompt: str) -> tuple[list[int], list[int]]:
    """The same in two parts: what all prompts begin with, and the rest.

    Raises:
        PromptError: The prompt holds control tokens (turn markers, think or motion tags, codes) or nothing at all.
        ValueError: The template does not hold `{prompt}` once.
    """
    if template.count(_HOLE) != 1:
        raise ValueError(f"a prompt template holds {_HOLE} once, got {template!r}")
    prefix, suffix = template.split(_HOLE)
    ids = _encode(tokenizer, prompt.strip())
    if not ids:
        raise PromptError(f"the prompt has no words that the model knows, got {prompt!r}; say what the character does")
    turn_markers = {tokenizer.token_to_id(TURN_START), tokenizer.token_to_id(TURN_END), layout.turn_end}
    tags = {layout.think_open, layout.think_close, layout.motion_open, layout.motion_close}
    for token_id in ids:
        if token_id in turn_markers or token_id in tags or layout.is_of_code(token_id):
            raise PromptError(f"the prompt holds the control token {tokenizer.id_to_token(token_id)!r}; take it out")
    return _encode(tokenizer, prefix), [*ids, *_encode(tokenizer, suffix)]


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids
