"""The best checkpoint of a GRPO run, chosen by the judge, which gives no reward.

Every so many steps the model answers held-out captions under the grammar, as it is served, with the same seed each
time. The Frechet distance of these motions to the clips, in the judge's space, says which weights are the best.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from python_core.clips.prepared import PreparedClips
from python_core.contract.vocabulary import parse_reply
from python_core.evaluation.metrics import Gaussian, frechet_distance
from python_core.evaluators.evaluator import Evaluator
from python_core.grpo.alarms import Alarms
from python_core.grpo.replies import ReplyReader, motion_rows
from python_core.grpo.rollouts import ReplyForm, Rollouts

logger = logging.getLogger(__name__)

AT_ONCE = 64
"""Replies sampled side by side."""


class BestCheckpoint(TrainerCallback):
    """Measures, keeps `best-STEP` and removes the one before it.

    Args:
        judge: Measures.
        prepared: Clips; captions and motions of val are answered and compared, those of train where there is no val.
        rollouts: Samples replies.
        reader: Decodes them.
        folder: Of the run.
        every: Steps between two measures.
        num_replies: Captions that are answered; each clip gives its captions in turn.
        alarms: Hear the distance.
    """

    def __init__(
        self,
        judge: Evaluator,
        prepared: PreparedClips,
        rollouts: Rollouts,
        reader: ReplyReader,
        folder: Path,
        every: int,
        num_replies: int,
        alarms: Alarms,
    ) -> None:
        self.judge, self.rollouts, self.reader = judge, rollouts, reader
        self.folder, self.every, self.alarms = folder, every, alarms
        self.trainer: Any = None
        split = "val" if any(clip.split == "val" for clip in prepared.clips) else "train"
        clips = prepared.split(split)
        most = max(len(clip.captions) for clip in clips)
        captions = [clip.captions[turn] for turn in range(most) for clip in clips if turn < len(clip.captions)]
        self.prompts = [rollouts.prompt_ids(caption) for caption in captions[:num_replies]]
        self.real = Gaussian.of(judge.embed_motions([np.array(prepared.features(clip)) for clip in clips]))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        distance = self.measure()
        best = self.best()
        if distance is not None:
            self._write({"step": state.global_step, "judge/fid": round(distance, 5)})
            for alarm in self.alarms.check({"judge/fid": distance}):
                logger.warning("step %d: %s", state.global_step, alarm)
        better = [distance is not None and (best is None or distance < best[1])]
        # The main process has measured; all save, since each may hold a part of the weights.
        if any(gather_object(better)):
            self._save(state.global_step, distance)

    def measure(self) -> float | None:
        """Distance of the model's motions to the clips; None on all processes but the main one.

        The random state of training is left as it was.
        """
        accelerator = self.trainer.accelerator
        mine = self.prompts[accelerator.process_index :: accelerator.num_processes]
        replies: list[list[int]] = []
        form = ReplyForm(reasoning=True, constrained=True)
        with torch.random.fork_rng():
            torch.manual_seed(self.rollouts.seed + accelerator.process_index)
            for first in range(0, len(mine), AT_ONCE):
                prompts = mine[first : first + AT_ONCE]
                replies.extend(self.rollouts.sample(self.trainer, prompts, [form] * len(prompts)))
        replies = gather_object(replies)
        if not accelerator.is_main_process:
            return None
        codes = [parse_reply(reply, self.rollouts.layout).codes for reply in replies]
        made = self.judge.embed_motions([motion_rows(motion) for motion in self.reader.decode(codes)])
        return frechet_distance(Gaussian.of(made), self.real)

    def best(self) -> tuple[Path, float] | None:
        """The best checkpoint so far and its distance."""
        found = [
            (path, json.loads((path / "judge.json").read_text())["fid"])
            for path in self.folder.glob("best-*")
            if path.suffix != ".partial"
        ]
        return min(found, key=lambda pair: pair[1]) if found else None

    def _save(self, step: int, distance: float | None) -> None:
        last = self.best()
        path = self.folder / f"best-{step}"
        temporary = path.with_suffix(".partial")
        self.trainer.save_model(str(temporary))
        self.trainer.accelerator.wait_for_everyone()
        if self.trainer.accelerator.is_main_process:
            (temporary / "judge.json").write_text(json.dumps({"step": step, "fid": distance}))
            shutil.rmtree(path, ignore_errors=True)
            temporary.replace(path)
            if last is not None and last[0] != path:
                shutil.rmtree(last[0])
            logger.info("step %d: the best so far, FID %.4g", step, distance)
        self.trainer.accelerator.wait_for_everyone()

    def _write(self, record: dict[str, float]) -> None:
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
