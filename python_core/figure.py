"""Draws a body with Pillow: rounded limbs, its left side blue and its right side orange, on a floor with a grid.

The camera looks at the character's front from its left, three quarters on, and follows it without turning, so that
turns and travel show.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from python_core.contract.motion import Motion, multiply, rotate

Color = tuple[int, int, int]

SKY: Color = (238, 241, 245)
FLOOR: Color = (222, 227, 233)
GRID: Color = (199, 206, 215)
SHADOW: Color = (190, 197, 207)
OUTLINE: Color = (38, 44, 54)
MIDDLE: Color = (108, 118, 134)
HEAD: Color = (226, 190, 160)
LEFT: Color = (52, 132, 214)
RIGHT: Color = (236, 122, 48)

SUPERSAMPLING = 3
"""Pictures are drawn this many times larger and scaled down, which smooths edges."""
OUTLINE_M = 0.009
FAR_LIGHT = 0.72
"""Brightness of a limb 0.4 m behind the root; the root's own is 1."""

_VIEW_AZIMUTH = np.radians(38)
_VIEW_ELEVATION = np.radians(13)
_DISTANCE_M = 5.2
_FOCAL = 3.5
"""Half a picture's height is 1 at a distance of 1 with a focal length of 1."""
_LOOK_AT_HEIGHT_M = 0.88
_HEADROOM_M = 0.3
"""Above the highest joint of a motion, at least."""
_FOLLOW_S = 0.6
"""Width of the window in which the camera's path is smoothed."""
_GRID_STEP_M = 0.5
_GRID_REACH_M = 4.0

_LIMBS = (
    # joint, joint, radius at each in metres, side
    ("pelvis", "spine1", 0.105, 0.105, "middle"),
    ("spine1", "spine2", 0.105, 0.115, "middle"),
    ("spine2", "spine3", 0.115, 0.110, "middle"),
    ("spine3", "neck", 0.095, 0.050, "middle"),
    ("neck", "head", 0.048, 0.048, "head"),
    ("l_hip", "r_hip", 0.088, 0.088, "middle"),
    ("l_shoulder", "r_shoulder", 0.055, 0.055, "middle"),
    ("l_shoulder", "spine1", 0.055, 0.085, "middle"),
    ("r_shoulder", "spine1", 0.055, 0.085, "middle"),
    ("l_hip", "l_knee", 0.080, 0.056, "left"),
    ("r_hip", "r_knee", 0.080, 0.056, "right"),
    ("l_knee", "l_ankle", 0.055, 0.038, "left"),
    ("r_knee", "r_ankle", 0.055, 0.038, "right"),
    ("l_ankle", "l_foot", 0.040, 0.032, "left"),
    ("r_ankle", "r_foot", 0.040, 0.032, "right"),
    ("l_shoulder", "l_elbow", 0.050, 0.038, "left"),
    ("r_shoulder", "r_elbow", 0.050, 0.038, "right"),
    ("l_elbow", "l_wrist", 0.037, 0.028, "left"),
    ("r_elbow", "r_wrist", 0.037, 0.028, "right"),
)
_HAND_M, _HAND_RADIUS_M = 0.10, 0.034
_HEAD_RADIUS_M = 0.108
_HEAD_RISE_M, _NOSE_M = 0.075, 0.115
_COLORS = {"middle": MIDDLE, "left": LEFT, "right": RIGHT, "head": HEAD}


@dataclass(frozen=True, eq=False)
class Figure:
    """All that is drawn of a motion, ready for any frame."""

    joints_m: NDArray[np.float32]
    """[F, J, 3]"""
    head_rotations: NDArray[np.float64]
    """Of the head in the world, [F, 4]."""
    targets_m: NDArray[np.float64]
    """Where the camera looks, [F, 3]."""
    distance_m: float
    """Of the camera from there."""
    joint_names: tuple[str, ...]


@dataclass(frozen=True)
class _Capsule:
    """A rounded limb: two ends in the world and their radii."""

    start_m: NDArray[np.float64]
    end_m: NDArray[np.float64]
    start_radius_m: float
    end_radius_m: float
    color: Color


def pose(motion: Motion) -> Figure:
    """Find out what is drawn where. Who jumps high is seen from farther off."""
    joints_m = motion.joint_positions_m()
    half_m = _DISTANCE_M / _FOCAL
    rises_m = max(0.0, float(joints_m[..., 1].max()) + _HEADROOM_M - _LOOK_AT_HEIGHT_M - half_m)
    return Figure(
        joints_m=joints_m,
        head_rotations=_world_rotations(motion, motion.skeleton.joint("head")),
        targets_m=_follow(motion) + np.array([0.0, rises_m / 2, 0.0]),
        distance_m=_DISTANCE_M * (1 + rises_m / 2 / half_m),
        joint_names=motion.skeleton.joint_names,
    )


def draw(figure: Figure, frame: int, width: int, height: int) -> Image.Image:
    """Draw one frame, width x height pixels."""
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    image = Image.new("RGB", size, SKY)
    canvas, view = ImageDraw.Draw(image), _View(figure.targets_m[frame], figure.distance_m, size)
    _draw_floor(canvas, view)
    parts = _parts(figure, frame)
    _draw_shadow(canvas, view, [capsule for part in parts for capsule in part])
    depth_m = view.depth_m(figure.joints_m[frame, 0])
    for part in sorted(parts, key=lambda part: -_depth_m(view, part)):
        behind_m = _depth_m(view, part) - depth_m
        light = float(np.clip(1 - (1 - FAR_LIGHT) * behind_m / 0.4, FAR_LIGHT, 1.12))
        for capsule in part:
            _draw_capsule(canvas, view, capsule, OUTLINE, grow_m=OUTLINE_M)
        for capsule in part:
            _draw_capsule(canvas, view, capsule, _lit(capsule.color, light), grow_m=0.0)
    return image.reduce(SUPERSAMPLING)


class _View:
    """A pinhole camera."""

    def __init__(self, target_m: NDArray[np.float64], distance_m: float, size: tuple[int, int]) -> None:
        azimuth, elevation = _VIEW_AZIMUTH, _VIEW_ELEVATION
        back = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
        self._eye_m = target_m + distance_m * back
        right = np.cross([0, 1, 0], back)
        right /= np.linalg.norm(right)
        self._axes = np.stack([right, np.cross(back, right), -back])
        self._center = np.array(size) / 2
        self._scale = _FOCAL * size[1] / 2
        self.target_m = target_m

    def depth_m(self, point_m: NDArray[np.floating]) -> float:
        """Distance from the camera along its axis."""
        return float(self._axes[2] @ (point_m - self._eye_m))

    def pixel(self, point_m: NDArray[np.floating]) -> tuple[float, float]:
        x, y, depth = self._axes @ (np.asarray(point_m) - self._eye_m)
        scale = self._scale / max(depth, 0.1)
        return float(self._center[0] + x * scale), float(self._center[1] - y * scale)

    def length(self, length_m: float, point_m: NDArray[np.floating]) -> float:
        """Pixels of a length at a point."""
        return length_m * self._scale / max(self.depth_m(point_m), 0.1)


def _world_rotations(motion: Motion, joint: int) -> NDArray[np.float64]:
    turned = motion.joint_rotations[:, joint].astype(np.float64)
    while (joint := motion.skeleton.parents[joint]) >= 0:
        turned = multiply(motion.joint_rotations[:, joint].astype(np.float64), turned)
    return turned


