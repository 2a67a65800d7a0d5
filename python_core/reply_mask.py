"""What a reply may go on with, while it is sampled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from python_core.contract.plan import PlanError
from python_core.contract.vocabulary import MAX_REASONING_TOKENS, Place, ReplyError, ReplyParser

NUM_TAGS = 5
"""Tokens of a reply that are neither reasoning nor codes."""


@dataclass
class ReplyRow:
    """One reply of a batch."""

    parser: ReplyParser
    """Where the reply is."""
    max_codes: int
    """After so many codes, history included, only `</Motion>` is left."""
    constrained: bool = True
    """Only tokens that the grammar allows are left; a reply that is free of it is over where it breaks it."""
    given: list[int] = field(default_factory=list)
    """Tokens that come next, whatever the model says."""
    history: list[int] = field(default_factory=list)
    """Tokens that are given after `<Motion>`."""
    min_codes: int = 0
    """Before so many codes, history included, the grammar leaves no `</Motion>`."""
    lasts: Callable[[Sequence[int]], tuple[int, int]] | None = None
    """New codes, at least and at most, that follow reasoning of these tokens; with a `PlanError` the reply is over.
    None: as many as the model likes.
    """
    over: bool = False
    is_unplanned: bool = False
    """Whether it is over because `lasts` knew no plan."""
    token_ids: list[int] = field(default_factory=list)
    """What was written."""
    forced: list[bool] = field(default_factory=list)
    """Of each token: whether no other was left to choose."""

    @property
    def ended(self) -> bool:
        """Whether the token that ends the turn was written."""
        return bool(self.token_ids) and self.token_ids[-1] == self.parser.layout.turn_end

    def take(self, token_id: int, forced: bool) -> None:
        """Go on with a token."""
        self.token_ids.append(token_id)
        self.forced.append(forced)
        if self.over or self.parser.place is Place.DONE:
            return
        try:
            self.parser.feed(token_id)
        except ReplyError:
            self.over = True
            return
        if token_id == self.parser.layout.motion_open:
            self.given = list(self.history)
        elif token_id == self.parser.layout.think_close and self.lasts is not None:
            self._end_reasoning(self.lasts)

    def _end_reasoning(self, lasts: Callable[[Sequence[int]], tuple[int, int]]) -> None:
        try:
            least, most = lasts(self.parser.reasoning_ids or ())
        except PlanError:
            self.over = self.is_unplanned = True
            return
        num_history = len(self.history) // self.parser.layout.num_levels
        longest = self.max_codes - num_history
        self.min_codes, self.max_codes = (num_history + min(codes, longest) for codes in (least, most))

    def only(self) -> int | None:
        """The token that has to come next, if the row says so and not the grammar; given ones are used up."""
        parser, layout = self.parser, self.parser.layout
        if self.over or parser.place is Place.DONE:
            return layout.turn_end
        if self.given:
            return self.given.pop(0)
        full = parser.place is Place.MOTION and len(parser.codes) >= self.max_codes and not parser.entries
        return layout.motion_close if self.constrained and full else None


class ReplyMask:
    """Takes the tokens that cannot come next out of the choice."""

    def __init__(self) -> None:
        # Replies are in few situations, and a mask of the whole vocabulary is slow to make.
        self._refused: dict[object, tuple[NDArray[np.bool_], bool]] = {}

    def __call__(self, rows: Sequence[ReplyRow], logits: Tensor) -> tuple[Tensor, list[bool]]:
        """Logits of the next token of each row [B, V] -> logits [B, V], and whether a single token is left."""
        refused = np.zeros(tuple(logits.shape), dtype=np.bool_)
        forced = [False] * len(rows)
        for number, row in enumerate(rows):
            only = row.only()
            if only is not None:
                refused[number] = True
                refused[number, only] = False
                forced[number] = True
            elif row.constrained:
                refused[number], forced[number] = self._of(row.parser, logits.shape[1])
                if len(row.parser.codes) < row.min_codes:
                    refused[number, row.parser.layout.motion_close] = True
        return logits.masked_fill(torch.from_numpy(refused).to(logits.device), float("-inf")), forced

    def _of(self, parser: ReplyParser, width: int) -> tuple[NDArray[np.bool_], bool]:
        """The mask of a situation, and whether it leaves a single token."""
        situation = parser.situation
        if situation not in self._refused:
            allowed = parser.allowed()
            # A model's head does not speak later levels, and may have rows of padding beyond the vocabulary.
            refused = np.ones(width, dtype=np.bool_)
            refused[: len(allowed)] = ~allowed[:width]
            self._refused[situation] = refused, int(allowed.sum()) == 1
        return self._refused[situation]


def longest_reply(max_codes: int, reasoning: bool = True) -> int:
    """Positions of the longest reply: reasoning, codes, think and motion tags, and the end of the turn."""
    return NUM_TAGS + MAX_REASONING_TOKENS * reasoning + max_codes
