"""What a training logs, in a file that a run goes on with after a kill."""

import json
import os
from pathlib import Path
from typing import Any, TextIO

from transformers import TrainerCallback

from python_core.checkpoint import forget_after
from python_core.processes import process_index


def open_metrics(path: Path, step: int) -> TextIO:
    """The file to write on after a step. Of several processes the first writes it."""
    if process_index() > 0:
        path = Path(os.devnull)
    forget_after(path, step)
    return path.open("a")


class MetricsFile(TrainerCallback):
    """Appends what the trainer logs to a file, a JSON object a line, in the main process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The trainer takes what a checkpoint says, though the config may have changed.
        state.compute_steps(args, state.max_steps)
        if state.is_world_process_zero:
            forget_after(self.path, state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step} | (logs or {})) + "\n")
