"""One process of several that sample with a model which FSDP 2 holds in parts.

python fsdp_process.py CHECKPOINT RESULT    replies of the whole model and of the one in parts go to RESULT.RANK
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch.distributed.fsdp import fully_shard

from python_core.checkpoint import load_language_model
from python_core.grpo.rollouts import FormShares, ReplyForm, Rollouts
from python_core.language_model import token_layout

PROMPTS = ("a person walks forward.", "a person squats.")


def main(checkpoint: Path, result: Path) -> None:
    accelerator = Accelerator(cpu=True)
    loaded = load_language_model(checkpoint)
    layout = token_layout(loaded.tokenizer, loaded.model.codebook)
    rollouts = Rollouts(loaded.tokenizer, layout, FormShares(reasoning=1, constrained=1), 12, seed=1)

    def sample() -> list[list[int]]:
        trainer: Any = SimpleNamespace(
            accelerator=accelerator,
            model_wrapped=loaded.model,
            temperature=1.0,
            args=SimpleNamespace(ds3_gather_for_generation=True, gradient_checkpointing_kwargs=None),
        )
        # Replies of the processes end at different steps.
        rank = accelerator.process_index
        torch.manual_seed(rank)
        form = ReplyForm(reasoning=rank == 0, constrained=rank == 0)
        return rollouts.sample(trainer, [rollouts.prompt_ids(PROMPTS[rank])] * 3, [form] * 3)[0]

    whole = sample()
    for layer in loaded.model.model.layers:
        fully_shard(layer, reshard_after_forward=True)
    fully_shard(loaded.model, reshard_after_forward=True)
    in_parts = [sample(), sample()]
    path = result.with_suffix(f".{accelerator.process_index}")
    path.write_text(json.dumps({"whole": whole, "in_parts": in_parts, "processes": accelerator.num_processes}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    # Gloo's threads outlive the work.
    sys.stdout.flush()
    os._exit(0)
