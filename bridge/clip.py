"""A clip: a motion with what was asked for and what was planned."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_core.contract.motion import Motion
from python_core.contract.plan import Plan


@dataclass(frozen=True, eq=False, kw_only=True)
class Clip:
    """A motion with its captions."""

    motion: Motion
    prompt: str = ""
    plan: Plan | None = None
    codes: NDArray[np.int64] | None = None
    """The codes that the motion was decoded from, [T]."""
