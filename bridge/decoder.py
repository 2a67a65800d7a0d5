"""The motion decoder: codes and a state go in, frames and the next state come out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.providers import check_names, open_session
from python_core.contract.bundle import BundleError, Manifest
from python_core.contract.motion import CONTACT_THRESHOLD, Motion

_INPUTS = ("codes", "conv_state", "root_state", "past_joints_m")
_OUTPUTS = ("root_positions_m", "joint_rotations", "contacts", *(f"next_{state}" for state in _INPUTS[1:]))


@dataclass(frozen=True)
class RootPlace:
    """Where the next frame of a stream begins, and which way the root faces there."""

    x_m: float = 0.0
    z_m: float = 0.0
    yaw_rad: float = 0.0


@dataclass(frozen=True, eq=False)
class DecoderState:
    """Where a stream is: what the decoder remembers of the codes so far."""

    conv: NDArray[np.float32]
    """[conv_state_size]"""
    root: NDArray[np.float32]
    """x and z in metres and yaw in radians at which the next frame begins, [3]."""
    past_joints_m: NDArray[np.float32]
    """The joints of the last frames, [num_past_frames, J, 3]."""

    @property
    def place(self) -> RootPlace:
        return RootPlace(*self.root.tolist())

    def at(self, place: RootPlace) -> "DecoderState":
        """The same, but the next frame begins at a place. The joints of the last frames turn with the body."""
        turn = place.yaw_rad - self.place.yaw_rad
        x, y, z = np.moveaxis(self.past_joints_m.astype(np.float64), -1, 0)
        turned = (x * math.cos(turn) + z * math.sin(turn), y, z * math.cos(turn) - x * math.sin(turn))
        root = np.array([place.x_m, place.z_m, place.yaw_rad], np.float32)
        return DecoderState(self.conv, root, np.stack(turned, axis=-1).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Frames:
    """What the decoder wrote for one stream; not checked yet, see `Decoder.motion`."""

    root_positions_m: NDArray[np.float32]
    """[F, 3]"""
    joint_rotations: NDArray[np.float32]
    """[F, J, 4]"""
    contacts: NDArray[np.float32]
    """[F, 4]; on the ground above CONTACT_THRESHOLD."""


class Decoder:
    """An open motion decoder.

    Raises:
        ProviderError: The provider does not load.
        BundleError: The graph's inputs or outputs are not those that the manifest promises.
    """

    def __init__(self, folder: Path, manifest: Manifest, provider: str, num_threads: int = 1) -> None:
        self._manifest = manifest
        path = folder / manifest.motion_decoder.file
        self._session = open_session(path, provider, num_threads, manifest.motion_decoder)
        check_names(path, self._session, inputs=set(_INPUTS), outputs=set(_OUTPUTS))

    @property
    def provider(self) -> str:
        """As ONNX Runtime names it."""
        return self._session.get_providers()[0]

    def start(self) -> DecoderState:
        """The state before the first code: at the origin, facing +Z."""
        graph = self._manifest.motion_decoder
        past_joints = (graph.num_past_frames, self._manifest.skeleton.num_joints, 3)
        return DecoderState(*(np.zeros(shape, np.float32) for shape in ((graph.conv_state_size,), (3,), past_joints)))

    def run(self, codes: Sequence[Sequence[int]], states: Sequence[DecoderState]) -> list[tuple[Frames, DecoderState]]:
        """Turn codes of several streams, equally many of each, into frames and the states after them.

        A stream's frames do not depend on the others.
        """
        inputs = {
            "codes": np.array(codes, dtype=np.int64),
            "conv_state": np.stack([state.conv for state in states]),
            "root_state": np.stack([state.root for state in states]),
            "past_joints_m": np.stack([state.past_joints_m for state in states]),
        }
        outputs = [np.asarray(output) for output in self._session.run(_OUTPUTS, inputs)]
        return [
            (Frames(*(output[row] for output in outputs[:3])), DecoderState(*(output[row] for output in outputs[3:])))
            for row in range(len(codes))
        ]

    def motion(self, frames: Frames, num_codes: int) -> Motion:
        """Check frames and make a motion of them.

        Raises:
            BundleError: The decoder wrote something that is not a motion.
        """
        expected = num_codes * self._manifest.frames_per_code
        if len(frames.root_positions_m) != expected:
            raise BundleError(
                f"the motion decoder wrote {len(frames.root_positions_m)} frames for {num_codes} codes, expected "
                f"{expected}; export the bundle again"
            )
        try:
            return Motion(
                root_positions_m=frames.root_positions_m,
                joint_rotations=frames.joint_rotations,
                contacts=frames.contacts > CONTACT_THRESHOLD,
                frame_rate_hz=self._manifest.frame_rate_hz,
                skeleton=self._manifest.skeleton,
            )
        except ValueError as error:
            raise BundleError(f"the motion decoder wrote no motion ({error}); export the bundle again") from error

    def decode(self, codes: list[int], state: DecoderState) -> tuple[Motion, DecoderState]:
        """Turn codes of one stream into their frames, `frames_per_code` each, and the state after them.

        Raises:
            BundleError: The decoder wrote something that is not a motion.
        """
        frames, state = self.run([codes], [state])[0]
        return self.motion(frames, len(codes)), state

    def decode_whole(self, codes: list[int]) -> Motion:
        """Decode all codes in one run of the graph."""
        return self.decode(codes, self.start())[0]


def join(parts: list[Motion]) -> Motion:
    """One motion of consecutive parts."""
    return Motion(
        root_positions_m=np.concatenate([part.root_positions_m for part in parts]),
        joint_rotations=np.concatenate([part.joint_rotations for part in parts]),
        contacts=np.concatenate([part.contacts for part in parts]),
        frame_rate_hz=parts[0].frame_rate_hz,
        skeleton=parts[0].skeleton,
    )
