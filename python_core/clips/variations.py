"""What a recorded clip shows besides what was recorded: played backward in time, or along a path that turns.

Small corpora walk ahead and little else. A walk ahead that is played backward walks backward, who sits down stands up;
a straight walk bent along a curve turns, with its feet put where they stood. Captions follow by rule, and a caption
that says more than the rules know has no variation. `tell_side` adds the side that a motion shows and its caption
leaves out.

A variation has the id of its clip with `@` and its name, so it goes with the clip's take. Turns are to the left;
mirrored copies turn to the right.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.clips.clip import Caption, Clip
from python_core.composed_motion import Track, build_track, move_foot, solve_track
from python_core.contract.plan import Beat, Plan
from python_core.contract.quality import QualityReport, measure_quality
from python_core.contract.quality_thresholds import Verdict
from python_core.contract.skeleton import BODY_22
from python_core.features import canonical_joints, exact_features, feature_slices, features_to_motion
from python_core.pose_solver import LIMBS, Limb
from python_core.rotations import inverse, multiply, rotate, yaw_rotation
from python_core.vqvae import FRAMES_PER_CODE

SKATE_FACTOR, SKATE_MORE_M_S = 1.25, 0.05
"""Feet of a variation are this much faster than the clip's while they stand, at most."""

STRAIGHT = 0.95
"""A straight walk ends at least this share of its way from where it began."""
LEAST_WAY_M = 1.2
CURVE_RAD_S = 1.2
"""How fast a circle turns; it takes five seconds."""
LEAST_CURVE_FRAMES = 50
STRIDE_ON_SPOT = 0.2
"""Steps of a turn on the spot, as a share of those of the walk it is made of."""
STILL_FRAMES = 4
"""Before and after a turn on the spot."""
WALK_FRAMES = 20
"""Of the walk before and after a turn on the way, at least."""


@dataclass(frozen=True)
class Turn:
    """By how much, in how many frames, and what is said of it."""

    name: str
    angle: float
    """To the left, radians."""
    frames: int
    on_spot: tuple[str, ...]
    on_way: tuple[str, ...]
    """With the verb of going."""
    beat: str
    then: str
    """How one goes after it."""


TURNS = (
    Turn(
        "turned_left",
        np.pi / 2,
        20,
        ("turns to the left", "turns left on the spot", "makes a quarter turn to the left"),
        ("{0} forward, turns left and {0} on", "{0} ahead, then turns to the left and {0} on"),
        "turn to the left",
        "forward",
    ),
    Turn(
        "turned_around",
        np.pi,
        32,
        ("turns around", "turns around on the spot", "turns to face the other way"),
        ("{0} forward, turns around and {0} back", "{0} ahead, then turns around and {0} back"),
        "turn around",
        "back",
    ),
)

_ONE_ACTION = re.compile(
    r"\b(?:then|and|before|after|stop\w*|turn\w*|start\w*|begin\w*|until|again|while|back\w*|around|circle\w*|curve\w*|"
    r"in an?|left|right|diagonal\w*|sideways|one|two|three|four|five|six|once|twice|times|to|from|down|up)\b",
    re.IGNORECASE,
)
"""Words of a caption that say more than that somebody walks ahead."""
_AHEAD = re.compile(
    r"\b(walk|stride|stroll|jog|run|sprint|creep|sneak|shuffle|crawl|shamble)(s|n?ing)?\b((?: \w+ly)?)"
    r"(?: straight)? (?:forwards?|ahead)\b",
    re.IGNORECASE,
)
_SIDEWAYS = re.compile(r"\b((?:walk|run|jog|step|move|shuffle)\w* sideways)\b(?!.*\b(?:left|right)\b)")
_SEAT, _GROUND = r"((?:a|the) (?:chair|bench|stool|seat))", r"(the (?:floor|ground))"
_BACKWARD: tuple[tuple[str, str, str], ...] = (
    ("sit", rf"down on {_SEAT}", "stand|up from"),
    ("get|stand", rf"up from {_SEAT}", "sit|down on"),
    ("sit", rf"down on {_GROUND}", "stand|up from sitting on"),
    ("get|stand", rf"up from sitting on {_GROUND}", "sit|down on"),
    ("lie", rf"down on {_GROUND}", "get|up from lying on"),
    ("get|stand", rf"up from lying on {_GROUND}", "lie|down on"),
)
"""Verbs in their base form, what follows them, and what is seen backward in time."""


