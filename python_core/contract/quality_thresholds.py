"""What is good, fair and poor in each measure of a motion.

The limits are percentiles of clips that people recorded or drew; `benchmarks/quality_thresholds.py` prints them. They
are for 20 frames a second.
"""

import math
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What a designer reads first."""

    GOOD = "good"
    """As most recorded clips are, in every measure."""
    FAIR = "fair"
    """As few recorded clips are; worth a look."""
    POOR = "poor"
    """As next to no recorded clip is."""


@dataclass(frozen=True)
class Threshold:
    """Limits of one measure, of which less is better."""

    good: float
    """No more than this is good: the 90th percentile of recorded clips."""
    fair: float
    """No more than this is fair, more is poor: the 99th percentile; the 95th for float, since 1 clip in 25 climbs on
    what is not there, or hovers.
    """

    def score(self, value: float) -> float:
        """1 for nothing, 2/3 at `good`, 1/3 at `fair`, towards 0 beyond; smooth in between.

        It is 1 / (1 + (value / middle)^steepness), where the middle is the geometric mean of the two limits and the
        steepness ln 4 / ln (fair / good), so that the power is 1/2 at `good` and 2 at `fair`.
        """
        if value <= 0:
            return 1.0
        steepness = math.log(4) / math.log(self.fair / self.good)
        # Far beyond, the power would overflow; the score is then 0 to any digit that is shown.
        power = min(steepness * math.log(value / math.sqrt(self.good * self.fair)), 700.0)
        return 1 / (1 + math.exp(power))


PENETRATION = Threshold(0.02, 0.05)
"""2 cm is about a shoe's sole, 5 cm is seen. Prepared clips say nothing: their lowest joint is put on the floor."""
BONE_LENGTH_ERROR = Threshold(0.01, 0.03)
"""1 cm is hard to see, 3 cm is not. Prepared clips say nothing: their bones are put to the skeleton's."""

THRESHOLDS = {
    "foot_skate_m_s": Threshold(0.32, 0.50),
    "contact_foot_speed_m_s": Threshold(0.18, 0.26),
    "foot_skate_ratio": Threshold(0.50, 0.87),
    "penetration_m": PENETRATION,
    "float_m": Threshold(0.048, 0.092),
    "jerk_m_s3": Threshold(230.0, 510.0),
    "joint_speed_m_s": Threshold(8.7, 14.0),
    "bone_length_error_m": BONE_LENGTH_ERROR,
}
"""By the name of the measure in `QualityReport`. Speed of the root and loop gap say what a motion is, not how good."""
