"""What the language model reads and writes, in token ids.

A prompt, then a reply:

    <think>1. walk forward, 2.0 s 2. turn left, 0.8 s</think><Motion><Motion_17>...<Motion_402></Motion>

`reasoning: off` starts with `<Motion>`. Training and serving read replies with the same `ReplyParser`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
MOTION_OPEN, MOTION_CLOSE = "<Motion>", "</Motion>"

PROMPT_TEMPLATE = f"{TURN_START}user\n{{prompt}}{TURN_END}\n{TURN_START}assistant\n"
MAX_REASONING_TOKENS = 96
"""Plans are trained to at most 80 tokens; more than this many is not a plan."""


def motion_tokens(num_codes: int) -> list[str]:
    """The tokens that are added to a language model's vocabulary, in the order of their ids."""
    codes = [f"<Motion_{code}>" for code in range(num_codes)]
    return [THINK_OPEN, THINK_CLOSE, MOTION_OPEN, MOTION_CLOSE, *codes]


@dataclass(frozen=True)
class TokenLayout:
    """Where the tokens of a reply are in the vocabulary; codes have consecutive ids."""

    think_open: int
    think_close: int
    motion_open: int
    motion_close: int
    first_code: int
    num_codes: int
    turn_end: int
    """Ends the reply, after `</Motion>`."""
    vocabulary_size: int

    @property
    def tags(self) -> tuple[int, ...]:
        """The tokens that mark the parts of a reply, codes apart."""
        return (self.think_open, self.think_close, self.motion_open, self.motion_close, self.turn_end)

    def code_id(self, code: int) -> int:
        """Token id of a code.

        Raises:
            ValueError: The code is not in the codebook.
        """
        if not 0 <= code < self.num_codes:
            raise ValueError(f"codes go from 0 to {self.num_codes - 1}, got {code}")
        return self.first_code + code

    def is_code(self, token_id: int) -> bool:
        return self.first_code <= token_id < self.first_code + self.num_codes

    def reply_ids(self, reasoning_ids: Sequence[int] | None, codes: Iterable[int]) -> list[int]:
        """Write a reply as token ids, without the token that ends the turn."""
        think = [] if reasoning_ids is None else [self.think_open, *reasoning_ids, self.think_close]
        return [*think, self.motion_open, *(self.code_id(code) for code in codes), self.motion_close]


class ReplyError(ValueError):
    """A token that cannot come next in a reply; says where, what came and what was expected."""


class Place(Enum):
    """Where in a reply the parser is."""

    START = "<think> or <Motion>"
    REASONING = "reasoning or </think>"
    BETWEEN = "<Motion>"
    MOTION = "a code or </Motion>"
    DONE = "the end of the turn"


@dataclass
class ReplyParser:
    """Reads a reply token by token and refuses the first token that does not belong."""

    layout: TokenLayout
    place: Place = Place.START
    reasoning_ids: list[int] | None = None
    """Tokens between the think markers; None for a reply without reasoning."""
    codes: list[int] = field(default_factory=list)
    num_tokens: int = 0

    def feed(self, token_id: int) -> int | None:
        """Take the next token and return its code, or None if it is not one.

        Raises:
            ReplyError: The token cannot come here.
        """
        layout, place = self.layout, self.place
        if place is Place.START and token_id == layout.think_open:
            self.place, self.reasoning_ids = Place.REASONING, []
        elif place in (Place.START, Place.BETWEEN) and token_id == layout.motion_open:
            self.place = Place.MOTION
        elif place is Place.REASONING and token_id == layout.think_close:
            self.place = Place.BETWEEN
        elif place is Place.REASONING and self._is_text(token_id):
            assert self.reasoning_ids is not None
            if len(self.reasoning_ids) == MAX_REASONING_TOKENS:
                raise ReplyError(f"expected </think> after at most {MAX_REASONING_TOKENS} tokens of reasoning")
            self.reasoning_ids.append(token_id)
        elif place is Place.MOTION and layout.is_code(token_id):
            self.codes.append(token_id - layout.first_code)
        elif place is Place.MOTION and token_id == layout.motion_close and self.codes:
            self.place = Place.DONE
        elif place is not Place.DONE or token_id != layout.turn_end:
            raise ReplyError(f"token {self.num_tokens} of the reply: expected {place.value}, got token {token_id}")
        self.num_tokens += 1
        return self.codes[-1] if self.place is Place.MOTION and layout.is_code(token_id) else None

    def allowed(self) -> NDArray[np.bool_]:
        """Mask over the vocabulary, [V]: the tokens that `feed` would take now."""
        layout = self.layout
        mask = np.zeros(layout.vocabulary_size, dtype=np.bool_)
        if self.place is Place.START:
            mask[[layout.think_open, layout.motion_open]] = True
        elif self.place is Place.REASONING:
            assert self.reasoning_ids is not None
            if len(self.reasoning_ids) < MAX_REASONING_TOKENS:
                mask[:] = True
                mask[[*layout.tags]] = False
                mask[layout.first_code : layout.first_code + layout.num_codes] = False
            mask[layout.think_close] = True
        elif self.place is Place.BETWEEN:
            mask[layout.motion_open] = True
        elif self.place is Place.MOTION:
            mask[layout.first_code : layout.first_code + layout.num_codes] = True
            mask[layout.motion_close] = bool(self.codes)
        else:
            mask[layout.turn_end] = True
        return mask

    def _is_text(self, token_id: int) -> bool:
        layout = self.layout
        in_vocabulary = 0 <= token_id < layout.vocabulary_size
        return in_vocabulary and token_id not in layout.tags and not layout.is_code(token_id)


def parse_reply(token_ids: Iterable[int], layout: TokenLayout) -> ReplyParser:
    """Read a whole reply, with or without the token that ends the turn.

    Raises:
        ReplyError: A token that does not belong, or a reply that breaks off.
    """
    parser = ReplyParser(layout)
    for token_id in token_ids:
        parser.feed(token_id)
    if parser.place is not Place.DONE:
        raise ReplyError(f"the reply ends after {parser.num_tokens} tokens; expected {parser.place.value}")
    return parser
