"""A writer of samples over clips of our own, with a vocabulary of words and two levels of codes."""

from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from python_core.clips.prepared import PreparedClip
from python_core.contract.vocabulary import CodebookSize, TokenLayout
from python_core.language_model import token_layout, train_text_tokenizer
from python_core.sft.samples import SampleShares, SampleWriter
from python_core.stages.build_reasoning import PlanRecord

CODEBOOK = CodebookSize(32, 2)
CODE_S = 0.2
ONE_BEAT = PreparedClip(
    clip_id="one",
    split="train",
    source="made",
    licence="CC0-1.0",
    take="",
    captions=("a person walks.",),
    plan=None,
    first_row=0,
    num_rows=80,
)
EXACT = replace(ONE_BEAT, clip_id="exact", plan="1. walk, 1.6 s 2. turn left, 0.8 s 3. sit down, 1.6 s")
GUESSED = replace(ONE_BEAT, clip_id="guessed")
CODES = {"one": [list(range(20))], "exact": [list(range(100, 120))], "guessed": [list(range(200, 220))]}
PLANS = [
    PlanRecord("one", "a person walks.", 4.0, "1. walk, 4.0 s", "planner"),
    PlanRecord("exact", "a person walks, turns and sits.", 4.0, str(EXACT.plan), "exact"),
    PlanRecord("guessed", "a person walks and sits.", 4.0, "1. walk, 2.0 s 2. sit, 2.0 s", "planner"),
    PlanRecord(None, "a dog barks.", 1.0, "1. bark, 1.0 s", "planner"),
]


@pytest.fixture(scope="session")
def sft_tokenizer() -> Tokenizer:
    return train_text_tokenizer([text for record in PLANS for text in (record.caption, record.plan)], 300, CODEBOOK)


@pytest.fixture(scope="session")
def layout(sft_tokenizer: Tokenizer) -> TokenLayout:
    return token_layout(sft_tokenizer, CODEBOOK)


@pytest.fixture
def writer(sft_tokenizer: Tokenizer, layout: TokenLayout) -> SampleWriter:
    shares = SampleShares(vocabulary_steps=2, max_history=4)
    return SampleWriter(PLANS, CODES, CODE_S, sft_tokenizer, layout, shares)
