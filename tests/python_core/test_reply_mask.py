from collections.abc import Sequence

import pytest
import torch

from python_core.contract.plan import PlanError
from python_core.contract.vocabulary import ReplyParser, TokenLayout, parse_reply
from python_core.motion_model import fold
from python_core.reply_mask import ReplyMask, ReplyRow, longest_reply

MAX_CODES = 5
LONGEST = 5 + 96 + 2 * MAX_CODES
"""Tokens of the longest reply."""


@pytest.fixture
def layout() -> TokenLayout:
    """20 words, the tags, and two levels of 8."""
    return TokenLayout(
        think_open=20,
        think_close=21,
        motion_open=22,
        motion_close=23,
        first_code=24,
        level_size=8,
        num_levels=2,
        turn_end=19,
        vocabulary_size=40,
    )


def sample(rows: list[ReplyRow], layout: TokenLayout, num_tokens: int = LONGEST, seed: int = 1) -> list[list[int]]:
    """What random logits write under the mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = ReplyMask()
    for _ in range(num_tokens):
        # More columns than the vocabulary has, as padded embeddings bring.
        logits = torch.randn(len(rows), layout.vocabulary_size + 8, generator=generator)
        masked, forced = mask(rows, logits)
        assert forced == (masked.isfinite().sum(dim=1) == 1).tolist()
        drawn = masked.softmax(-1).multinomial(1, generator=generator)[:, 0].tolist()
        for row, token_id, only in zip(rows, drawn, forced, strict=True):
            row.take(token_id, only)
    return [row.token_ids for row in rows]


def test_under_the_grammar_random_logits_write_replies_that_parse_and_end(layout: TokenLayout):
    rows = [ReplyRow(ReplyParser(layout), MAX_CODES), ReplyRow(ReplyParser(layout), 2)]
    written = sample(rows, layout)
    for ids, most in zip(written, (MAX_CODES, 2), strict=True):
        reply = parse_reply(ids[: ids.index(layout.turn_end) + 1], layout)
        assert 1 <= len(reply.codes) <= most


def test_what_is_given_comes_and_then_its_history(layout: TokenLayout):
    history = [token for code in (3, 60) for token in layout.code_ids(code)]
    for constrained in (True, False):
        row = ReplyRow(ReplyParser(layout), MAX_CODES, constrained, [layout.motion_open], list(history))
        (written,) = sample([row], layout, 5)
        assert written == [layout.motion_open, *history]


def test_a_free_reply_is_over_where_it_breaks_the_grammar(layout: TokenLayout):
    broken = 0
    for seed in range(20):
        row = ReplyRow(ReplyParser(layout), MAX_CODES, constrained=False)
        (written,) = sample([row], layout, 30, seed)
        assert row.over
        first = row.parser.num_tokens
        assert written[first + 1 :] == [layout.turn_end] * (len(written) - first - 1)
        broken += written[first] != layout.turn_end
    assert broken > 10


def test_a_motion_is_as_long_as_its_reasoning_says_and_without_a_plan_there_is_none(layout: TokenLayout):
    history = [token for code in (3, 60) for token in layout.code_ids(code)]

    def lasts(reasoning_ids: Sequence[int]) -> tuple[int, int]:
        if len(reasoning_ids) % 2:
            raise PlanError("an odd number of tokens")
        return 3, 4

    num_codes = set()
    for seed in range(12):
        rows = [
            ReplyRow(ReplyParser(layout), 2 + most, given=[layout.think_open], history=history, lasts=lasts)
            for most in (2, MAX_CODES)
        ]
        for row, most in zip(rows, (2, 4), strict=True):
            (written,) = sample([row], layout, LONGEST + 2, seed)
            written = written[: written.index(layout.turn_end) + 1]
            if row.is_unplanned:
                assert written[-2] == layout.think_close
                continue
            num_new = len(parse_reply(written, layout).codes) - 2
            assert min(3, most) <= num_new <= most
            num_codes.add((most, num_new))
    assert num_codes == {(2, 2), (4, 3), (4, 4)}


def test_without_reasoning_the_longest_reply_is_shorter_by_it(layout: TokenLayout):
    rows = [ReplyRow(ReplyParser(layout), MAX_CODES, given=[layout.motion_open])]
    (written,) = sample(rows, layout)
    last = written.index(layout.turn_end)
    assert len(fold(torch.tensor([written[: last + 1]]), layout.first_code, layout.codebook).input_ids[0]) <= (
        longest_reply(MAX_CODES, reasoning=False)
    )
    assert longest_reply(MAX_CODES) - longest_reply(MAX_CODES, reasoning=False) == 96
