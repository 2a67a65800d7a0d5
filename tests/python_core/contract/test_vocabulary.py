from dataclasses import replace

import numpy as np
import pytest

from python_core.contract.vocabulary import (
    MAX_REASONING_TOKENS,
    CodebookSize,
    Place,
    ReplyError,
    ReplyParser,
    TokenLayout,
    motion_tokens,
    parse_reply,
)

NUM_CODES = 4
# 0, 1, 3, 4 and 13 are words.
LAYOUT = TokenLayout(
    think_open=5,
    think_close=6,
    motion_open=7,
    motion_close=8,
    first_code=9,
    level_size=NUM_CODES,
    num_levels=1,
    turn_end=2,
    vocabulary_size=14,
)
# Two levels of 2 entries: 9 and 10, then 11 and 12.
TWO_LEVELS = replace(LAYOUT, level_size=2, num_levels=2)
TO, TC, MO, MC, END = 5, 6, 7, 8, 2
C0, C3 = 9, 12

GOOD = {
    "without reasoning": ([MO, C0, MC], None, [0]),
    "without reasoning, turn ended": ([MO, C3, C0, C3, MC, END], None, [3, 0, 3]),
    "with reasoning": ([TO, 1, 13, 0, TC, MO, C0, C3, MC], [1, 13, 0], [0, 3]),
    "with empty reasoning": ([TO, TC, MO, C0, MC, END], [], [0]),
    "with the longest reasoning": (
        [TO, *[1] * MAX_REASONING_TOKENS, TC, MO, C0, MC],
        [1] * MAX_REASONING_TOKENS,
        [0],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_reply_is_read(name: str):
    token_ids, reasoning_ids, codes = GOOD[name]
    parser = parse_reply(token_ids, LAYOUT)
    assert (parser.reasoning_ids, parser.codes, parser.place) == (reasoning_ids, codes, Place.DONE)
    assert parser.num_tokens == len(token_ids)


@pytest.mark.parametrize("name", GOOD)
def test_every_prefix_of_a_good_reply_is_taken_and_only_the_whole_is_a_reply(name: str):
    token_ids = GOOD[name][0]
    whole = token_ids.index(MC) + 1
    for length in range(len(token_ids) + 1):
        parser = ReplyParser(LAYOUT)
        for token_id in token_ids[:length]:
            assert parser.allowed()[token_id]
            parser.feed(token_id)
        if length < whole:
            with pytest.raises(ReplyError, match=f"ends after {length} tokens; expected"):
                parse_reply(token_ids[:length], LAYOUT)
        else:
            parse_reply(token_ids[:length], LAYOUT)


def test_a_code_is_given_back_as_it_comes_and_nothing_else_is():
    parser = ReplyParser(LAYOUT)
    assert [parser.feed(token_id) for token_id in (TO, 1, TC, MO, C3, C0, MC, END)] == [
        None, None, None, None, 3, 0, None, None,
    ]  # fmt: skip


BAD = {
    "text first": ([1], 0, "<think> or <Motion>", 1),
    "code first": ([C0], 0, "<think> or <Motion>", C0),
    "closed before opened": ([TC], 0, "<think> or <Motion>", TC),
    "ended before begun": ([END], 0, "<think> or <Motion>", END),
    "code in reasoning": ([TO, 1, C0], 2, "reasoning or </think>", C0),
    "motion in reasoning": ([TO, MO], 1, "reasoning or </think>", MO),
    "thinks in reasoning": ([TO, TO], 1, "reasoning or </think>", TO),
    "turn ends in reasoning": ([TO, 1, END], 2, "reasoning or </think>", END),
    "text after reasoning": ([TO, 1, TC, 1], 3, "<Motion>", 1),
    "thinks twice": ([TO, TC, TO], 2, "<Motion>", TO),
    "text in motion": ([MO, C0, 1], 2, "a code or </Motion>", 1),
    "no code": ([MO, MC], 1, "a code or </Motion>", MC),
    "motion in motion": ([MO, C0, MO], 2, "a code or </Motion>", MO),
    "thinks in motion": ([MO, C0, TO], 2, "a code or </Motion>", TO),
    "turn ends in motion": ([MO, C0, END], 2, "a code or </Motion>", END),
    "code after the end": ([MO, C0, MC, C0], 3, "the end of the turn", C0),
    "second motion": ([MO, C0, MC, MO], 3, "the end of the turn", MO),
    "negative": ([TO, -1], 1, "reasoning or </think>", -1),
    "beyond the vocabulary": ([TO, 14], 1, "reasoning or </think>", 14),
    "thinking ends in motion": ([MO, C0, TC], 2, "a code or </Motion>", TC),
    "just above the codes": ([MO, 13], 1, "a code or </Motion>", 13),
}


@pytest.mark.parametrize("name", BAD)
def test_the_first_token_that_does_not_belong_is_refused_and_named(name: str):
    token_ids, number, expected, token_id = BAD[name]
    parser = ReplyParser(LAYOUT)
    for taken in token_ids[:-1]:
        parser.feed(taken)
    before = (parser.place, list(parser.codes), parser.num_tokens)
    with pytest.raises(ReplyError) as caught:
        parser.feed(token_ids[-1])
    assert str(caught.value) == f"token {number} of the reply: expected {expected}, got token {token_id}"
    assert (parser.place, parser.codes, parser.num_tokens) == before


def test_reasoning_that_does_not_end_is_refused():
    parser = ReplyParser(LAYOUT)
    for token_id in [TO, *[1] * MAX_REASONING_TOKENS]:
        parser.feed(token_id)
    assert np.flatnonzero(parser.allowed()).tolist() == [TC]
    with pytest.raises(ReplyError, match=f"after at most {MAX_REASONING_TOKENS} tokens"):
        parser.feed(1)


@pytest.mark.parametrize("name", GOOD)
def test_allowed_is_what_feed_takes_at_every_place(name: str):
    token_ids = GOOD[name][0]
    for length in range(len(token_ids) + 1):
        taken = np.zeros(LAYOUT.vocabulary_size, dtype=np.bool_)
        for token_id in range(LAYOUT.vocabulary_size):
            parser = ReplyParser(LAYOUT)
            for before in token_ids[:length]:
                parser.feed(before)
            mask = parser.allowed()
            try:
                parser.feed(token_id)
                taken[token_id] = True
            except ReplyError:
                pass
            assert mask[token_id] == taken[token_id], (length, token_id)


def fuzz(num_replies: int, layout: TokenLayout) -> int:
    """Feed random tokens, most of them allowed, and return how many replies ended well."""
    random = np.random.default_rng(3)
    num_done = 0
    for _ in range(num_replies):
        parser = ReplyParser(layout)
        for _ in range(30):
            token_id = int(random.integers(-2, layout.vocabulary_size + 2))
            if random.random() < 0.9:
                token_id = int(random.choice(np.flatnonzero(parser.allowed())))
            inside = 0 <= token_id < layout.vocabulary_size
            allowed = inside and bool(parser.allowed()[token_id])
            try:
                code = parser.feed(token_id)
            except ReplyError:
                assert not allowed
                break
            assert allowed
            assert code is None or layout.code_ids(code)[-1] == token_id
        if parser.place is Place.DONE:
            num_done += 1
            written = layout.reply_ids(parser.reasoning_ids, parser.codes)
            again = parse_reply(written, layout)
            assert (again.reasoning_ids, again.codes) == (parser.reasoning_ids, parser.codes)
    return num_done


@pytest.mark.parametrize("layout", [LAYOUT, TWO_LEVELS], ids=["one level", "two levels"])
def test_random_tokens_are_taken_or_are_a_reply_error(layout: TokenLayout):
    assert fuzz(200, layout) > 0


@pytest.mark.slow
@pytest.mark.parametrize("layout", [LAYOUT, TWO_LEVELS], ids=["one level", "two levels"])
def test_many_random_tokens_are_taken_or_are_a_reply_error(layout: TokenLayout):
    assert fuzz(20_000, layout) > 0


@pytest.mark.parametrize("reasoning_ids", [None, [], [1, 3, 13]])
def test_a_written_reply_is_read_back(reasoning_ids: list[int] | None):
    parser = parse_reply(LAYOUT.reply_ids(reasoning_ids, [3, 0, 1]), LAYOUT)
    assert (parser.reasoning_ids, parser.codes) == (reasoning_ids, [3, 0, 1])


def test_codes_have_consecutive_ids():
    assert [LAYOUT.code_ids(code) for code in range(NUM_CODES)] == [[9], [10], [11], [12]]
    assert [token_id for token_id in range(-1, 15) if LAYOUT.is_of_code(token_id)] == [9, 10, 11, 12]


def test_a_code_of_two_levels_is_spoken_as_a_token_of_each():
    assert [TWO_LEVELS.code_ids(code) for code in range(4)] == [[9, 11], [10, 11], [9, 12], [10, 12]]
    parser = ReplyParser(TWO_LEVELS)
    assert [parser.feed(token_id) for token_id in (MO, 10, 11, 9, 12, MC)] == [None, None, 1, None, 2, None]
    assert parser.codes == [1, 2]


def test_levels_come_in_turn_and_a_code_is_spoken_to_its_end():
    parser = ReplyParser(TWO_LEVELS)
    allowed = []
    for token_id in (MO, 10, 11):
        parser.feed(token_id)
        allowed.append(np.flatnonzero(parser.allowed()).tolist())
    assert allowed == [[9, 10], [11, 12], [MC, 9, 10]]
    parser.feed(9)
    for out_of_turn in (9, MC):
        with pytest.raises(ReplyError, match="expected a code or </Motion>"):
            parser.feed(out_of_turn)


@pytest.mark.parametrize("codebook", [CodebookSize(512), CodebookSize(5, 3)])
def test_codes_are_their_entries(codebook: CodebookSize):
    for code in range(0, codebook.num_codes, 7):
        assert codebook.code(codebook.entries(code)) == code


def test_a_codebook_without_entries_is_refused():
    with pytest.raises(ValueError, match="a codebook has levels with entries, got 0 of 512"):
        CodebookSize(512, 0)


def test_a_codebook_whose_codes_do_not_fit_64_bits_is_refused():
    assert CodebookSize(512, 7).code([511] * 7) == 2**63 - 1
    with pytest.raises(ValueError, match="8 levels of 512 entries make codes that 64 bits do not hold; take fewer"):
        CodebookSize(512, 8)


@pytest.mark.parametrize("code", [-1, NUM_CODES])
def test_a_code_outside_the_codebook_has_no_id(code: int):
    with pytest.raises(ValueError, match=f"codes go from 0 to 3, got {code}"):
        LAYOUT.code_ids(code)
    with pytest.raises(ValueError, match="codes go from 0 to 3"):
        LAYOUT.reply_ids(None, [0, code])


def test_added_tokens_are_four_tags_and_the_codes_in_order():
    tokens = motion_tokens(CodebookSize(512))
    assert tokens[:5] == ["<think>", "</think>", "<Motion>", "</Motion>", "<Motion_0>"]
    assert (tokens[4 + 511], len(tokens)) == ("<Motion_511>", 516)
    assert motion_tokens(CodebookSize(512, 2))[-1] == "<Motion_1023>"


def test_the_tokens_of_a_code_are_one_position():
    positions = TWO_LEVELS.fold([TO, 1, TC, MO, 9, 12, 10, 11, MC])
    assert positions == [(TO, -1), (1, -1), (TC, -1), (MO, -1), (9, 12), (10, 11), (MC, -1)]
    assert LAYOUT.fold([MO, C0, C3]) == [(MO,), (C0,), (C3,)]
    assert TWO_LEVELS.fold([]) == []


@pytest.mark.parametrize("token_ids", [[MO, 9], [MO, 11], [MO, 9, 10], [MO, 9, MC], [MO, 9, 11, 12]])
def test_a_code_that_lacks_a_level_has_no_position(token_ids: list[int]):
    with pytest.raises(ValueError, match="which is no code"):
        TWO_LEVELS.fold(token_ids)
