"""The body: joints, parents and T-pose.

Space: right-handed, +Y up, the character faces +Z, +X is its left; metres.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A tree of joints in its T-pose, in which every joint rotation is the identity.

    Raises:
        ValueError: Names, parents and offsets differ in number, or a parent does not come before its child.
    """

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    """Index of each joint's parent, smaller than the joint's own; -1 for the root, which is the first."""
    rest_offsets_m: tuple[tuple[float, float, float], ...]
    """T-pose position of each joint relative to its parent; zero for the root."""
    foot_joints: tuple[int, ...]
    """Left ankle, left foot, right ankle, right foot: the joints whose contacts are tracked."""
    mirror_joints: tuple[int, ...]
    """For each joint, its counterpart on the other side; a joint of the middle is its own."""

    def __post_init__(self) -> None:
        sizes = {len(self.joint_names), len(self.parents), len(self.rest_offsets_m), len(self.mirror_joints)}
        if len(sizes) != 1:
            raise ValueError(f"skeleton {self.name}: names, parents, offsets and mirror differ in number: {sizes}")
        if self.parents[0] != -1 or any(not 0 <= p < j for j, p in enumerate(self.parents) if j > 0):
            raise ValueError(f"skeleton {self.name}: the root comes first and parents before children: {self.parents}")

    @property
    def num_joints(self) -> int:
        return len(self.parents)

    @property
    def offsets_m(self) -> NDArray[np.float32]:
        """`rest_offsets_m` as an array, [J, 3]."""
        return np.array(self.rest_offsets_m, dtype=np.float32)

    @property
    def rest_joints_m(self) -> NDArray[np.float32]:
        """Joint positions of the T-pose with the lowest joint on the floor, [J, 3]."""
        positions = np.zeros((self.num_joints, 3), dtype=np.float64)
        for joint, parent in enumerate(self.parents[1:], start=1):
            positions[joint] = positions[parent] + self.rest_offsets_m[joint]
        positions[:, 1] -= positions[:, 1].min()
        return positions.astype(np.float32)

    @property
    def rest_root_height_m(self) -> float:
        """Height of the root above the floor in the T-pose."""
        return float(self.rest_joints_m[0, 1])

    def joint(self, name: str) -> int:
        """Index of a joint.

        Raises:
            ValueError: No joint has this name.
        """
        if name not in self.joint_names:
            raise ValueError(f"skeleton {self.name} has no joint {name!r}; it has {', '.join(self.joint_names)}")
        return self.joint_names.index(name)


# Lengths are the means of the left and right bones of the public HumanML3D `new_joints` skeleton; limbs lie on the
# axes, the angles inside pelvis and chest are those that its joints keep in motion.
BODY_22 = Skeleton(
    name="body22",
    joint_names=(
        "pelvis", "l_hip", "r_hip", "spine1", "l_knee", "r_knee", "spine2", "l_ankle", "r_ankle", "spine3", "l_foot",
        "r_foot", "neck", "l_collar", "r_collar", "head", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow", "l_wrist",
        "r_wrist",
    ),
    parents=(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19),
    rest_offsets_m=(
        (0.0, 0.0, 0.0),
        (0.0640, -0.0850, -0.0060),
        (-0.0640, -0.0850, -0.0060),
        (0.0, 0.1235, -0.0455),
        (0.0, -0.3919, 0.0),
        (0.0, -0.3919, 0.0),
        (0.0, 0.1405, 0.0275),
        (0.0, -0.4290, 0.0),
        (0.0, -0.4290, 0.0),
        (0.0, 0.0573, 0.0030),
        (0.0, -0.0460, 0.1390),
        (0.0, -0.0460, 0.1390),
        (0.0, 0.2171, -0.0317),
        (0.0756, 0.1160, -0.0229),
        (-0.0756, 0.1160, -0.0229),
        (0.0, 0.0880, 0.0535),
        (0.1220, 0.0330, -0.0150),
        (-0.1220, 0.0330, -0.0150),
        (0.2600, 0.0, 0.0),
        (-0.2600, 0.0, 0.0),
        (0.2680, 0.0, 0.0),
        (-0.2680, 0.0, 0.0),
    ),
    foot_joints=(7, 10, 8, 11),
    mirror_joints=(0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20),
)  # fmt: skip
