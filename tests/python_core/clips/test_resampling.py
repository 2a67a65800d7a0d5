import numpy as np
import pytest

from python_core.clips.clip import Clip, ClipError
from python_core.clips.resampling import resample


def moving_clip(num_frames: int, frame_rate_hz: float) -> Clip:
    """A body whose joints move at 1.5 m/s along x, and with the square of time along z."""
    time_s = np.arange(num_frames) / frame_rate_hz
    joints_m = np.zeros((num_frames, 22, 3))
    joints_m[..., 0] = 1.5 * time_s[:, None] + 0.1 * np.arange(22)
    joints_m[..., 2] = time_s[:, None] ** 2
    return Clip("clip", joints_m.astype(np.float32), (), frame_rate_hz=frame_rate_hz)


@pytest.mark.parametrize(("rate_hz", "every"), [(120.0, 6), (60.0, 3), (40.0, 2), (20.0, 1), (119.999, 6), (60.024, 3)])
def test_a_whole_ratio_takes_every_nth_frame(rate_hz: float, every: int):
    clip = moving_clip(121, rate_hz)
    made = resample(clip, 20.0)
    np.testing.assert_array_equal(made.joints_m, clip.joints_m[::every])
    assert made.frame_rate_hz == 20.0


@pytest.mark.parametrize("rate_hz", [30.0, 25.0, 12.5, 100 / 3, 48.0])
def test_another_ratio_keeps_time_and_straight_lines(rate_hz: float):
    clip = moving_clip(101, rate_hz)
    made = resample(clip, 20.0)
    time_s = np.arange(len(made.joints_m)) / 20
    np.testing.assert_allclose(made.joints_m[:, 0, 0], 1.5 * time_s, atol=1e-5)
    # Between frames of a parabola the chord lies above it, by an eighth of the squared step at most.
    above_m = made.joints_m[:, 0, 2] - time_s**2
    assert above_m.min() > -1e-5
    assert above_m.max() < (1 / rate_hz) ** 2 / 4 + 1e-5
    # As long as the clip, to a frame.
    assert 0 <= 100 / rate_hz - time_s[-1] + 1e-6 < 1 / 20 + 1e-6


def test_from_25_hz_the_frames_are_those_worked_out_by_hand():
    # 25 / 20 = 1.25: places 0, 1.25, 2.5, 3.75, 5.
    clip = moving_clip(6, 25.0)
    x_m = clip.joints_m[:, 0, 0]
    expected = [x_m[0], 0.75 * x_m[1] + 0.25 * x_m[2], (x_m[2] + x_m[3]) / 2, 0.25 * x_m[3] + 0.75 * x_m[4], x_m[5]]
    np.testing.assert_allclose(resample(clip, 20.0).joints_m[:, 0, 0], expected, rtol=1e-6)


def test_a_clip_of_which_one_frame_is_left_is_refused():
    with pytest.raises(ClipError, match=r"clip clip: 5 frames at 120 Hz are less than 2 at 20 Hz"):
        resample(moving_clip(5, 120.0), 20.0)
