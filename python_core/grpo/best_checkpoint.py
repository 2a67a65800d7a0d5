"""The best checkpoint of a GRPO run, chosen by the judge, which gives no reward.

Before the first step and every so many steps the model answers held-out captions under the grammar, with the same seed
each time; otherwise than in serving, no plan is drawn again, or says how long a motion is. The weights are kept whose
motions are told from others by their texts most often, unless these motions are less like real ones than those of the
start: a distance to real motions alone would favour a model that has few kinds of them.
"""

import dataclasses
import json
import logging
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from python_core.checkpoint import forget_after, write_json
from python_core.contract.vocabulary import parse_reply
from python_core.evaluation.judgement import judged_features
from python_core.grpo.alarms import Alarms
from python_core.grpo.judged_replies import HeldOutTexts, JudgedReplies
from python_core.grpo.replies import ReplyReader
from python_core.grpo.rollouts import ReplyForm, Rollouts
from python_core.processes import share_out

logger = logging.getLogger(__name__)

AT_ONCE = 64
"""Replies sampled side by side."""
JUDGED = "judge.json"
"""What the judge said, in the folder of the weights."""
START = "judge_start.json"
"""What it said before the first step, in the folder of the run."""


def best_checkpoint(folder: Path) -> tuple[Path, JudgedReplies] | None:
    """The best weights of a run, and what the judge said of them; None before the first measure.

    A kill may leave two folders, or one that is not whole. Weights come before what was said of them, and that goes
    before the weights do.
    """
    best = None
    for path in sorted(folder.glob("best-*")):
        if path.suffix == ".partial":
            continue
        try:
            found = JudgedReplies(**json.loads((path / JUDGED).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            logger.warning("%s: not whole, passed over", path)
            continue
        if best is None or found.is_better(best[1]):
            best = path, found
    return best


class BestCheckpoint(TrainerCallback):
    """Measures, keeps `best-STEP` and removes the others. The start is `best-0` until something is better.

    Args:
        held_out: Captions that are answered, and who judges.
        rollouts: Samples replies.
        reader: Decodes them.
        folder: Of the run.
        every: Steps between two measures.
        alarms: Hear what the judge says.
    """

    def __init__(
        self, held_out: HeldOutTexts, rollouts: Rollouts, reader: ReplyReader, folder: Path, every: int, alarms: Alarms
    ) -> None:
        self.held_out, self.rollouts, self.reader = held_out, rollouts, reader
        self.folder, self.every, self.alarms = folder, every, alarms
        self.trainer: Any = None
        self.prompts = [rollouts.prompt_ids(caption) for caption in held_out.captions]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            if self.trainer.accelerator.is_main_process:
                # A run that was killed before its first checkpoint has measured its start already.
                forget_after(self.folder / "metrics.jsonl", -1)
            self._judge(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._judge(state.global_step)

    def measure(self, step: int) -> JudgedReplies | None:
        """Answer the captions and judge the motions; None on all processes but the main one.

        The random state of training is left as it was.
        """
        accelerator = self.trainer.accelerator
        # As many for each process, since all take part in each call where the weights are held in parts.
        shared_out = share_out(len(self.prompts), accelerator.num_processes)
        mine = [self.prompts[place] for place in shared_out[accelerator.process_index]]
        written: list[list[int]] = []
        form = ReplyForm(reasoning=True, constrained=True)
        with torch.random.fork_rng():
            torch.manual_seed(self.rollouts.seed + accelerator.process_index)
            for first in range(0, len(mine), AT_ONCE):
                prompts = mine[first : first + AT_ONCE]
                written.extend(self.rollouts.sample(self.trainer, prompts, [form] * len(prompts))[0])
        gathered = gather_object(written)
        if not accelerator.is_main_process:
            return None
        replies = dict(zip(chain(*shared_out), gathered, strict=True))
        codes = [parse_reply(replies[place], self.rollouts.layout).codes for place in range(len(self.prompts))]
        return self.held_out.measure(
            step, [judged_features(motion) for motion in self.reader.motion_tokenizer.decode_all(codes)]
        )

    def _judge(self, step: int) -> None:
        found = self.measure(step)
        if found is not None:
            self._log(found)
        # The main process has measured; all save, since each may hold a part of the weights.
        if any(gather_object([found is not None and self._is_best(found)])):
            self._save(step, found)

    def _is_best(self, found: JudgedReplies) -> bool:
        if found.step == 0:
            write_json(self.folder / START, dataclasses.asdict(found))
        start = JudgedReplies(**json.loads((self.folder / START).read_text(encoding="utf-8")))
        if found.has_drifted(start):
            logger.warning(
                "step %d: not kept whatever its R@3: its KID is %.4g, that of the start %.4g +- %.2g",
                found.step, found.kid, start.kid, start.kid_spread,
            )  # fmt: skip
            return False
        best = best_checkpoint(self.folder)
        return best is None or found.is_better(best[1])

    def _save(self, step: int, found: JudgedReplies | None) -> None:
        path = self.folder / f"best-{step}"
        temporary = path.with_suffix(".partial")
        self.trainer.save_model(str(temporary))
        self.trainer.accelerator.wait_for_everyone()
        if found is not None:
            write_json(temporary / JUDGED, dataclasses.asdict(found))
            _remove(path)
            temporary.replace(path)
            for other in self.folder.glob("best-*"):
                if other != path:
                    _remove(other)
            logger.info("step %d: the best so far, R@3 %.3g, MM-Dist %.4g", step, found.r_at_3, found.mm_dist)
        self.trainer.accelerator.wait_for_everyone()

    def _log(self, found: JudgedReplies) -> None:
        fields = dataclasses.asdict(found)
        step = fields.pop("step")
        record = {f"judge/{name}": round(value, 5) for name, value in fields.items()}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step} | record) + "\n")
        for alarm in self.alarms.check(record):
            logger.warning("step %d: %s", step, alarm)


def _remove(folder: Path) -> None:
    """Remove weights; what was said of them goes first."""
    (folder / JUDGED).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
