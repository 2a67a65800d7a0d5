"""What goes wrong in GRPO, seen in its measures: each crossed limit is one line of warning that says what to do."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limit:
    """Where a measure leaves what is healthy."""

    what: str
    """What has happened, and what to do."""
    below: float = float("-inf")
    above: float = float("inf")
    of_start: bool = False
    """The limits are shares of the first value that the run logged."""


LIMITS = {
    "groups_without_variance": Limit("groups teach nothing; raise the temperature or take harder prompts", above=0.5),
    "entropy": Limit("replies become alike; raise beta or lower the learning rate", below=0.3, of_start=True),
    "plan/tokens": Limit("plans wither; raise the weight of plan_agreement", below=0.6, of_start=True),
    "kl": Limit("the model runs from where it began; raise beta or lower the learning rate", above=1.0),
    "completions/clipped_ratio": Limit("replies are cut off; raise constrained_share or max_codes", above=0.2),
    "clip_ratio/region_mean": Limit("updates are too large; lower the learning rate", above=0.2),
    "format/unconstrained": Limit("the format is being lost; lower the learning rate or train SFT longer", below=0.7),
    "foot_skate_m_s": Limit("feet slide more; raise the weight of physical_quality", above=1.5, of_start=True),
    "judge/fid": Limit("rewards are being gamed; stop, and take the best checkpoint", above=1.05, of_start=True),
}
"""By the names that TRL and the rewards log."""


class Alarms(TrainerCallback):
    """Compares what is logged with `LIMITS`. First values are kept in `start`, which a run that goes on reads again."""

    def __init__(self, start: Mapping[str, float]) -> None:
        self.start = dict(start)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        for alarm in self.check(logs or {}):
            logger.warning("step %d: %s", state.global_step, alarm)

    def check(self, measures: Mapping[str, float | None]) -> list[str]:
        """Alarms of measures, a sentence each."""
        found = []
        for name, limit in LIMITS.items():
            value = measures.get(name)
            if value is None:
                continue
            scale = self.start.setdefault(name, value) if limit.of_start else 1.0
            low, high = limit.below * scale, limit.above * scale
            if value < low:
                found.append(f"{name} is {value:.3g}, below {low:.3g}: {limit.what}")
            elif value > high:
                found.append(f"{name} is {value:.3g}, above {high:.3g}: {limit.what}")
        return found
