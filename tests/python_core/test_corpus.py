"""What holds on real clips: set MOTION_R1_CLIPS to a folder in the HumanML3D layout and run `make test-slow`."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from python_core.clips.humanml3d import HumanML3DFolder
from python_core.contract.skeleton import BODY_22
from python_core.features import canonical_joints, exact_features, features_to_joints, mirror_joints, origin
from python_core.pose_solver import PoseSolver
from python_core.rotations import forward_kinematics, multiply, normalize
from python_core.steady_twist import solve_motion

FOLDER = os.environ.get("MOTION_R1_CLIPS")
RATIO = 1.5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOLDER is None, reason="real clips are not part of the product: MOTION_R1_CLIPS names a folder"),
]


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    reader = HumanML3DFolder(Path(FOLDER or ""))
    found = (reader.read(name)[0] for name in reader.names("train"))
    return [clip.joints_m for clip in found if clip.source != "bandai" and len(clip.joints_m) > 4]


def test_features_give_the_joints_of_real_clips_back(clips: list[np.ndarray]):
    for source_m in clips[::20]:
        for joints_m in (canonical_joints(source_m), canonical_joints(mirror_joints(source_m))):
            rows = torch.from_numpy(exact_features(joints_m, 20.0)).double()[None]
            back_m = features_to_joints(rows, origin(1, rows))[0][0].numpy()
            assert np.abs(back_m - joints_m[:-1]).max() < 1e-5


def test_forward_kinematics_reproduces_the_bones_of_limbs_and_spine(clips: list[np.ndarray]):
    solver = PoseSolver()
    rigid = {1, 2, 3, 12, 13, 14}  # Bones inside pelvis and chest, which real clips bend a little.
    for source_m in clips[::20]:
        source = torch.from_numpy(source_m).double()
        root_m, rotations = solver(source)
        solved = forward_kinematics(root_m, rotations, solver.offsets, BODY_22.parents)
        for joint, parent in enumerate(BODY_22.parents):
            if joint > 0 and joint not in rigid:
                directions = [normalize(pose[:, joint] - pose[:, parent]) for pose in (source, solved)]
                assert (directions[0] - directions[1]).norm(dim=-1).max() < 1e-6, BODY_22.joint_names[joint]


def test_joints_turn_hardly_faster_than_the_bones_of_real_clips(clips: list[np.ndarray]):
    ratios = []
    for source_m in clips:
        source = torch.from_numpy(source_m).double()
        bones = normalize(source - source[:, [max(parent, 0) for parent in BODY_22.parents]])[:, 1:]
        turned: list[torch.Tensor] = []
        for joint, local in enumerate(solve_motion(source)[1].unbind(1)):
            turned.append(local if joint == 0 else multiply(turned[BODY_22.parents[joint]], local))
        world = torch.stack(turned, dim=1)
        chord = torch.minimum((world[1:] - world[:-1]).norm(dim=-1), (world[1:] + world[:-1]).norm(dim=-1))
        joint_step = 4 * (chord / 2).clamp(max=1).asin().max()
        bone_step = 2 * ((bones[1:] - bones[:-1]).norm(dim=-1) / 2).clamp(max=1).asin().max()
        ratios.append(float(joint_step / bone_step))
    assert max(ratios) <= RATIO
