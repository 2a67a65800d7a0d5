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


class PromptTemplate:
    """A template whose own text is encoded once.

    Args:
        tokenizer: The model's.
        template: Text with `{prompt}` in it.
        layout: Where the tokens of replies are.

    Raises:
        ValueError: The template does not hold `{prompt}` once.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, layout: TokenLayout) -> None:
        if template.count(_HOLE) != 1:
            raise ValueError(f"a prompt template holds {_HOLE} once, got {template!r}")
        self._tokenizer, self._layout = tokenizer, layout
        self._before, self._after = (_encode(tokenizer, text) for text in template.split(_HOLE))
        self._markers = {tokenizer.token_to_id(TURN_START), tokenizer.token_to_id(TURN_END), layout.turn_end}
        self._markers |= {layout.think_open, layout.think_close, layout.motion_open, layout.motion_close}

    def parts(self, prompt: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt in it, in two parts: the text before the prompt, which all prompts share, and the rest,
        ids(prompt without outer white space) + ids(text after it).

        Raises:
            PromptError: The prompt holds control tokens (turn markers, think or motion tags, codes) or nothing at all.
        """
        ids = _encode(self._tokenizer, prompt.strip())
        if not ids:
            raise PromptError(
                f"the prompt has no words that the model knows, got {prompt!r}; say what the character does"
            )
        for token_id in ids:
            if token_id in self._markers or self._layout.is_of_code(token_id):
                token = self._tokenizer.id_to_token(token_id)
                raise PromptError(f"the prompt holds the control token {token!r}; take it out")
        return [*self._before], [*ids, *self._after]

    def ids(self, prompt: str) -> list[int]:
        """The same in one piece.

        Raises:
            PromptError: As `parts`.
        """
        before, rest = self.parts(prompt)
        return [*before, *rest]


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids
