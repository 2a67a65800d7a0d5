"""BVH: a motion as a text file that animation tools read."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_core.contract.motion import Motion
from python_core.contract.skeleton import Skeleton

END_SITE_SHARE = 0.5
"""Length of the bone that BVH wants beyond the last joint of a limb, as a share of the bone before it."""

_ROTATION_CHANNELS = "Zrotation Xrotation Yrotation"
_ROOT_CHANNELS = f"CHANNELS 6 Xposition Yposition Zposition {_ROTATION_CHANNELS}"
_JOINT_CHANNELS = f"CHANNELS 3 {_ROTATION_CHANNELS}"


def write_bvh(path: Path, motion: Motion) -> None:
    """Write a motion as BVH, in metres (most tools assume centimetres: import with scale 100 there).

    The root's offset is zero and its position channels are absolute. The file's space is ours: +Y up, the character
    faces +Z in the rest pose. Angles are in degrees, applied in the order Z, X, Y.
    """
    lines = ["HIERARCHY"]
    order: list[int] = []
    _add_joint(lines, order, motion.skeleton, joint=0, depth=0)
    angles = np.degrees(zxy_angles(motion.joint_rotations.astype(np.float64)))[:, order]
    rows = np.concatenate([motion.root_positions_m, angles.reshape(motion.num_frames, -1)], axis=1)
    lines += ["MOTION", f"Frames: {motion.num_frames}", f"Frame Time: {1 / motion.frame_rate_hz:.8f}"]
    lines += [" ".join(f"{number:.6f}" for number in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def zxy_angles(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles about Z, X and Y whose product, in this order, is the rotation.

    Along the first axis an angle takes no step of more than half a turn, so that tools may interpolate.

    Args:
        rotations: Unit quaternions x, y, z, w, [F, J, 4].

    Returns:
        Radians, [F, J, 3].
    """
    x, y, z, w = np.moveaxis(rotations / np.linalg.norm(rotations, axis=-1, keepdims=True), -1, 0)
    r00, r01, r10, r11 = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * y + w * z), 1 - 2 * (x * x + z * z)
    r20, r21, r22 = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    cos_x = np.hypot(r01, r11)
    # With X at a right angle Z and Y turn about the same axis: all of it is given to Z.
    locked = cos_x < 1e-9
    angle_z = np.where(locked, np.arctan2(r10, r00), np.arctan2(-r01, r11))
    angle_x = np.arctan2(r21, cos_x)
    angle_y = np.where(locked, 0.0, np.arctan2(-r20, r22))
    return np.unwrap(np.stack([angle_z, angle_x, angle_y], axis=-1), axis=0)


def _add_joint(lines: list[str], order: list[int], skeleton: Skeleton, joint: int, depth: int) -> None:
    """Append a joint and all below it; `order` becomes the joints in the order of the file."""
    order.append(joint)
    pad, inner = "\t" * depth, "\t" * (depth + 1)
    offset = skeleton.rest_offsets_m[joint]
    kind = "JOINT" if depth else "ROOT"
    lines += [
        f"{pad}{kind} {skeleton.joint_names[joint]}",
        f"{pad}{{",
        f"{inner}OFFSET {_format(offset)}",
        f"{inner}{_JOINT_CHANNELS if depth else _ROOT_CHANNELS}",
    ]
    children = [child for child, parent in enumerate(skeleton.parents) if parent == joint]
    for child in children:
        _add_joint(lines, order, skeleton, child, depth + 1)
    if not children:
        end = (offset[0] * END_SITE_SHARE, offset[1] * END_SITE_SHARE, offset[2] * END_SITE_SHARE)
        lines += [f"{inner}End Site", f"{inner}{{", f"{inner}\tOFFSET {_format(end)}", f"{inner}}}"]
    lines.append(f"{pad}}}")


def _format(numbers: tuple[float, float, float]) -> str:
    return " ".join(f"{number:.6f}" for number in numbers)
