"""What the language model reads and writes, in token ids.

A prompt, then a reply:

    <think>1. walk forward, 2.0 s 2. turn left, 0.8 s</think><Motion><Motion_17>...<Motion_402></Motion>

`reasoning: off` starts with `<Motion>`. With a codebook of several levels each code is as many tokens, one of each
level in turn. Training and serving read replies with the same `ReplyParser`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
MOTION_OPEN, MOTION_CLOSE = "<Motion>", "</Motion>"

PROMPT_TEMPLATE = f"{TURN_START}user\n{{prompt}}{TURN_END}\n{TURN_START}assistant\n"
MAX_REASONING_TOKENS = 96
"""More than this many are not a plan, and plans of more are not trained on. A teacher and compositions keep to 80."""
MAX_CODES = 2**63

Position = tuple[int, ...]
"""What a language model reads in one step: the tokens of a code, or one token and -1 for each level more."""


@dataclass(frozen=True)
class CodebookSize:
    """Levels of vectors that add up, each correcting what the ones before it left over. A code is one number for one
    entry of each level: entry + level_size * entry of the next level + ...

    Raises:
        ValueError: A level without entries, no level, or more than MAX_CODES codes.
    """

    level_size: int
    """Entries of a level."""
    num_levels: int = 1

    def __post_init__(self) -> None:
        if self.level_size < 1 or self.num_levels < 1:
            raise ValueError(f"a codebook has levels with entries, got {self.num_levels} of {self.level_size}")
        if self.num_codes > MAX_CODES:
            raise ValueError(
                f"{self.num_levels} levels of {self.level_size} entries make codes that 64 bits do not hold; take fewer"
            )

    @property
    def num_codes(self) -> int:
        return self.level_size**self.num_levels

    @property
    def num_tokens(self) -> int:
        """Tokens that speak codes."""
        return self.level_size * self.num_levels

    def entries(self, code: int) -> list[int]:
        """The entry of each level.

        Raises:
            ValueError: The code is not in the codebook.
        """
        if not 0 <= code < self.num_codes:
            raise ValueError(f"codes go from 0 to {self.num_codes - 1}, got {code}")
        return [code // self.level_size**level % self.level_size for level in range(self.num_levels)]

    def code(self, entries: Sequence[int]) -> int:
        """The code of an entry of each level."""
        return sum(entry * self.level_size**level for level, entry in enumerate(entries))


def motion_tokens(codebook: CodebookSize) -> list[str]:
    """The tokens that are added to a language model's vocabulary, in the order of their ids; level after level."""
    codes = [f"<Motion_{number}>" for number in range(codebook.num_tokens)]
    return [THINK_OPEN, THINK_CLOSE, MOTION_OPEN, MOTION_CLOSE, *codes]


