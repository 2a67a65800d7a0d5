"""Clips of other frame rates, brought to ours."""

from dataclasses import replace

import numpy as np

from python_core.clips.clip import Clip, ClipError

RATE_TOLERANCE = 1e-3
"""Rates this near to a whole ratio count as whole: files round the time of a frame, 0.0333 s for 30 Hz. A minute
drifts by 60 ms at most.
"""


def resample(clip: Clip, frame_rate_hz: float) -> Clip:
    """Bring a clip to a frame rate: every nth frame where the ratio is whole, else joint positions between two frames
    on the straight line. The first frame stays, the last is the last that the clip still reaches.

    Raises:
        ClipError: Fewer than 2 frames are left.
    """
    ratio = clip.frame_rate_hz / frame_rate_hz
    every = round(ratio)
    if every >= 1 and abs(ratio / every - 1) <= RATE_TOLERANCE:
        joints_m = clip.joints_m[::every]
    else:
        # A last frame that is reached but for rounding counts.
        num_frames = int((len(clip.joints_m) - 1) / ratio + 1e-6) + 1
        places = np.minimum(np.arange(num_frames) * ratio, len(clip.joints_m) - 1)
        before = np.minimum(places.astype(np.int64), len(clip.joints_m) - 2)
        share = (places - before)[:, None, None]
        joints_m = ((1 - share) * clip.joints_m[before] + share * clip.joints_m[before + 1]).astype(np.float32)
    if len(joints_m) < 2:
        raise ClipError(
            f"clip {clip.clip_id}: {len(clip.joints_m)} frames at {clip.frame_rate_hz:g} Hz are less than 2 at "
            f"{frame_rate_hz:g} Hz"
        )
    return replace(clip, joints_m=joints_m, frame_rate_hz=frame_rate_hz)
