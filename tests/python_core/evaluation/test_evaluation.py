from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer

from python_core.contract.vocabulary import CodebookSize
from python_core.evaluation.evaluation import measure_replies
from python_core.evaluation.generation import Reply, Sampling, read_reply
from python_core.evaluation.reply_file import Speaker
from python_core.language_model import text_ids, token_layout, train_text_tokenizer

CODEBOOK = CodebookSize(8)
RATE_HZ = 20.0


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_text_tokenizer(["1. walk forward, 1.0 s 2. turn around, 1.4 s"], 300, CODEBOOK)


@pytest.fixture(scope="module")
def speaker(tokenizer: Tokenizer) -> Speaker:
    model: Any = None  # It is not asked.
    layout = token_layout(tokenizer, CODEBOOK)
    return Speaker(model=model, tokenizer=tokenizer, layout=layout, sampling=Sampling(), batch=1, code_s=4 / RATE_HZ)


def say(speaker: Speaker, reasoning: str | None, codes: Sequence[int]) -> Reply:
    ids = None if reasoning is None else text_ids(speaker.tokenizer, reasoning)
    return read_reply([*speaker.layout.reply_ids(ids, codes), speaker.layout.turn_end], speaker.layout)


def test_motions_are_held_against_the_seconds_of_their_plans(speaker: Speaker):
    plan = "1. walk forward, 1.0 s"
    replies = [say(speaker, plan, [1] * num) for num in (5, 4, 6, 7)]
    replies += [say(speaker, "walk somewhere", [1] * 5), read_reply([speaker.layout.think_open], speaker.layout)]
    shares = measure_replies(replies, speaker, RATE_HZ)
    assert shares.well_formed == pytest.approx(5 / 6)
    assert shares.planned == pytest.approx(4 / 5)
    assert shares.planned_error_s == pytest.approx((0 + 0.2 + 0.2 + 0.4) / 4)
    # 7 codes are two too many.
    assert shares.as_long_as_planned == pytest.approx(3 / 4)


def test_a_tenth_of_a_second_that_no_code_has_is_within_a_code(speaker: Speaker):
    shares = measure_replies([say(speaker, "1. walk forward, 1.1 s", [1] * 6)], speaker, RATE_HZ)
    assert (shares.planned_error_s, shares.as_long_as_planned) == (pytest.approx(0.1), 1.0)


def test_without_plans_nothing_is_said_of_their_length(speaker: Speaker):
    without = measure_replies([say(speaker, None, [1, 2])], speaker, RATE_HZ)
    assert (without.planned, without.planned_error_s, without.as_long_as_planned) == (None, None, None)
    no_plan = measure_replies([say(speaker, "walk", [1, 2])], speaker, RATE_HZ)
    assert (no_plan.planned, no_plan.planned_error_s, no_plan.as_long_as_planned) == (0.0, None, None)
