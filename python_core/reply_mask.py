"""What a reply may go on with, while `generate` samples it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from python_core.contract.vocabulary import MAX_REASONING_TOKENS, Place, ReplyError, ReplyParser, TokenLayout

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
    over: bool = False
    forced: list[bool] = field(default_factory=list)
    """Of each token that was sampled: whether no other was left to choose."""


class ReplyMask(LogitsProcessor):
    """Takes the tokens that cannot come next out of the choice.

    Args:
        rows: The replies of the batch; None leaves a row alone.
        prompt_length: Tokens before the first that is sampled.
    """

    def __init__(self, rows: Sequence[ReplyRow | None], prompt_length: int) -> None:
        self.rows, self.prompt_length = rows, prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Token ids so far [B, N] and logits of the next [B, V] -> logits [B, V]."""
        last = input_ids[:, -1].tolist() if input_ids.shape[1] > self.prompt_length else None
        refused = np.zeros(tuple(scores.shape), dtype=np.bool_)
        for number, row in enumerate(self.rows):
            if row is None:
                continue
            if last is not None:
                _follow(row, last[number])
            allowed = _allowed(row)
            row.forced.append(allowed is not None and int(allowed.sum()) == 1)
            if allowed is not None:
                # Rows of padding that a model has beyond the vocabulary are refused as well.
                refused[number] = True
                refused[number, : len(allowed)] = ~allowed
        return scores.masked_fill(torch.from_numpy(refused).to(scores.device), float("-inf"))


def longest_reply(layout: TokenLayout, max_codes: int, reasoning: bool = True) -> int:
    """Tokens of the longest reply: reasoning, codes, think and motion tags, and the end of the turn."""
    return NUM_TAGS + MAX_REASONING_TOKENS * reasoning + layout.num_levels * max_codes


def _follow(row: ReplyRow, token_id: int) -> None:
    if row.over or row.parser.place is Place.DONE:
        return
    try:
        row.parser.feed(token_id)
    except ReplyError:
        row.over = True
        return
    if token_id == row.parser.layout.motion_open:
        row.given = list(row.history)


def _allowed(row: ReplyRow) -> Any:
    """Mask over the vocabulary, [V]; None where all may come."""
    parser, layout = row.parser, row.parser.layout
    only = None
    if row.over or parser.place is Place.DONE:
        only = layout.turn_end
    elif row.given:
        only = row.given.pop(0)
    elif not row.constrained:
        return None
    elif parser.place is Place.MOTION and len(parser.codes) >= row.max_codes and not parser.entries:
        only = layout.motion_close
    if only is None:
        return parser.allowed()
    allowed = np.zeros(layout.vocabulary_size, dtype=np.bool_)
    allowed[only] = True
    return allowed
