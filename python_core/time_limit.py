"""The end of a run that has a machine for a while only: it saves itself, and goes on when it is given again."""

import logging
import math
import time
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback

logger = logging.getLogger(__name__)


class TimeLimit(TrainerCallback):
    """Counts from when it is made.

    Args:
        limit_s: Seconds; None is no limit.
        iterations: Of a `Trainer`: steps that are saved together.
    """

    def __init__(self, limit_s: float | None, iterations: int = 1) -> None:
        self.end_s = math.inf if limit_s is None else time.monotonic() + limit_s
        self.iterations = iterations
        self.has_stopped = False
        """Whether a `Trainer` was stopped before its last step."""

    def is_over(self) -> bool:
        return time.monotonic() >= self.end_s

    def is_over_in_any(self) -> bool:
        """Clocks of several processes differ, and all have to stop after one step."""
        return not math.isinf(self.end_s) and any(gather_object([self.is_over()]))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.iterations or state.global_step == state.max_steps:
            return
        if self.is_over_in_any():
            self.has_stopped = control.should_log = control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.has_stopped and state.is_world_process_zero:
            say_stopped(state.global_step, state.max_steps)


def say_stopped(step: int, num_steps: int) -> None:
    logger.info("time is over: stopped after step %d of %d; given again, the run goes on from there", step, num_steps)
