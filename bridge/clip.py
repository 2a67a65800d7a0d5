"""A clip: a motion with what was asked for and what was planned."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_core.contract.motion import Motion
from python_core.contract.plan import Beat, Plan


@dataclass(frozen=True, eq=False, kw_only=True)
class Clip:
    """A motion with its captions."""

    motion: Motion
    prompt: str = ""
    plan: Plan | None = None
    codes: NDArray[np.int64] | None = None
    """The codes that the motion was decoded from, [T]."""

    def beat_at(self, time_s: float) -> Beat | None:
        """The beat that the plan has at a time; None without a plan, the last one when the plan is over."""
        if self.plan is None:
            return None
        end_s = 0.0
        for beat in self.plan.beats:
            end_s += beat.duration_s
            if time_s < end_s:
                return beat
        return self.plan.beats[-1]
