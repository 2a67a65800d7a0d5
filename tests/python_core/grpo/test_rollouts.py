from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from python_core.checkpoint import load_language_model
from python_core.contract.vocabulary import ReplyError, ReplyParser, parse_reply
from python_core.depth_head import DepthHeadShape
from python_core.grpo.rollouts import FormShares, ReplyForm, Rollouts
from python_core.language_model import LanguageModelShape, new_language_model, token_layout
from python_core.motion_model import SpeaksMotion
from python_core.motion_tokenizer import MotionTokenizer

PROMPT = "a person walks forward."
NUM = 24


@pytest.fixture(scope="module")
def rollouts(tiny_checkpoint: Path) -> Rollouts:
    tokenizer = load_language_model(tiny_checkpoint).tokenizer
    codebook = MotionTokenizer.load(tiny_checkpoint / "vqvae").model.shape.codebook
    return Rollouts(tokenizer, token_layout(tokenizer, codebook), FormShares(reasoning=1, constrained=1), 6, seed=1)


@pytest.fixture(scope="module")
def untrained(rollouts: Rollouts) -> SpeaksMotion:
    """A model that has learned nothing: whatever is well-formed is so because it is forced."""
    torch.manual_seed(3)
    shape = LanguageModelShape(text_tokens=400, width=16, layers=1, heads=2, feed_forward=16, max_tokens=256)
    return new_language_model(shape, DepthHeadShape(width=16, layers=1, feed_forward=16), rollouts.layout)


def sample(rollouts: Rollouts, model: SpeaksMotion, form: ReplyForm) -> tuple[list[list[int]], list[list[int]]]:
    trainer: Any = SimpleNamespace(
        accelerator=Accelerator(cpu=True),
        model_wrapped=model,
        temperature=1.0,
        args=SimpleNamespace(ds3_gather_for_generation=True, gradient_checkpointing_kwargs=None),
    )
    torch.manual_seed(5)
    return rollouts.sample(trainer, [rollouts.prompt_ids(PROMPT)] * NUM, [form] * NUM)


def test_tokens_are_the_models_choice_where_the_grammar_left_more_than_one(rollouts: Rollouts, untrained: SpeaksMotion):
    layout = rollouts.layout
    replies, chosen = sample(rollouts, untrained, ReplyForm(reasoning=True, constrained=True))
    cut_short = 0
    for reply, marks in zip(replies, chosen, strict=True):
        assert len(reply) == len(marks)
        parser, expected = ReplyParser(layout), []
        for token_id in reply:
            full = len(parser.codes) == rollouts.max_codes
            expected.append(int(parser.num_tokens > 0 and parser.allowed().sum() > 1 and not full))
            parser.feed(token_id)
        assert marks == expected
        # The opening, the tag between plan and motion, and the end of the turn are never chosen.
        forced = {token for token, mark in zip(reply, marks, strict=True) if not mark}
        assert {layout.think_open, layout.motion_open, layout.turn_end} <= forced
        cut_short += len(parser.codes) == rollouts.max_codes and layout.motion_close in forced
    assert cut_short > 0


def test_a_free_reply_ends_where_it_breaks_the_grammar_and_is_not_cut_off(rollouts: Rollouts, untrained: SpeaksMotion):
    layout = rollouts.layout
    replies, chosen = sample(rollouts, untrained, ReplyForm(reasoning=False, constrained=False))
    malformed = 0
    for reply, marks in zip(replies, chosen, strict=True):
        assert reply[-1] == layout.turn_end
        try:
            parse_reply(reply, layout)
        except ReplyError:
            malformed += 1
            parser = ReplyParser(layout)
            for token_id in reply[:-2]:
                parser.feed(token_id)
            # Only the end of the turn comes after the token that does not belong, and it was not chosen.
            if marks[-1] == 0:
                with pytest.raises(ReplyError):
                    parser.feed(reply[-2])
            assert marks[:-1] == [0, *([1] * (len(reply) - 2))]
    assert malformed > NUM / 2
    assert sum(marks[-1] == 0 for marks in chosen) > NUM / 2


def test_trl_is_told_which_tokens_were_forced(rollouts: Rollouts, untrained: SpeaksMotion):
    trainer: Any = SimpleNamespace(
        accelerator=Accelerator(cpu=True),
        model_wrapped=untrained,
        temperature=1.0,
        use_vllm=False,
        state=SimpleNamespace(global_step=0),
        args=SimpleNamespace(ds3_gather_for_generation=True, gradient_checkpointing_kwargs=None),
    )
    found = rollouts([PROMPT] * 2, trainer)
    assert [len(marks) for marks in found["env_mask"]] == [len(reply) for reply in found["completion_ids"]]
    assert all(marks[0] == marks[-1] == 0 and 1 in marks for marks in found["env_mask"])