@dataclass(frozen=True)
class TokenLayout:
    """Where the tokens of a reply are in the vocabulary; those of codes have consecutive ids, level after level."""

    think_open: int
    think_close: int
    motion_open: int
    motion_close: int
    first_code: int
    level_size: int
    num_levels: int
    turn_end: int
    """Ends the reply, after `</Motion>`."""
    vocabulary_size: int

    @property
    def tags(self) -> tuple[int, ...]:
        """The tokens that mark the parts of a reply, codes apart."""
        return (self.think_open, self.think_close, self.motion_open, self.motion_close, self.turn_end)

    @property
    def codebook(self) -> CodebookSize:
        return CodebookSize(self.level_size, self.num_levels)

    @property
    def num_codes(self) -> int:
        return self.codebook.num_codes

    def code_ids(self, code: int) -> list[int]:
        """Token ids of a code, one of each level.

        Raises:
            ValueError: The code is not in the codebook.
        """
        return self.entry_ids(self.codebook.entries(code))

    def entry_ids(self, entries: Sequence[int]) -> list[int]:
        """Token ids of an entry of each of the first levels."""
        return [self.first_code + level * self.level_size + entry for level, entry in enumerate(entries)]

    @property
    def num_spoken(self) -> int:
        """Tokens that the language model's own head speaks: all but those of later levels, which have the last ids."""
        return self.first_code + self.level_size

    def fold(self, token_ids: Sequence[int]) -> list[Position]:
        """Put the tokens of each code at one position, as `motion_model.fold` does.

        Raises:
            ValueError: A code lacks a level.
        """
        positions: list[Position] = []
        start = 0
        while start < len(token_ids):
            of_code = self.is_of_code(token_ids[start])
            ids = tuple(token_ids[start : start + (self.num_levels if of_code else 1)])
            if of_code:
                levels = [(token_id - self.first_code) // self.level_size for token_id in ids]
                if levels != [*range(self.num_levels)]:
                    raise ValueError(f"tokens {ids} from place {start} on are of levels {levels}, which is no code")
            positions.append(ids + (-1,) * (self.num_levels - len(ids)))
            start += len(ids)
        return positions

    def is_of_code(self, token_id: int) -> bool:
        return self.first_code <= token_id < self.first_code + self.codebook.num_tokens

    @cached_property
    def reasoning_ranges(self) -> tuple[range, ...]:
        """Ids of all tokens that reasoning may hold, and `</think>`, in ascending ranges."""
        after_codes = self.first_code + self.codebook.num_tokens
        others = {*self.tags, *range(self.first_code, after_codes)} - {self.think_close}
        edges = [-1, *sorted(others), self.vocabulary_size]
        gaps = (range(left + 1, right) for left, right in pairwise(edges))
        return tuple(gap for gap in gaps if gap)

    def reply_ids(self, reasoning_ids: Sequence[int] | None, codes: Iterable[int]) -> list[int]:
        """Write a reply as token ids, without the token that ends the turn."""
        think = [] if reasoning_ids is None else [self.think_open, *reasoning_ids, self.think_close]
        return [
            *think,
            self.motion_open,
            *(token_id for code in codes for token_id in self.code_ids(code)),
            self.motion_close,
        ]


def _singles(*token_ids: int) -> tuple[range, ...]:
    return tuple(range(token_id, token_id + 1) for token_id in sorted(token_ids))


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
    entries: list[int] = field(default_factory=list)
    """Of the code that is being spoken, of its first levels."""
    num_tokens: int = 0

    def feed(self, token_id: int) -> int | None:
        """Take the next token and return the code that it completes, or None if it completes none.

        Raises:
            ReplyError: The token cannot come here.
        """
        layout, place, complete = self.layout, self.place, None
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
        elif place is Place.MOTION and token_id in self._next_entries():
            self.entries.append(token_id - self._next_entries().start)
            if len(self.entries) == layout.num_levels:
                complete, self.entries = layout.codebook.code(self.entries), []
                self.codes.append(complete)
        elif place is Place.MOTION and token_id == layout.motion_close and self.codes and not self.entries:
            self.place = Place.DONE
        elif place is not Place.DONE or token_id != layout.turn_end:
            raise ReplyError(f"token {self.num_tokens} of the reply: expected {place.value}, got token {token_id}")
        self.num_tokens += 1
        return complete

    @property
    def situation(self) -> tuple[Place, int, bool]:
        """What `allowed` depends on."""
        if self.reasoning_ids is not None and self.place is Place.REASONING:
            return self.place, 0, len(self.reasoning_ids) < MAX_REASONING_TOKENS
        return self.place, len(self.entries), bool(self.codes)

    def allowed_ranges(self) -> tuple[range, ...]:
        """Ids of the tokens that `feed` would take now, in ascending ranges."""
        layout = self.layout
        if self.place is Place.START:
            return _singles(layout.think_open, layout.motion_open)
        if self.place is Place.REASONING:
            assert self.reasoning_ids is not None
            full = len(self.reasoning_ids) == MAX_REASONING_TOKENS
            return _singles(layout.think_close) if full else layout.reasoning_ranges
        if self.place is Place.BETWEEN:
            return _singles(layout.motion_open)
        if self.place is Place.DONE:
            return _singles(layout.turn_end)
        if self.entries or not self.codes:
            return (self._next_entries(),)
        return tuple(sorted((self._next_entries(), *_singles(layout.motion_close)), key=lambda ids: ids.start))

    def allowed(self) -> NDArray[np.bool_]:
        """The same as a mask over the vocabulary, [V]."""
        mask = np.zeros(self.layout.vocabulary_size, dtype=np.bool_)
        for ids in self.allowed_ranges():
            mask[ids.start : ids.stop] = True
        return mask

    def _next_entries(self) -> range:
        """Token ids of the level that comes next."""
        first = self.layout.first_code + len(self.entries) * self.layout.level_size
        return range(first, first + self.layout.level_size)

    def _is_text(self, token_id: int) -> bool:
        layout = self.layout
        in_vocabulary = 0 <= token_id < layout.vocabulary_size
        return in_vocabulary and token_id not in layout.tags and not layout.is_of_code(token_id)


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
