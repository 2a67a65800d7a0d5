"""The motion tokenizer as a whole: clips' features -> codes -> motions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_core.checkpoint import load_vqvae
from python_core.code_search import CodeSearch
from python_core.contract.motion import Motion
from python_core.features import Normalizer, features_to_motion
from python_core.motion_decoder import MotionDecoder
from python_core.vqvae import FRAMES_PER_CODE, Vqvae

CLIPS_AT_ONCE_GPU = 128


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """A clip, its codes, and what they decode to."""

    codes: list[int]
    source: Motion
    """As far as it fills whole codes."""
    decoded: Motion

    @property
    def joint_error_m(self) -> float:
        """Mean distance of joints, with the roots in one place."""
        got, wanted = self.decoded.joint_positions_m(), self.source.joint_positions_m()
        return float(np.linalg.norm((got - got[:, :1]) - (wanted - wanted[:, :1]), axis=-1).mean())

    @property
    def global_error_m(self) -> float:
        """Mean distance of joints in the world, the root's drift included."""
        error = self.decoded.joint_positions_m() - self.source.joint_positions_m()
        return float(np.linalg.norm(error, axis=-1).mean())


class MotionTokenizer:
    """Model and statistics, ready to encode and decode."""

    def __init__(
        self, model: Vqvae, normalizer: Normalizer, frame_rate_hz: float, search: CodeSearch | None = None
    ) -> None:
        """
        Args:
            model: The model.
            normalizer: Statistics of its features.
            frame_rate_hz: What it works at.
            search: How codes are found; None takes one of the usual width.
        """
        self.model, self.normalizer, self.frame_rate_hz = model, normalizer, frame_rate_hz
        self._search = search or CodeSearch(model, normalizer)
        self._decoder = MotionDecoder(model, normalizer)

    @classmethod
    def load(cls, checkpoint: Path) -> "MotionTokenizer":
        """Open a checkpoint of `train-vqvae`.

        Raises:
            ValueError: The folder holds no motion tokenizer of this format.
        """
        return cls(*load_vqvae(checkpoint))

    def encode(self, clips: Sequence[NDArray[np.float32]], at_once: int | None = None) -> list[list[int]]:
        """Codes of clips' features, each [F, D]; frames at the end that fill no code are left out.

        Args:
            clips: The features.
            at_once: Clips to encode side by side; None takes what suits the device.
        """
        at_once = at_once or (CLIPS_AT_ONCE_GPU if self._search.device.type == "cuda" else 1)
        codes: list[list[int]] = [[] for _ in clips]
        # Clips of like length together, and the rest is padding. One without a code has nothing to search.
        order = sorted(
            (place for place, rows in enumerate(clips) if len(rows) >= FRAMES_PER_CODE),
            key=lambda place: len(clips[place]),
        )
        for first in range(0, len(order), at_once):
            places = order[first : first + at_once]
            for place, found in zip(places, self._search.encode([clips[place] for place in places]), strict=True):
                codes[place] = found
        return codes

    def decode(self, codes: list[int]) -> Motion:
        """The motion of codes, which begins at x = z = 0 and faces +Z."""
        return self.decode_all([codes])[0]

    def decode_all(self, series: Sequence[Sequence[int]]) -> list[Motion]:
        """The motions of series of codes, decoded side by side."""
        return self._decoder.motions(series, self.frame_rate_hz)

    def read_back(self, rows: NDArray[np.float32]) -> Reading:
        """Encode a clip's features, [F, D], and decode the codes.

        Raises:
            ValueError: The clip is too short to fill a code.
        """
        (codes,) = self.encode([rows])
        if not codes:
            raise ValueError(f"a code takes {FRAMES_PER_CODE} rows of features, got {len(rows)}")
        source = features_to_motion(rows[: len(codes) * FRAMES_PER_CODE], self.frame_rate_hz)
        return Reading(codes=codes, source=source, decoded=self.decode(codes))
