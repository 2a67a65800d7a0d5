"""Motions of two bodies in one: legs and root of the one, arms or the whole upper body of the other."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from python_core.composed_motion import (
    BLEND_FRAMES,
    Composed,
    CompositionError,
    Track,
    blend,
    build_track,
    find_seam,
    power,
)
from python_core.rotations import inverse, multiply, normalize, rotate
from python_core.vqvae import FRAMES_PER_CODE

FARTHEST_LOOP_M = 0.10
"""Stricter than between two motions: where a loop is not good, the motion is cut instead."""
HIGH_HEAD_M, HIGH_PELVIS_M = 1.2, 0.7
"""Below these a body bends, sits or lies, and its upper part fits no other legs."""
PELVIS_RANGE_M = 0.25
STEADY_TRAVEL_M, STEADY_TURN = 0.6, np.radians(45)
"""An upper part comes from a body that stays about where it is."""
PELVIS_SMOOTHING_FRAMES = 6
"""Standard deviation of the Gaussian that takes the sway of steps out of the pelvis: the chest follows what is left."""
KEPT_SHARE = 0.7
"""How much of the upper part's motion must fit the lower's length."""
CLEAR_M = 0.07
"""A hand that comes nearer to a thigh goes through it, unless it did so before."""

PARTS = {
    "left arm": (13, 16, 18, 20),
    "right arm": (14, 17, 19, 21),
    "upper body": (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21),
}
"""Joints by the part of the body that `mix_tracks` takes from its second track."""

_HANDS, _THIGHS = (20, 21), ((1, 4), (2, 5))
_SPINE = (3, 6, 9)


def mix_tracks(lower: Track, upper: Track, part: str, loops: bool = True) -> Composed:
    """Put a part of the upper body of one track over the legs and the root of another; parts are those of `PARTS`.

    It lasts as long as the shorter one; a lower that loops well goes on as long as the upper, unless `loops` is false.

    Raises:
        CompositionError: One of them bends down, sits, lies or jumps high, the upper travels or turns, too little of it
            would be left, or hands would go through the thighs.
        ValueError: An unknown part.
    """
    if part not in PARTS:
        raise ValueError(f"part: expected one of {', '.join(PARTS)}, got {part!r}")
    for name, track in (("lower", lower), ("upper", upper)):
        if problem := find_floor_work(track):
            raise CompositionError(
                f"{name} {problem}", "a part of a body goes over the legs of one that stands upright"
            )
    if moves := find_travel(upper):
        raise CompositionError(f"upper {moves}", "an upper body comes from one that stays in place")
    seams: tuple[tuple[int, int], ...] = ()
    if loops and len(upper) > len(lower) + FRAMES_PER_CODE:
        lower, seams = _loop(lower, len(upper))
    num_frames = (min(len(lower), len(upper)) - 1) // FRAMES_PER_CODE * FRAMES_PER_CODE + 1
    if num_frames < max(KEPT_SHARE * len(upper), FRAMES_PER_CODE + 1):
        raise CompositionError("lower is too short", f"{num_frames} of {len(upper)} frames would be left")
    lower, upper = lower.cut(0, num_frames), upper.cut(0, num_frames)
    rotations = lower.rotations.clone()
    joints = list(PARTS[part])
    rotations[:, joints] = upper.rotations[:, joints]
    if part == "upper body":
        rotations[:, _SPINE] = _balance(lower, upper)
    mixed = build_track(lower.root_m, rotations, lower.contacts)
    clear_m = min(_clearance(mixed), CLEAR_M)
    if clear_m < min(CLEAR_M, _clearance(upper), _clearance(lower)):
        raise CompositionError("hands go through the thighs", f"{clear_m:.2f} m between them")
    return Composed(mixed.motion(), (num_frames - 1,), tuple(seam for seam in seams if seam[0] < num_frames))


def find_floor_work(track: Track) -> str:
    """How a body leaves the upright; empty if it does not."""
    heads_m, pelvis_m = track.joints_m[:, 15, 1], track.joints_m[:, 0, 1]
    if heads_m.min() < HIGH_HEAD_M or pelvis_m.min() < HIGH_PELVIS_M:
        return "bends down"
    return "jumps" if pelvis_m.max() - pelvis_m.min() > PELVIS_RANGE_M else ""


def find_travel(track: Track) -> str:
    """How a body leaves its place; empty if it does not."""
    ground = track.root_m[:, [0, 2]]
    if float((ground - ground[0]).norm(dim=-1).max()) > STEADY_TRAVEL_M:
        return "travels"
    return "turns" if np.abs(turned(track)).max() > STEADY_TURN else ""


def turned(track: Track) -> NDArray[np.float64]:
    """How far the pelvis has turned since the first frame, radians, [F]; more than half a turn counts on."""
    forward = rotate(track.rotations[:, 0], track.root_m.new_tensor([0.0, 0.0, 1.0])).numpy()
    yaw = np.unwrap(np.arctan2(forward[:, 0], forward[:, 2]))
    return yaw - yaw[0]


def _loop(track: Track, num_frames: int) -> tuple[Track, tuple[tuple[int, int], ...]]:
    """Join a track with itself until it has so many frames; as it is where it does not loop well."""
    looped, seams = track, []
    while len(looped) < num_frames:
        try:
            tail = max(0, len(looped) - len(track)) // FRAMES_PER_CODE * FRAMES_PER_CODE
            seam = find_seam(looped.cut(tail, len(looped)), track, FARTHEST_LOOP_M)
            seam = replace(seam, leave=seam.leave + tail)
            longer = blend(looped, track, seam)
        except CompositionError:
            return track, ()
        if len(longer) < len(looped) + FRAMES_PER_CODE:
            return track, ()
        looped = longer
        seams.append((seam.leave, seam.leave + BLEND_FRAMES))
    return looped, tuple(seams)


def _balance(lower: Track, upper: Track) -> Tensor:
    """Local rotations of the spine, [F, 3, 4], with which the upper's chest stands over the lower's pelvis as it stood
    over its own. Both pelvises count without the sway of steps, so that the chest does not rock with strange legs.
    """
    chest = upper.rotations[:, 0]
    for joint in _SPINE:
        chest = multiply(chest, upper.rotations[:, joint])
    over_pelvis = multiply(inverse(_smoothed(upper.rotations[:, 0])), chest)
    wanted = multiply(inverse(lower.rotations[:, 0]), multiply(_smoothed(lower.rotations[:, 0]), over_pelvis))
    first, second, third = (upper.rotations[:, joint] for joint in _SPINE)
    bent = multiply(multiply(first, second), third)
    half = power(multiply(wanted, inverse(bent)), 0.5)
    first = multiply(half, first)
    return torch.stack([first, second, multiply(inverse(multiply(first, second)), wanted)], dim=1)


def _smoothed(rotations: Tensor) -> Tensor:
    """[F, 4]"""
    flips = (rotations[1:] * rotations[:-1]).sum(-1).sign().cumprod(0)
    steady = rotations * torch.cat([flips.new_ones(1), flips])[:, None]
    return normalize(torch.from_numpy(gaussian_filter1d(steady.numpy(), PELVIS_SMOOTHING_FRAMES, 0, mode="nearest")))


def _clearance(track: Track) -> float:
    """Smallest distance of a wrist from the bone of a thigh, metres."""
    nearest_m = np.inf
    for hip, knee in _THIGHS:
        start, along = track.joints_m[:, hip], track.joints_m[:, knee] - track.joints_m[:, hip]
        for hand in _HANDS:
            to_hand = track.joints_m[:, hand] - start
            share = ((to_hand * along).sum(-1) / along.square().sum(-1)).clamp(0, 1)[:, None]
            nearest_m = min(nearest_m, float((to_hand - share * along).norm(dim=-1).min()))
    return nearest_m
