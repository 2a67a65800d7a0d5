import pytest
import torch
from transformers.cache_utils import DynamicLayer

from python_core.contract.vocabulary import CodebookSize, ReplyParser, TokenLayout
from python_core.depth_head import DepthHeadShape
from python_core.language_model import LanguageModelShape, new_language_model, token_layout, train_text_tokenizer
from python_core.motion_model import SpeaksMotion, fold
from python_core.reply_mask import ReplyRow, longest_reply
from python_core.reply_sampling import ROOM, RoomyLayer, sample_replies
from python_core.token_draw import draw

SHAPE = LanguageModelShape(text_tokens=300, width=32, layers=2, heads=2, feed_forward=32, max_tokens=512)
DEPTH = DepthHeadShape(width=16, layers=1, feed_forward=16)
CODEBOOK = CodebookSize(8, 3)
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9], [10], [1, 2, 3, 4]]
MAX_CODES = (3, 80, 12, 2)


@pytest.fixture(scope="module")
def spoken() -> tuple[SpeaksMotion, TokenLayout]:
    tokenizer = train_text_tokenizer(["a person walks and waves"], SHAPE.text_tokens, CODEBOOK)
    layout = token_layout(tokenizer, CODEBOOK)
    torch.manual_seed(1)
    return new_language_model(SHAPE, DEPTH, layout).eval(), layout


def replies(
    model: SpeaksMotion, layout: TokenLayout, max_codes: tuple[int, ...] = MAX_CODES, **asked: float
) -> list[ReplyRow]:
    rows = [ReplyRow(ReplyParser(layout), most, given=[layout.motion_open]) for most in max_codes]
    rows[1].history = [token_id for code in range(72) for token_id in layout.code_ids(code)]
    torch.manual_seed(7)
    sample_replies(model, PROMPTS, rows, longest_reply(max(max_codes)), 0.8, **asked)
    return rows


def positions(token_ids: list[int], layout: TokenLayout) -> torch.Tensor:
    return fold(torch.tensor([token_ids]), layout.first_code, layout.codebook).input_ids


@torch.no_grad()
def test_tokens_are_those_that_the_whole_model_draws_without_a_cache(spoken: tuple[SpeaksMotion, TokenLayout]):
    model, layout = spoken
    rows = replies(model, layout, depth_temperature=0.5)
    # Long enough for the buffers to grow, and replies leave the batch before the last has ended.
    lengths = [positions(row.token_ids, layout).shape[1] for row in rows]
    assert max(lengths) > ROOM > 2 * min(lengths)
    torch.manual_seed(7)
    chances = [torch.rand(len(rows), layout.num_levels) for _ in range(max(lengths))]
    for place, (prompt, row) in enumerate(zip(PROMPTS, rows, strict=True)):
        logits = model(input_ids=torch.tensor([[*prompt, *row.token_ids]])).logits[0, len(prompt) - 1 :]
        again = ReplyParser(layout)
        folded = fold(torch.tensor([row.token_ids]), layout.first_code, layout.codebook)
        drawn_at = zip(folded.places[0].tolist(), folded.levels[0].tolist(), strict=True)
        for number, (token_id, (step, level)) in enumerate(zip(row.token_ids, drawn_at, strict=True)):
            if not row.forced[number]:
                allowed = torch.from_numpy(again.allowed())
                masked = logits[number, : len(allowed)].masked_fill(~allowed, float("-inf")) / (0.4 if level else 0.8)
                assert draw(masked[None], chances[step][place : place + 1, level], 1.0).tolist() == [token_id]
            again.feed(token_id)
        assert row.ended


def test_reasoning_that_is_drawn_cold_is_the_likeliest_and_motion_is_not(spoken: tuple[SpeaksMotion, TokenLayout]):
    model, layout = spoken
    written = []
    for seed in (1, 2):
        rows = [ReplyRow(ReplyParser(layout), 4, given=[layout.think_open]) for _ in PROMPTS]
        torch.manual_seed(seed)
        sample_replies(model, PROMPTS, rows, longest_reply(4), 0.8, reasoning_temperature=1e-6)
        written.append(rows)
    for one, other in zip(*written, strict=True):
        assert one.parser.reasoning_ids == other.parser.reasoning_ids
        assert one.parser.reasoning_ids
    assert [row.token_ids for row in written[0]] != [row.token_ids for row in written[1]]


def test_a_reply_does_not_depend_on_when_others_end(spoken: tuple[SpeaksMotion, TokenLayout]):
    longer = replies(*spoken, max_codes=(80, 80, 12, 60))
    for first, second, same in zip(replies(*spoken), longer, (False, True, True, False), strict=True):
        assert (first.token_ids == second.token_ids) == same


def test_a_reply_that_finds_no_end_is_cut_off(spoken: tuple[SpeaksMotion, TokenLayout]):
    model, layout = spoken
    rows = [ReplyRow(ReplyParser(layout), 40, given=[layout.motion_open]) for _ in PROMPTS]
    sample_replies(model, PROMPTS, rows, 2, 1.0)
    assert {len(row.token_ids) for row in rows} == {1 + layout.num_levels}
    assert not any(row.ended for row in rows)


def test_draws_are_as_likely_as_the_softmax_says_and_none_is_impossible():
    logits = torch.tensor([1.0, float("-inf"), 0.0, -1.0, float("-inf")])
    chances = (torch.arange(10_000) + 0.5) / 10_000
    drawn = draw(logits.expand(10_000, -1), chances, 1.0)
    torch.testing.assert_close(drawn.bincount(minlength=5) / 10_000, logits.softmax(0), atol=1e-3, rtol=0)
    # 1 is never drawn, but its nearest neighbour times a sum may be rounded up to the sum.
    ends = torch.tensor([0.0, 1 - 2**-24, 1.0])
    assert draw(logits.expand(3, -1), ends, 1.0).tolist() == [0, 3, 0]


def test_top_p_leaves_the_likeliest_that_reach_it():
    logits = torch.tensor([0.2, 0.5, 0.3]).log()
    chances = (torch.arange(1000) + 0.5) / 1000
    for top_p, left in ((0.4, {1}), (0.6, {1, 2}), (0.9, {0, 1, 2})):
        drawn = draw(logits.expand(1000, -1), chances, top_p)
        assert {*drawn.tolist()} == left
    shares = draw(logits.expand(1000, -1), chances, 0.6).bincount(minlength=3) / 1000
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.625, 0.375]), atol=1e-3, rtol=0)


def test_a_roomy_cache_holds_what_a_dynamic_one_holds():
    torch.manual_seed(2)
    roomy, plain = RoomyLayer(), DynamicLayer()
    for batch, number in ((4, 5), (4, 1), (4, ROOM), (2, 1), (2, ROOM)):
        if batch == 2 and number == 1:
            for layer in (roomy, plain):
                layer.batch_select_indices(torch.tensor([3, 1]))
        keys, values = torch.randn(2, batch, 3, number, 8)
        for found, wanted in zip(roomy.update(keys, values), plain.update(keys, values), strict=True):
            assert torch.equal(found, wanted)
        assert roomy.get_seq_length() == plain.get_seq_length()