def vary(clip: Clip) -> Iterator[Clip]:
    """Variations of a clip; those whose feet slide more than its own are left out.

    Raises:
        ValueError: The clip is not canonical, or not of 20 frames a second.
    """
    made = [] if (backward := _backward(clip)) is None else [backward]
    if (verb := _gait(clip)) is not None:
        track = solve_track(clip)
        turned = (make(clip, track, verb, turn) for turn in TURNS for make in (_turn, _turn_on_way))
        made += [variation for variation in (_circle(clip, track, verb), *turned) if variation is not None]
    if not made:
        return
    limit_m_s = SKATE_FACTOR * _quality(clip).contact_foot_speed_m_s + SKATE_MORE_M_S
    for variation in made:
        quality = _quality(variation)
        if quality.contact_foot_speed_m_s <= limit_m_s and quality.verdict is not Verdict.POOR:
            yield variation


def tell_side(clip: Clip) -> Clip:
    """The same with "sideways" in its captions told as "sideways to the left" or right, where it goes that way."""
    if not any(_SIDEWAYS.search(caption.text) for caption in clip.captions):
        return clip
    features = exact_features(clip.joints_m, clip.frame_rate_hz)
    left_m, ahead_m = features[:, feature_slices(BODY_22)["root_velocity"]].mean(axis=0)
    if abs(left_m) < 2 * abs(ahead_m):
        return clip
    side = "left" if left_m > 0 else "right"
    captions = tuple(
        replace(caption, text=_SIDEWAYS.sub(rf"\1 to the {side}", caption.text), tagged="")
        if _SIDEWAYS.search(caption.text)
        else caption
        for caption in clip.captions
    )
    return replace(clip, captions=captions)


def _quality(clip: Clip) -> QualityReport:
    return measure_quality(features_to_motion(exact_features(clip.joints_m, clip.frame_rate_hz), clip.frame_rate_hz))


def _made(
    clip: Clip, name: str, joints_m: NDArray[np.floating], captions: Sequence[str], plan: Plan | None = None
) -> Clip:
    """A variation of a clip with other joints, [F, J, 3]."""
    return replace(
        clip,
        clip_id=f"{clip.clip_id}@{name}",
        joints_m=canonical_joints(joints_m.astype(np.float32)),
        captions=tuple(Caption(text) for text in dict.fromkeys(captions)),
        plan=plan,
    )


def _backward(clip: Clip) -> Clip | None:
    captions = [text for caption in clip.captions if (text := said_backward(caption.text)) is not None]
    return _made(clip, "backward", clip.joints_m[::-1], captions) if captions and clip.plan is None else None


def said_backward(text: str) -> str | None:
    """A caption of what is seen when its clip is played backward; None where no rule knows."""
    if (ahead := _ahead(text)) is not None:
        return _AHEAD.sub(r"\1\2\3 backward", ahead)
    for verbs, after, seen in _BACKWARD:
        verb, rest = seen.split("|")
        for ending, make in (("", str), ("s", _third), ("t?ing", _gerund)):
            found = re.fullmatch(rf"(.*?)\b(?:{verbs}){ending} {after}(\.?)", text)
            if found and "," not in found[1]:
                return f"{found[1]}{make(verb)} {rest} {found[2]}{found[3]}"
    return None


def _third(verb: str) -> str:
    return f"{verb}s"


def _gerund(verb: str) -> str:
    return {"lie": "lying", "sit": "sitting", "get": "getting"}.get(verb, f"{verb}ing")


def _ahead(text: str) -> str | None:
    """The caption, if it says no more than that somebody goes ahead."""
    return text if _AHEAD.search(text) and not _ONE_ACTION.search(_AHEAD.sub("", text)) else None


def _gait(clip: Clip) -> str | None:
    """The verb of a clip of one straight walk or run."""
    if clip.plan is not None:
        return None
    verbs = {
        match[1].lower() for caption in clip.captions if _ahead(caption.text) and (match := _AHEAD.search(caption.text))
    }
    path_m = clip.joints_m[:, 0, [0, 2]]
    way_m = np.linalg.norm(np.diff(path_m, axis=0), axis=-1).sum()
    straight = np.linalg.norm(path_m[-1] - path_m[0]) >= STRAIGHT * way_m
    ahead = path_m[-1, 1] > 0.8 * way_m
    return min(verbs & {"walk", "jog", "run"}, default=None) if straight and ahead and way_m > LEAST_WAY_M else None


def _circle(clip: Clip, track: Track, verb: str) -> Clip | None:
    if len(track) < LEAST_CURVE_FRAMES:
        return None
    yaw = np.arange(len(track)) / clip.frame_rate_hz * CURVE_RAD_S
    said = (f"{_third(verb)} in a circle to the left", f"{_third(verb)} around in a circle, turning left")
    return _made(clip, "circle", bend(track, yaw).joints_m.numpy(), [f"a person {text}." for text in said])


