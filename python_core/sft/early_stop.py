"""The end of a run that foretells held-out replies no better."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

logger = logging.getLogger(__name__)

ACCURACY = "held_out_accuracy"
"""Share of the scored tokens of held-out replies that were the likeliest."""


class EarlyStop(TrainerCallback):
    """Ends a run after so many steps without a better checkpoint. All that it knows is what the run has logged, so a
    run that goes on after a kill ends where it would have ended.

    Args:
        patience: Steps since the best checkpoint.
        first_steps: Steps that do not count.
    """

    def __init__(self, patience: int, first_steps: int) -> None:
        self.patience, self.first_steps = patience, first_steps

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._is_over(state.log_history, state.global_step):
            logger.info(
                "step %d: held-out replies were foretold no better for %d steps", state.global_step, self.patience
            )
            control.should_training_stop = True

    def stopped_at(self, folder: Path) -> int | None:
        """The step at which the run that wrote these checkpoints ended early; None if it has not."""
        states = [
            json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("checkpoint-*/trainer_state.json")
        ]
        last = max(states, key=lambda state: state["global_step"], default=None)
        if last is None or not self._is_over(last["log_history"], last["global_step"]):
            return None
        return last["global_step"]

    def _is_over(self, log: Sequence[dict[str, float]], step: int) -> bool:
        found = {int(line["step"]): line[f"eval_{ACCURACY}"] for line in log if f"eval_{ACCURACY}" in line}
        if not found:
            return False
        best = max(found, key=lambda place: (found[place], -place))
        return step - max(best, self.first_steps) >= self.patience
