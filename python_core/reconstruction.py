"""What a tokenizer's output is compared by: features, and the joints that they place in the world.

Lengths are in metres here, so a loss is the mean error that a person would measure. All are means over frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from python_core.contract.motion import CONTACT_THRESHOLD
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, RootState, feature_slices, features_to_joints, origin
from python_core.processes import averaged
from python_core.rotations import normalize

FEATURE_WEIGHTS = {
    "root_yaw_velocity": 10.0,
    "root_velocity": 10.0,
    "root_height": 10.0,
    "joint_positions": 1.0,
    "joint_rotations": 0.01,
    "joint_velocities": 0.02,
    "foot_contacts": 2.0,
}
"""What leaves the decoder is made of root, positions and contacts. Rotations and velocities follow from them; with the
same weight they would take most of a code for themselves.
"""


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, unweighted."""

    features: Tensor
    """Smooth L1 of normalized features, weighted by FEATURE_WEIGHTS."""
    position: Tensor
    """Distance of joints, seen from the root, metres."""
    root: Tensor
    """Distance of the root in the world, drift since the window's begin included, metres."""
    velocity: Tensor
    """Difference of the steps of joints in the world, metres a frame."""
    foot: Tensor
    """The same for feet, where the source stands on them."""
    commitment: Tensor
    """Squared distance of the encoder's outputs from their entries, a sum over levels."""


class Reconstruction:
    """Compares windows of source and decoded features."""

    def __init__(self, normalizer: Normalizer, device: torch.device) -> None:
        self.mean, self.std = (torch.from_numpy(value).to(device) for value in (normalizer.mean, normalizer.std))
        self.contacts = feature_slices(BODY_22)["foot_contacts"]
        weights = torch.zeros(self.contacts.stop, device=device)
        for name, part in feature_slices(BODY_22).items():
            weights[part] = FEATURE_WEIGHTS[name]
        self.weights = weights / weights.mean()
        self.lengths = torch.from_numpy(BODY_22.offsets_m).to(device).norm(dim=-1)[1:, None]
        self.chains = _chains().to(device)

    def joints(self, normalized: Tensor, state: RootState | None = None) -> tuple[Tensor, RootState]:
        """Joints of normalized features that begin at the origin or at a state, [B, F, D] -> [B, F, J, 3], and the
        state after them.

        Each bone points as the features say and is as long as ours, as after the pose solver; but for the bones inside
        pelvis and chest, which the solver keeps rigid. It is one matrix product, and much cheaper.
        """
        features = normalized * self.std + self.mean
        joints, state = features_to_joints(features, state or origin(len(features), features))
        bones = normalize(joints[:, :, 1:] - joints[:, :, BODY_22.parents[1:]]) * self.lengths
        return joints[:, :, :1] + self.chains @ bones, state

    def standing(self, normalized: Tensor) -> Tensor:
        """Whether each foot joint is on the ground, [B, F, D] -> [B, F, 4]."""
        return (normalized * self.std + self.mean)[..., self.contacts] > CONTACT_THRESHOLD

    def losses(self, target: Tensor, decoded: Tensor, mask: Tensor, commitment: Tensor) -> Losses:
        """Compare windows [B, F, D]; `mask` [B, F] is 1 where there is a frame.

        Each loss is a mean over the frames of all processes once it is averaged over these.
        """
        difference = functional.smooth_l1_loss(decoded, target, reduction="none")
        with torch.no_grad():
            wanted, _ = self.joints(target)
            standing = self.standing(target)
        got, _ = self.joints(decoded)
        error = got - wanted
        root = error[:, :, 0]
        both = mask[:, 1:] * mask[:, :-1]
        steps = error[:, 1:] - error[:, :-1]
        foot_steps = _length(steps[:, :, BODY_22.foot_joints]) * standing[:, :-1]
        return Losses(
            features=_masked((difference * self.weights).mean(-1), mask),
            position=_masked(_length(error - root[:, :, None]).mean(-1), mask),
            root=_masked(_length(root), mask),
            velocity=_masked(_length(steps).mean(-1), both),
            foot=_masked(foot_steps.mean(-1), both),
            commitment=commitment,
        )


def _chains() -> Tensor:
    """Which bones lead to each joint, [J, J - 1]."""
    chains = torch.zeros(BODY_22.num_joints, BODY_22.num_joints - 1)
    for joint in range(1, BODY_22.num_joints):
        chains[joint] = chains[BODY_22.parents[joint]]
        chains[joint, joint - 1] = 1
    return chains


def _length(vectors: Tensor) -> Tensor:
    # The square root of 0 has no gradient.
    return (vectors.square().sum(-1) + 1e-8).sqrt()


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / averaged(mask.sum()).clamp(min=1)
