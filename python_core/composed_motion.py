"""Motions one after the other.

Two motions overlap for `BLEND_FRAMES` where they are nearest: joint rotations go from one to the other by slerp, so
that bones keep their length, the root by a straight line. A foot that stands on both sides of a seam stays where it
stands: the second motion is shifted as a whole so that its standing feet meet those of the first, and what is left
between two feet is made up by bending the leg (two-bone inverse kinematics) until that foot lifts.

Source of the search and the alignment: Kovar et al. 2002, Motion Graphs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from python_core.clips.clip import Clip
from python_core.contract.motion import Motion
from python_core.contract.skeleton import BODY_22
from python_core.features import exact_features, feature_slices
from python_core.pose_solver import LIMBS
from python_core.rotations import (
    cross,
    forward_kinematics,
    inverse,
    multiply,
    normalize,
    rotate,
    shortest_arc,
    yaw_rotation,
)
from python_core.steady_twist import solve_motion
from python_core.vqvae import FRAMES_PER_CODE

FRAME_RATE_HZ = 20.0
BLEND_FRAMES = 8
"""0.4 s; the boundary of two beats is in its middle."""
SEARCH_FRAMES = 12
"""How many frames, 0.6 s, a seam may take from the end of one motion and from the start of the next."""
SEARCH_SHARE = 5
"""A short motion gives a fifth of its frames at most."""
MIN_PART_FRAMES = 3 * FRAMES_PER_CODE
FARTHEST_M = 0.18
"""Root mean square distance of joints over the overlap; motions farther apart are not joined."""
ARM_WEIGHT = 0.25
"""Of elbows and hands in the search, against 1 of other joints: they are fast, and say little about where a body is."""
MOST_CONTACTS_APART = 0.25
"""Share of foot contacts in the overlap that may differ."""
FARTHEST_FOOT_M = 0.10
"""A leg makes up no more than this between two standing feet."""
RELEASE_FRAMES = 8
"""A foot that was held comes back to its own path within this many frames of its swing."""

_WEIGHTS = np.where(np.isin(np.arange(BODY_22.num_joints), (18, 19, 20, 21)), ARM_WEIGHT, 1.0)
_WEIGHTS /= _WEIGHTS.mean()
_SIDES = ((7, 10), (8, 11))
"""Ankle and toe of the left and the right leg."""
_TOE_CONTACTS = [1, 3]
"""Where the toes are among the skeleton's `foot_joints`."""
_MIDDLE = slice(BLEND_FRAMES // 2 - 1, BLEND_FRAMES // 2 + 1)


class CompositionError(ValueError):
    """Clips that do not go together; `reason` is the short form, to count by."""

    def __init__(self, reason: str, details: str) -> None:
        super().__init__(f"{reason}: {details}")
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Track:
    """A motion on our skeleton as tensors, solved once."""

    root_m: Tensor
    """[F, 3]"""
    rotations: Tensor
    """Local to the parent joint, [F, J, 4]."""
    joints_m: Tensor
    """[F, J, 3]"""
    contacts: NDArray[np.bool_]
    """Which of the skeleton's `foot_joints` are on the ground, [F, 4]."""

    def __len__(self) -> int:
        return len(self.root_m)

    def cut(self, first: int, last: int) -> "Track":
        frames = slice(first, last)
        return Track(self.root_m[frames], self.rotations[frames], self.joints_m[frames], self.contacts[frames])

    def motion(self) -> Motion:
        root_m, rotations = self.root_m.float().numpy(), normalize(self.rotations).float().numpy()
        return Motion(root_m, rotations, self.contacts, FRAME_RATE_HZ)


@dataclass(frozen=True, eq=False)
class Composed:
    """What `join_tracks` and `mix_tracks` make: 4 n + 1 frames, so that its features make n whole codes."""

    motion: Motion
    part_frames: tuple[int, ...]
    """From beat to beat, multiples of FRAMES_PER_CODE; their sum is one less than the frames."""
    seams: tuple[tuple[int, int], ...] = ()
    """First frame and end of each blend."""

    @property
    def durations_s(self) -> tuple[float, ...]:
        """Of the beats: multiples of 0.2 s."""
        return tuple(round(frames / FRAME_RATE_HZ, 1) for frames in self.part_frames)


def solve_track(clip: Clip) -> Track:
    """Solve a canonical clip.

    Raises:
        ValueError: Another frame rate, or bones that are not those of our skeleton.
    """
    if clip.frame_rate_hz != FRAME_RATE_HZ:
        raise ValueError(
            f"clip {clip.clip_id}: composition expects {FRAME_RATE_HZ:.0f} Hz, got {clip.frame_rate_hz}; resample it"
        )
    source = torch.from_numpy(clip.joints_m).double()
    contacts = exact_features(clip.joints_m, clip.frame_rate_hz)[:, feature_slices(BODY_22)["foot_contacts"]] > 0.5
    track = build_track(*solve_motion(source), np.concatenate([contacts, contacts[-1:]]))
    if not (apart_m := float((track.joints_m - source).abs().max())) < 1e-3:
        raise ValueError(
            f"clip {clip.clip_id}: composition expects a clip on our skeleton, one joint is {apart_m:.3f} m off; "
            "apply canonical_joints"
        )
    return track


def join_tracks(tracks: Sequence[Track]) -> Composed:
    """Blend each track into the next.

    Raises:
        CompositionError: Two neighbours have no place where poses and contacts match.
        ValueError: Fewer than 2 tracks.
    """
    if len(tracks) < 2:
        raise ValueError(f"joining takes 2 clips or more, got {len(tracks)}")
    joined, boundaries, seams = tracks[0], [0], []
    for following in tracks[1:]:
        seam = find_seam(joined.cut(boundaries[-1], len(joined)), following)
        seam = replace(seam, leave=seam.leave + boundaries[-1])
        joined = blend(joined, following, seam)
        boundaries.append(seam.leave + BLEND_FRAMES // 2)
        seams.append((seam.leave, seam.leave + BLEND_FRAMES))
    boundaries.append((len(joined) - 1) // FRAMES_PER_CODE * FRAMES_PER_CODE)
    part_frames = tuple(end - start for start, end in pairwise(boundaries))
    if min(part_frames) < MIN_PART_FRAMES:
        raise CompositionError("a part is too short", f"parts of {part_frames} frames")
    return Composed(joined.cut(0, boundaries[-1] + 1).motion(), part_frames, tuple(seams))


@dataclass(frozen=True)
class Seam:
    """Where two motions overlap and how the second is placed."""

    leave: int
    """First frame of the overlap in the first motion; the middle of the overlap is where a code begins."""
    enter: int
    """First frame of the overlap in the second."""
    distance_m: float
    yaw: float
    """Turn of the second about +Y."""
    shift_m: tuple[float, float]
    """Then its way along x and z."""


def find_seam(first: Track, second: Track, farthest_m: float = FARTHEST_M) -> Seam:
    """Search the overlap in which all joints, over all its frames, are nearest when the second is turned and shifted.

    Raises:
        CompositionError: They are far apart, or their feet stand at different times or too far apart.
    """
    middle = BLEND_FRAMES // 2
    earliest = max(0, len(first) - BLEND_FRAMES - _reach(first))
    leaves = [k for k in range(earliest, len(first) - BLEND_FRAMES + 1) if (k + middle) % FRAMES_PER_CODE == 0]
    enters = list(range(min(_reach(second), len(second) - BLEND_FRAMES) + 1))
    if not leaves or not enters:
        raise CompositionError("a part is too short", f"{len(first)} and {len(second)} frames")
    before, after = _Windows.of(first, leaves), _Windows.of(second, enters)
    correlation = before.ground.reshape(len(leaves), -1) @ after.ground.reshape(len(enters), -1).conj().T
    turns = correlation / np.abs(correlation).clip(1e-9)
    squares = before.spread[:, None] + after.spread - 2 * np.abs(correlation)
    squares += ((before.heights_m[:, None] - after.heights_m) ** 2).sum(axis=-1)
    distances_m = np.sqrt(squares.clip(0) / before.heights_m.shape[-1])
    apart = (before.stands[:, None] != after.stands).mean(axis=(-2, -1))
    both = before.standing[:, None] & after.standing
    stances = np.abs(before.stances_m[:, None] - turns * after.stances_m) / 2
    problems = {
        "poses differ": distances_m > farthest_m,
        "contacts differ": apart > MOST_CONTACTS_APART,
        "feet stand apart": both.all(axis=-1) & (stances > FARTHEST_FOOT_M),
    }
    bad = np.zeros(distances_m.shape, dtype=np.bool_)
    for reason, found in problems.items():
        bad |= found
        if bad.all():
            raise CompositionError(reason, f"joints are {distances_m.min():.2f} m apart at best")
    distances_m[bad] = np.inf
    i, j = np.unravel_index(distances_m.argmin(), distances_m.shape)
    # Standing feet meet; where none stands, the joints do.
    anchors = [side for side in (0, 1) if both[i, j, side]]
    if anchors:
        places = before.toes_m[i, anchors].mean(), after.toes_m[j, anchors].mean()
    else:
        places = before.centers_m[i], after.centers_m[j]
    shift = places[0] - turns[i, j] * places[1]
    yaw = float(np.angle(turns[i, j]))
    return Seam(leaves[i], enters[j], float(distances_m[i, j]), yaw, (float(shift.imag), float(shift.real)))


def _reach(track: Track) -> int:
    return min(SEARCH_FRAMES, len(track) // SEARCH_SHARE)


@dataclass(frozen=True, eq=False)
class _Windows:
    """Possible overlaps of one motion, W. Places on the ground are z + ix: exp(i yaw) times it turns +Z towards +X."""

    ground: NDArray[np.complex128]
    """Joints from their center, by the root of their weight, [W, BLEND_FRAMES, J]."""
    centers_m: NDArray[np.complex128]
    heights_m: NDArray[np.float64]
    """By the root of their weight, [W, BLEND_FRAMES * J]."""
    spread: NDArray[np.float64]
    """Sum of squares of `ground`, [W]."""
    stands: NDArray[np.bool_]
    """Left and right foot, [W, BLEND_FRAMES, 2]."""
    standing: NDArray[np.bool_]
    """Whether a foot stands in the middle, [W, 2]."""
    toes_m: NDArray[np.complex128]
    """Where the feet are in the middle, [W, 2]."""
    stances_m: NDArray[np.complex128]
    """From the right foot to the left, [W]."""

    @classmethod
    def of(cls, track: Track, starts: list[int]) -> "_Windows":
        frames = np.array(starts)[:, None] + np.arange(BLEND_FRAMES)
        joints_m = track.joints_m.numpy()[frames]
        ground = joints_m[..., 2] + 1j * joints_m[..., 0]
        centers_m = (ground * _WEIGHTS).mean(axis=(1, 2))
        stands = track.contacts[:, _TOE_CONTACTS][frames]
        toes_m = ground[:, _MIDDLE][..., [toe for _, toe in _SIDES]].mean(axis=1)
        centered = (ground - centers_m[:, None, None]) * np.sqrt(_WEIGHTS)
        return cls(
            ground=centered,
            centers_m=centers_m,
            heights_m=(joints_m[..., 1] * np.sqrt(_WEIGHTS)).reshape(len(starts), -1),
            spread=(np.abs(centered) ** 2).sum(axis=(1, 2)),
            stands=stands,
            standing=np.all(stands[:, _MIDDLE], axis=1),
            toes_m=toes_m,
            stances_m=toes_m[:, 0] - toes_m[:, 1],
        )


def blend(first: Track, second: Track, seam: Seam) -> Track:
    """The first motion up to a seam, the overlap, and the second from there."""
    before, overlap = first.cut(0, seam.leave), first.cut(seam.leave, seam.leave + BLEND_FRAMES)
    second = _place(second.cut(seam.enter, len(second)), seam.yaw, seam.shift_m)
    half = BLEND_FRAMES // 2
    # Smooth at both ends: speeds go over without a step.
    share = torch.linspace(0, 1, BLEND_FRAMES + 2, dtype=torch.float64)[1:-1]
    share = (share * share * (3 - 2 * share))[:, None]
    root_m = torch.lerp(overlap.root_m, second.root_m[:BLEND_FRAMES], share)
    rotations = _slerp(overlap.rotations, second.rotations[:BLEND_FRAMES], share[:, None])
    following = build_track(
        torch.cat([root_m, second.root_m[BLEND_FRAMES:]]),
        torch.cat([rotations, second.rotations[BLEND_FRAMES:]]),
        np.concatenate([overlap.contacts[:half], second.contacts[half:]]),
    )
    standing = overlap.contacts[_MIDDLE] & second.contacts[_MIDDLE]
    for (ankle, toe), contact in zip(_SIDES, _TOE_CONTACTS, strict=True):
        if not standing[:, contact].all():
            continue
        toes_m = overlap.joints_m[:, toe], second.joints_m[:, toe]
        gap_m = (toes_m[0][_MIDDLE] - toes_m[1][_MIDDLE]).mean(0) * torch.tensor([1.0, 0.0, 1.0])
        offsets_m = gap_m * _hold(second.contacts[:, contact])[:, None]
        wanted_m = torch.lerp(toes_m[0], toes_m[1][:BLEND_FRAMES] + offsets_m[:BLEND_FRAMES], share)
        offsets_m[:BLEND_FRAMES] = wanted_m - following.joints_m[:BLEND_FRAMES, toe]
        following = move_foot(following, ankle, offsets_m)
    return Track(
        torch.cat([before.root_m, following.root_m]),
        torch.cat([before.rotations, following.rotations]),
        torch.cat([before.joints_m, following.joints_m]),
        np.concatenate([before.contacts, following.contacts]),
    )


def build_track(root_m: Tensor, rotations: Tensor, contacts: NDArray[np.bool_]) -> Track:
    offsets = torch.from_numpy(BODY_22.offsets_m).double()
    return Track(root_m, rotations, forward_kinematics(root_m, rotations, offsets, BODY_22.parents), contacts)


def _place(track: Track, yaw: float, shift_m: tuple[float, float]) -> Track:
    turn = yaw_rotation(torch.tensor(yaw, dtype=torch.float64))
    shift = torch.tensor([shift_m[0], 0.0, shift_m[1]], dtype=torch.float64)
    rotations = track.rotations.clone()
    rotations[:, 0] = multiply(turn, rotations[:, 0])
    return Track(rotate(turn, track.root_m) + shift, rotations, rotate(turn, track.joints_m) + shift, track.contacts)


def _slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """From one rotation to another the short way, [..., 4] and [..., 1]."""
    return multiply(start, power(multiply(inverse(start), end), share))


def power(rotations: Tensor, share: Tensor | float) -> Tensor:
    """A share of each turn, the short way, [..., 4]."""
    rotations = torch.where(rotations[..., 3:] < 0, -rotations, rotations)
    sine = rotations[..., :3].norm(dim=-1, keepdim=True)
    half = torch.atan2(sine, rotations[..., 3:]) * share
    return torch.cat([normalize(rotations[..., :3]) * half.sin(), half.cos()], dim=-1)


def _hold(stands: NDArray[np.bool_]) -> Tensor:
    """How much a foot's gap counts, [F]: wholly until it lifts after the overlap, then less, down to 0 in its swing."""
    middle = BLEND_FRAMES // 2
    weights = torch.ones(len(stands), dtype=torch.float64)
    lifts = middle + np.flatnonzero(~stands[middle:])
    if len(lifts):
        lift = int(lifts[0])
        lands = lift + np.flatnonzero(stands[lift:])
        num_frames = min(RELEASE_FRAMES, (int(lands[0]) if len(lands) else len(stands)) - lift)
        share = torch.linspace(1, 0, num_frames + 1, dtype=torch.float64)[1:]
        weights[lift:] = 0
        weights[lift : lift + num_frames] = share * share * (3 - 2 * share)
    return weights


def move_foot(track: Track, ankle: int, offsets_m: Tensor) -> Track:
    """Move a foot, [F, 3] metres, by bending and swinging its leg; the foot keeps its direction, hips their place."""
    limb = next(limb for limb in LIMBS if limb.end == ankle)
    hip, knee = limb.upper, limb.lower
    moved = offsets_m.norm(dim=-1) > 1e-9
    local, joints_m = track.rotations[moved], track.joints_m[moved]
    pelvis = local[:, 0]
    thigh = multiply(pelvis, local[:, hip])
    shin = multiply(thigh, local[:, knee])
    foot = multiply(shin, local[:, ankle])
    upper, lower = joints_m[:, knee] - joints_m[:, hip], joints_m[:, ankle] - joints_m[:, knee]
    wanted = joints_m[:, ankle] + offsets_m[moved] - joints_m[:, hip]
    lengths = upper.norm(dim=-1), lower.norm(dim=-1)
    reach = wanted.norm(dim=-1).clamp(max=(lengths[0] + lengths[1]) * 0.9999)
    cosine = (reach**2 - lengths[0] ** 2 - lengths[1] ** 2) / (2 * lengths[0] * lengths[1])
    straight = (normalize(upper) * normalize(lower)).sum(-1).clamp(-1, 1)
    bend = torch.acos(cosine.clamp(-1, 1)) - torch.acos(straight)
    # A straight leg has no plane; then its knee bends about its hinge.
    axis = normalize(cross(upper, lower) + 1e-3 * rotate(thigh, thigh.new_tensor(limb.hinge)))
    turn = torch.cat([axis * (bend / 2).sin()[:, None], (bend / 2).cos()[:, None]], dim=-1)
    swing = shortest_arc(normalize(upper + rotate(turn, lower)), normalize(wanted))
    new_thigh, new_shin = multiply(swing, thigh), multiply(swing, multiply(turn, shin))
    local = local.clone()
    local[:, hip] = multiply(inverse(pelvis), new_thigh)
    local[:, knee] = multiply(inverse(new_thigh), new_shin)
    local[:, ankle] = multiply(inverse(new_shin), foot)
    rotations = track.rotations.clone()
    rotations[moved] = local
    return build_track(track.root_m, rotations, track.contacts)
