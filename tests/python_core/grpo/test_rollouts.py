import json
import os
import subprocess
import sys
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

ROOT = Path(__file__).parents[3]
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


def test_vllm_is_given_prompts_with_their_opening_and_what_it_says_is_put_behind_it(rollouts: Rollouts):
    """As TRL's `VLLMGeneration.generate` answers: prompts, completions, log-probabilities of the likeliest tokens."""
    layout, asked = rollouts.layout, []

    def generate(prompts: list[list[int]], images: None, num_generations: int) -> tuple[Any, Any, Any, Any]:
        asked.append((prompts, num_generations))
        written = [[9, layout.think_close], [9, 10, layout.turn_end]]
        return prompts, written, [[[-0.5], [-1.5]], [[-2.0], [-3.0], [-4.0]]], None

    trainer: Any = SimpleNamespace(
        use_vllm=True,
        num_generations=2,
        num_generations_eval=1,
        model=SimpleNamespace(training=True),
        state=SimpleNamespace(global_step=0),
        vllm_generation=SimpleNamespace(generate=generate),
    )
    found = rollouts([PROMPT] * 2, trainer)
    prompt = rollouts.prompt_ids(PROMPT)
    assert asked == [([[*prompt, layout.think_open]] * 2, 2)]
    assert found["prompt_ids"] == [prompt] * 2
    assert found["completion_ids"] == [
        [layout.think_open, 9, layout.think_close],
        [layout.think_open, 9, 10, layout.turn_end],
    ]
    assert found["logprobs"] == [[None, -0.5, -1.5], [None, -2.0, -3.0, -4.0]]
    assert found["env_mask"] == [[0, 1, 1], [0, 1, 1, 1]]
    # The grammar is not vLLM's.
    assert found["constrained"] == [False, False]


@pytest.mark.slow
def test_a_model_that_fsdp_2_holds_in_parts_says_what_it_says_whole(tiny_checkpoint: Path, tmp_path: Path):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "0"]
    command += ["--config_file", str(ROOT / "deploy/accelerate/cpu.yaml"), "--num_cpu_threads_per_process", "1"]
    command += [str(Path(__file__).with_name("fsdp_process.py")), str(tiny_checkpoint), str(tmp_path / "replies")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, cwd=ROOT, check=True, timeout=300)
    for rank in range(2):
        found = json.loads((tmp_path / f"replies.{rank}").read_text())
        assert found["processes"] == 2
        assert found["in_parts"] == [found["whole"]] * 2
