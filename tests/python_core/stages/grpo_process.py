"""One process of a GRPO run, for tests that start several or kill one.

python grpo_process.py CONFIG run            as the stage
python grpo_process.py CONFIG fixed RESULT   one step on replies that are given; the advantages go to RESULT
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from python_core.checkpoint import load_language_model
from python_core.evaluators.evaluator_checkpoint import load_reward_model
from python_core.language_model import text_ids
from python_core.stages import train_grpo
from python_core.stages.train_grpo import PRESETS, TrainGrpoConfig

PLANS = ("1. walk forward, 1.0 s", "1. squat, 0.6 s 2. wave (right hand), 0.6 s", "no plan at all")


def read_config(path: Path) -> TrainGrpoConfig:
    fields = json.loads(path.read_text())
    paths = ("prepared", "sft", "plans", "compositions", "reward_model", "judge", "out")
    made: dict[str, Any] = {name: Path(value) if name in paths and value else value for name, value in fields.items()}
    return replace(PRESETS["tiny"], **made)


def fixed(config: TrainGrpoConfig, result: Path) -> None:
    def replies(prompts: list[str], trainer: Any) -> dict[str, Any]:
        """The reply to a place of the whole batch is the same however many processes share it."""
        first = trainer.accelerator.process_index * len(prompts)
        written = []
        for place in range(first, first + len(prompts)):
            random = np.random.default_rng(place)
            codes = random.integers(layout.num_codes, size=2 + place % 5).tolist()
            reasoning = text_ids(tokenizer, PLANS[place % 3])
            written.append([*layout.reply_ids(reasoning, codes), layout.turn_end])
        return {
            "prompt_ids": [text_ids(tokenizer, prompt) for prompt in prompts],
            "completion_ids": written,
            "logprobs": None,
            "env_mask": [[0, *([1] * (len(reply) - 1))] for reply in written],
            "reasoning_asked": [True] * len(prompts),
            "constrained": [False] * len(prompts),
        }

    tokenizer = load_language_model(config.sft).tokenizer
    trainer, layout = train_grpo.make_trainer(config, load_reward_model(config.reward_model), None, replies)
    trainer.train()
    if trainer.accelerator.is_main_process:
        # TRL shows the advantages of all processes in its log of completions only.
        rewards = {name: list(values) for name, values in trainer._logs["rewards"].items()}
        found: dict[str, Any] = {
            "advantages": list(trainer._logs["advantages"]),
            "prompts": list(trainer._logs["prompt"]),
        }
        found["processes"] = trainer.accelerator.num_processes
        result.write_text(json.dumps(found | {"rewards": rewards}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = read_config(Path(sys.argv[1]))
    if sys.argv[2] == "fixed":
        fixed(chosen, Path(sys.argv[3]))
    else:
        train_grpo.run(chosen)