def _follow(motion: Motion) -> NDArray[np.float64]:
    """The root's path on the floor, smoothed; at the ends it is taken to stand still."""
    reach = max(1, round(_FOLLOW_S * motion.frame_rate_hz))
    weights = np.hanning(2 * reach + 1)
    weights /= weights.sum()
    padded = np.pad(motion.root_positions_m.astype(np.float64), ((reach, reach), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    path = windows @ weights
    path[:, 1] = _LOOK_AT_HEIGHT_M
    return path


def _parts(figure: Figure, frame: int) -> list[list[_Capsule]]:
    """The body in parts; each has one outline around all of its capsules."""
    joints_m = dict(zip(figure.joint_names, figure.joints_m[frame].astype(np.float64), strict=True))
    torso: list[_Capsule] = []
    parts = [torso]
    for start, end, start_radius_m, end_radius_m, side in _LIMBS:
        capsule = _Capsule(joints_m[start], joints_m[end], start_radius_m, end_radius_m, _COLORS[side])
        if side == "middle":
            torso.append(capsule)
        else:
            parts.append([capsule])
    for side, color in (("l", LEFT), ("r", RIGHT)):
        wrist, elbow = joints_m[f"{side}_wrist"], joints_m[f"{side}_elbow"]
        direction = (wrist - elbow) / max(float(np.linalg.norm(wrist - elbow)), 1e-6)
        parts.append([_Capsule(wrist, wrist + _HAND_M * direction, _HAND_RADIUS_M, 0.022, color)])
    turned = figure.head_rotations[frame]
    up, forward = rotate(turned, np.array([0.0, 1.0, 0.0])), rotate(turned, np.array([0.0, 0.0, 1.0]))
    center = joints_m["head"] + _HEAD_RISE_M * up - 0.03 * forward
    parts.append([_Capsule(center - 0.02 * up, center + 0.025 * up, 0.92 * _HEAD_RADIUS_M, _HEAD_RADIUS_M, HEAD)])
    nose = center + _NOSE_M * forward - 0.01 * up
    parts.append([_Capsule(nose - 0.01 * forward, nose + 0.012 * forward, 0.022, 0.014, HEAD)])
    return parts


def _depth_m(view: _View, part: list[_Capsule]) -> float:
    return float(np.mean([view.depth_m((capsule.start_m + capsule.end_m) / 2) for capsule in part]))


def _draw_floor(canvas: ImageDraw.ImageDraw, view: _View) -> None:
    center = np.round(view.target_m / _GRID_STEP_M) * _GRID_STEP_M
    reach = _GRID_REACH_M
    corners = [(-reach, -reach), (-reach, reach), (reach, reach), (reach, -reach)]
    canvas.polygon([view.pixel(np.array([center[0] + x, 0, center[2] + z])) for x, z in corners], fill=FLOOR)
    width = max(1, round(0.5 * SUPERSAMPLING))
    for step in np.arange(-reach, reach + 1e-6, _GRID_STEP_M):
        for ends in (((step, -reach), (step, reach)), ((-reach, step), (reach, step))):
            line = [view.pixel(np.array([center[0] + x, 0, center[2] + z])) for x, z in ends]
            whole = np.isclose((center[0] if ends[0][0] == ends[1][0] else center[2]) + step, 0)
            canvas.line(line, fill=_lit(GRID, 0.86) if whole else GRID, width=width * (2 if whole else 1))


def _draw_shadow(canvas: ImageDraw.ImageDraw, view: _View, capsules: list[_Capsule]) -> None:
    for capsule in capsules:
        floor = np.array([1, 0, 1])
        flat = replace(capsule, start_m=capsule.start_m * floor, end_m=capsule.end_m * floor)
        for point_m, radius_m in ((flat.start_m, flat.start_radius_m), (flat.end_m, flat.end_radius_m)):
            x, y = view.pixel(point_m)
            radius = view.length(radius_m, point_m)
            flattened = radius * np.sin(_VIEW_ELEVATION)
            canvas.ellipse((x - radius, y - flattened, x + radius, y + flattened), fill=SHADOW)
        side = np.cross(flat.end_m - flat.start_m, [0, 1, 0])
        if (length := float(np.linalg.norm(side))) > 1e-6:
            side /= length
            quad = (
                flat.start_m + side * flat.start_radius_m,
                flat.end_m + side * flat.end_radius_m,
                flat.end_m - side * flat.end_radius_m,
                flat.start_m - side * flat.start_radius_m,
            )
            canvas.polygon([view.pixel(point_m) for point_m in quad], fill=SHADOW)


def _draw_capsule(canvas: ImageDraw.ImageDraw, view: _View, capsule: _Capsule, color: Color, grow_m: float) -> None:
    ends = []
    for point_m, radius_m in ((capsule.start_m, capsule.start_radius_m), (capsule.end_m, capsule.end_radius_m)):
        x, y = view.pixel(point_m)
        radius = view.length(radius_m + grow_m, point_m)
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
        ends.append((np.array([x, y]), radius))
    (start, start_radius), (end, end_radius) = ends
    along = end - start
    if (length := float(np.linalg.norm(along))) > 1e-6:
        side = np.array([-along[1], along[0]]) / length
        quad = (
            start + side * start_radius, end + side * end_radius, end - side * end_radius, start - side * start_radius
        )  # fmt: skip
        canvas.polygon([(float(x), float(y)) for x, y in quad], fill=color)


def _lit(color: Color, light: float) -> Color:
    red, green, blue = (min(255, round(channel * light)) for channel in color)
    return red, green, blue
