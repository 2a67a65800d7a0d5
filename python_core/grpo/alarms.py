"""What goes wrong in GRPO, seen in its measures: each crossed limit is one line of warning that says what to do."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

logger = logging.getLogger(__name__)

START_VALUES = 5
"""One step's value is chance; the mean of so many first ones is the start."""


@dataclass(frozen=True)
class Limit:
    """Where a measure leaves what is healthy."""

    what: str
    """What has happened, and what to do."""
    below: float = float("-inf")
    above: float = float("inf")
    start_values: int = 0
    """The limits are shares of the mean of so many first values that the run logged; 0: they are as they are."""


LIMITS = {
    "groups_without_variance": Limit("groups teach nothing; raise the temperature or take harder prompts", above=0.5),
    "entropy": Limit(
        "replies become alike; raise beta or lower the learning rate", below=0.3, start_values=START_VALUES
    ),
    "plan/tokens": Limit("plans wither; raise the weight of plan_agreement", below=0.6, start_values=START_VALUES),
    "kl": Limit("the model runs from where it began; raise beta or lower the learning rate", above=0.2),
    "completions/clipped_ratio": Limit("replies are cut off; raise constrained_share or max_codes", above=0.2),
    "clip_ratio/region_mean": Limit("updates are too large; lower the learning rate", above=0.2),
    "format/unconstrained": Limit("the format is being lost; lower the learning rate or train SFT longer", below=0.7),
    "foot_skate_m_s": Limit(
        "feet slide more; raise the weight of physical_quality", above=1.5, start_values=START_VALUES
    ),
    # The judge measures before the first step.
    "judge/r_at_3": Limit(
        "motions fit their texts less; stop, and take the best checkpoint", below=0.9, start_values=1
    ),
    "judge/fid": Limit("rewards are being gamed; stop, and take the best checkpoint", above=1.05, start_values=1),
}
"""By the names that TRL and the rewards log."""


class Alarms(TrainerCallback):
    """Compares what is logged with `LIMITS`.

    Args:
        path: What the run logs, a JSON object a line; a run that goes on reads its first values again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first: dict[str, list[float]] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                self.check(json.loads(line))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        for alarm in self.check(logs or {}):
            logger.warning("step %d: %s", state.global_step, alarm)

    def check(self, measures: Mapping[str, float | None]) -> list[str]:
        """Alarms of measures, a sentence each. What the start is made of raises none."""
        found = []
        for name, limit in LIMITS.items():
            value = measures.get(name)
            if value is None or math.isnan(value):
                continue
            scale = 1.0
            if limit.start_values:
                first = self.first.setdefault(name, [])
                if len(first) < limit.start_values:
                    first.append(value)
                    continue
                scale = sum(first) / len(first)
            low, high = limit.below * scale, limit.above * scale
            if value < low:
                found.append(f"{name} is {value:.3g}, below {low:.3g}: {limit.what}")
            elif value > high:
                found.append(f"{name} is {value:.3g}, above {high:.3g}: {limit.what}")
        return found
