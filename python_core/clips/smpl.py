"""The SMPL bodies: rest joints of the mean body or of a person's own, and turns of joints -> joint positions.

A person's own body needs the model's `.npz` files, which its owners hand out to those who register: `male/model.npz`
and `female/model.npz` of SMPL+H, or `SMPLX_MALE.npz`, ... Joints follow from the shape alone, since what the pose does
to the skin moves no joint; so nothing else of the model is needed, and no other package.

Source: Loper et al. 2015, SMPL: A Skinned Multi-Person Linear Model.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.clips.arrays import read_npz_numbers
from python_core.clips.clip import ClipError
from python_core.contract.skeleton import BODY_22, Skeleton
from python_core.rotations import forward_kinematics

NUM_SHAPES = 10
"""How many numbers of a person's shape count, as in HumanML3D."""

_LARGEST = 1000.0

MEAN_BODY = Skeleton(
    name="smpl_mean",
    joint_names=BODY_22.joint_names,
    parents=BODY_22.parents,
    # Mean shape of the neutral SMPL model, as published with many humanoids made of it; left and right averaged.
    rest_offsets_m=(
        (0.0, 0.0, 0.0),
        (0.0686, -0.0910, -0.0056),
        (-0.0686, -0.0910, -0.0056),
        (0.0, 0.1090, -0.0267),
        (0.0363, -0.3789, -0.0067),
        (-0.0363, -0.3789, -0.0067),
        (0.0, 0.1352, 0.0011),
        (-0.0147, -0.3982, -0.0430),
        (0.0147, -0.3982, -0.0430),
        (0.0, 0.0529, 0.0254),
        (0.0259, -0.0520, 0.1213),
        (-0.0259, -0.0520, 0.1213),
        (0.0, 0.2139, -0.0429),
        (0.0803, 0.1203, -0.0364),
        (-0.0803, 0.1203, -0.0364),
        (0.0, 0.0650, 0.0513),
        (0.0935, 0.0316, -0.0090),
        (-0.0935, 0.0316, -0.0090),
        (0.2567, -0.0131, -0.0245),
        (-0.2567, -0.0131, -0.0245),
        (0.2523, 0.0084, -0.0034),
        (-0.2523, 0.0084, -0.0034),
    ),
    foot_joints=BODY_22.foot_joints,
    mirror_joints=BODY_22.mirror_joints,
)
MEAN_PELVIS_M = (0.0, -0.2233, 0.0282)
"""Where the mean body's pelvis is when `trans` is zero; it is not turned with the body."""


def mean_rest_joints() -> NDArray[np.float64]:
    """Rest joints of the mean body, [J, 3]."""
    rest_m = MEAN_BODY.rest_joints_m.astype(np.float64)
    return rest_m - rest_m[0] + np.array(MEAN_PELVIS_M)


def own_rest_joints(body_model: Path, gender: str, betas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rest joints of a person, [J, 3].

    Args:
        body_model: Folder of models, or one `.npz` for everybody.
        gender: As in HumanML3D, who has no model of their own has the female one.
        betas: The person's shape; as many numbers as there are, up to NUM_SHAPES.

    Raises:
        ClipError: There is no model, or it is not one of these bodies.
    """
    rest_m, shapes_m = _read_model(_model_file(body_model, gender))
    num_shapes = min(len(betas), shapes_m.shape[-1])
    return rest_m + shapes_m[..., :num_shapes] @ betas[:num_shapes]


def pose_body(
    rest_m: NDArray[np.float64], turns: NDArray[np.float64], trans_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Turn the joints of a body at rest, as the models do.

    Args:
        rest_m: Rest joints, [J, 3].
        turns: Local to the parent joint, as axis times radians, [F, J, 3].
        trans_m: How far the whole body is moved, [F, 3]; the pelvis turns where it is at rest.

    Returns:
        Joint positions, [F, J, 3].
    """
    offsets_m = rest_m.copy()
    offsets_m[1:] -= rest_m[list(BODY_22.parents[1:])]
    joints = forward_kinematics(
        torch.from_numpy(trans_m + rest_m[0]),
        torch.from_numpy(_quaternions(turns)),
        torch.from_numpy(offsets_m),
        BODY_22.parents,
    )
    return joints.numpy()


def _quaternions(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis times radians -> x, y, z, w, [..., 3] -> [..., 4]."""
    half = np.linalg.norm(turns, axis=-1, keepdims=True) / 2
    # numpy's sinc has pi in it, and is 1 at 0.
    return np.concatenate([turns / 2 * np.sinc(half / np.pi), np.cos(half)], axis=-1)


def _model_file(body_model: Path, gender: str) -> Path:
    """The model for a gender. As in HumanML3D, everybody who has no model of their own has the female one."""
    if body_model.is_file():
        return body_model
    tried = []
    for model in (gender.lower(), "female"):
        for name in (f"{model}/model.npz", f"SMPLH_{model.upper()}.npz", f"SMPLX_{model.upper()}.npz"):
            tried.append(name)
            if model.isalpha() and (found := body_model / name).is_file():
                return found
    raise ClipError(f"{body_model}: no body model; expected one of {', '.join(tried)}")


@cache
def _read_model(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean rest joints, [J, 3], and how each number of the shape moves them, [J, 3, S]."""
    template, directions, regressor = (
        read_npz_numbers(path, name) for name in ("v_template", "shapedirs", "J_regressor")
    )
    num_vertices = len(template) if template.ndim else 0
    if (
        template.shape != (num_vertices, 3)
        or directions.ndim != 3
        or directions.shape[:2] != (num_vertices, 3)
        or regressor.ndim != 2
        or regressor.shape[1] != num_vertices
        or len(regressor) < BODY_22.num_joints
    ):
        raise ClipError(
            f"{path}: expected v_template [N, 3], shapedirs [N, 3, S] and J_regressor [J, N], got "
            f"{list(template.shape)}, {list(directions.shape)} and {list(regressor.shape)}"
        )
    # Written so that a NaN fails too.
    if not all((np.abs(numbers) <= _LARGEST).all() for numbers in (template, directions, regressor)):
        raise ClipError(f"{path}: numbers that are not finite, or beyond {_LARGEST:.0f}; download it again")
    regressor = regressor[: BODY_22.num_joints]
    return regressor @ template, np.einsum("jv,vxs->jxs", regressor, directions[..., :NUM_SHAPES])
