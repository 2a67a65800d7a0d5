"""The motion decoder: codes and a state go in, frames and the next state come out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.providers import check_names, open_session
from python_core.contract.bundle import BundleError, Manifest
from python_core.contract.motion import CONTACT_THRESHOLD, Motion, multiply, rotate

_FRAMES = ("root_positions_m", "joint_rotations", "contacts")
_PLACED = ("root_state", "last_bones", "last_limbs")
"""The first states, which say where a stream is."""


@dataclass(frozen=True)
class RootPlace:
    """Where the next frame of a stream begins, and which way the root faces there."""

    x_m: float = 0.0
    z_m: float = 0.0
    yaw_rad: float = 0.0


@dataclass(frozen=True, eq=False)
class DecoderState:
    """Where a stream is: what the decoder remembers of the codes so far."""

    states: tuple[NDArray[np.float32], ...]
    """Of all streams of the run that wrote them, in the manifest's order, [B, ...] each."""
    row: int
    """This stream's."""

    @property
    def place(self) -> RootPlace:
        return RootPlace(*self.states[0][self.row].tolist())

    def at(self, place: RootPlace) -> "DecoderState":
        """The same, but the next frame begins at a place. The last frame turns with the body."""
        _, bones, limbs, *others = (of_all[self.row : self.row + 1] for of_all in self.states)
        half = (place.yaw_rad - self.place.yaw_rad) / 2
        turn = np.array([0.0, math.sin(half), 0.0, math.cos(half)])
        root = np.array([[place.x_m, place.z_m, place.yaw_rad]])
        bones, limbs = rotate(turn, bones.astype(np.float64)), multiply(turn, limbs.astype(np.float64))
        return DecoderState((*(moved.astype(np.float32) for moved in (root, bones, limbs)), *others), 0)


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
        graph, path = manifest.motion_decoder, folder / manifest.motion_decoder.file
        self._session = open_session(path, provider, num_threads, graph)
        self._inputs = ("codes", *(state.name for state in graph.states))
        self._outputs = (*_FRAMES, *(f"next_{state.name}" for state in graph.states))
        check_names(path, self._session, inputs={*self._inputs, *_PLACED}, outputs=set(self._outputs))

    @property
    def provider(self) -> str:
        """As ONNX Runtime names it."""
        return self._session.get_providers()[0]

    def start(self) -> DecoderState:
        """The state before the first code: at the origin, facing +Z."""
        states = self._manifest.motion_decoder.states
        return DecoderState(tuple(np.zeros((1, *state.shape), np.float32) for state in states), 0)

    def run(self, codes: Sequence[Sequence[int]], states: Sequence[DecoderState]) -> list[tuple[Frames, DecoderState]]:
        """Turn codes of several streams, equally many of each, into frames and the states after them.

        A stream's frames do not depend on the others.
        """
        arrays = (np.array(codes, dtype=np.int64), *_together(states))
        outputs = self._session.run(self._outputs, dict(zip(self._inputs, arrays, strict=True)))
        written = [np.asarray(output) for output in outputs]
        frames, after = written[: len(_FRAMES)], tuple(written[len(_FRAMES) :])
        return [(Frames(*(part[row] for part in frames)), DecoderState(after, row)) for row in range(len(codes))]

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


def _together(states: Sequence[DecoderState]) -> Sequence[NDArray[np.float32]]:
    """The states of several streams, [B, ...] each.

    As long as the same streams run together, they are what the last run wrote, and nothing is copied.
    """
    written, rows = states[0].states, [state.row for state in states]
    if rows == list(range(len(written[0]))) and all(state.states is written for state in states):
        return written
    return [np.concatenate([s.states[k][s.row : s.row + 1] for s in states]) for k in range(len(written))]


def join(parts: list[Motion]) -> Motion:
    """One motion of consecutive parts."""
    return Motion(
        root_positions_m=np.concatenate([part.root_positions_m for part in parts]),
        joint_rotations=np.concatenate([part.joint_rotations for part in parts]),
        contacts=np.concatenate([part.contacts for part in parts]),
        frame_rate_hz=parts[0].frame_rate_hz,
        skeleton=parts[0].skeleton,
    )