def _turn(clip: Clip, track: Track, verb: str, turn: Turn) -> Clip | None:
    """A turn on the spot, made of a few steps of a walk: those that begin and end with the feet beside each other."""
    num_frames = turn.frames + 2 * STILL_FRAMES
    if verb != "walk" or len(track) < num_frames:
        return None
    apart_m = np.linalg.norm(clip.joints_m[:, LIMBS[0].end] - clip.joints_m[:, LIMBS[1].end], axis=-1)
    first = int((apart_m[: len(apart_m) - num_frames + 1] + apart_m[num_frames - 1 :]).argmin())
    yaw = turn.angle * _eased(num_frames, STILL_FRAMES, turn.frames)
    bent = bend(track.cut(first, first + num_frames), yaw, STRIDE_ON_SPOT)
    return _made(clip, turn.name, bent.joints_m.numpy(), [f"a person {text}." for text in turn.on_spot])


def _turn_on_way(clip: Clip, track: Track, verb: str, turn: Turn) -> Clip | None:
    """A walk or run that turns in the middle and goes on, with an exact plan."""
    num_frames = len(track)
    before = (num_frames - turn.frames) // 2 // FRAMES_PER_CODE * FRAMES_PER_CODE
    if before < WALK_FRAMES:
        return None
    after = (num_frames - 1 - before - turn.frames) // FRAMES_PER_CODE * FRAMES_PER_CODE
    bent = bend(track, turn.angle * _eased(num_frames, before, turn.frames))
    durations_s = [round(frames / clip.frame_rate_hz, 1) for frames in (before, turn.frames, after)]
    beats = (f"{verb} forward", turn.beat, f"{verb} {turn.then}")
    captions = [f"a person {text.format(f'{verb}s')}." for text in turn.on_way]
    plan = Plan(tuple(Beat(text, duration_s) for text, duration_s in zip(beats, durations_s, strict=True)))
    return _made(
        clip, f"{turn.name}_on_way", bent.cut(0, before + turn.frames + after + 1).joints_m.numpy(), captions, plan
    )


def _eased(num_frames: int, first: int, during: int) -> NDArray[np.float64]:
    """From 0 to 1, smoothly, over some frames, [num_frames]."""
    place = np.clip((np.arange(num_frames) - first) / during, 0, 1)
    return place * place * (3 - 2 * place)


def bend(track: Track, yaw: NDArray[np.float64], stride: float = 1.0) -> Track:
    """Turn a motion about the vertical as it goes, its feet standing where they stand.

    Args:
        track: F frames; begins at x = z = 0.
        yaw: By how much each frame is turned to the left, radians, [F].
        stride: Of the way that the root goes, how much is left.

    Returns:
        F frames; an ankle that its leg cannot reach stands as near as it can.
    """
    angles, ground = torch.from_numpy(yaw), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    steps_m = rotate(yaw_rotation((angles[1:] + angles[:-1]) / 2), (track.root_m * ground).diff(dim=0)) * stride
    root_m = track.root_m * (1 - ground)
    root_m[1:] += steps_m.cumsum(dim=0)
    rotations = track.rotations.clone()
    rotations[:, 0] = multiply(yaw_rotation(angles), rotations[:, 0])
    bent = build_track(root_m, rotations, track.contacts)
    for limb, feet in ((LIMBS[0], slice(0, 2)), (LIMBS[1], slice(2, 4))):
        bent = _plant(bent, track, yaw, limb, np.asarray(track.contacts[:, feet].any(axis=1)))
    return bent


def _plant(bent: Track, track: Track, yaw: NDArray[np.float64], limb: Limb, stands: NDArray[np.bool_]) -> Track:
    """Let a foot move as it moved before while it stands, turned as the body is in the middle of that, and go smoothly
    from one such place to the next.
    """
    if not stands.any():
        return bent
    shifts = np.zeros((len(yaw), 4))  # Of the ankle, and the foot's turn.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], stands, [False]])))
    before_m, now_m = track.joints_m[:, limb.end], bent.joints_m[:, limb.end]
    for first, end in edges.reshape(-1, 2):
        middle, frames = (first + end - 1) // 2, slice(first, end)
        turn = yaw_rotation(torch.tensor(yaw[middle]))
        shifts[frames, :3] = rotate(turn, before_m[frames] - before_m[middle]) + now_m[middle] - now_m[frames]
        shifts[frames, 3] = yaw[middle] - yaw[frames]
    places = np.flatnonzero(stands)
    shifts = np.stack([np.interp(np.arange(len(yaw)), places, shift[places]) for shift in shifts.T], axis=-1)
    shin = bent.rotations[:, 0]
    for joint in (limb.upper, limb.lower):
        shin = multiply(shin, bent.rotations[:, joint])
    rotations = bent.rotations.clone()
    foot = multiply(yaw_rotation(torch.from_numpy(shifts[:, 3])), multiply(shin, rotations[:, limb.end]))
    rotations[:, limb.end] = multiply(inverse(shin), foot)
    turned = build_track(bent.root_m, rotations, bent.contacts)
    return move_foot(turned, limb.end, torch.from_numpy(shifts[:, :3]))
