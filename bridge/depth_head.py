"""Speaks the levels of codes after their first: a run for each level, for all rows that have a code to speak."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.providers import check_names, open_session
from bridge.sampler import Sampler, draw_entries, not_finite
from python_core.contract.bundle import BundleError, DepthHeadGraph, Manifest
from python_core.contract.vocabulary import CodebookSize


class DepthHead:
    """An open depth head. What it says of a row does not depend on the others.

    Args:
        folder: Where the graph lies.
        graph: What the manifest says of it.
        codebook: Whose codes it speaks.
        state_width: Of the language model.
        provider: Where it runs. The graph is not for TensorRT, and runs on CUDA beside it.
        num_threads: Threads of one run; 0 is one a core.

    Raises:
        ProviderError: The provider does not load.
        BundleError: The graph is not the depth head of this language model.
    """

    def __init__(
        self,
        folder: Path,
        graph: DepthHeadGraph,
        codebook: CodebookSize,
        state_width: int,
        provider: str,
        num_threads: int = 1,
    ) -> None:
        self.codebook = codebook
        self._temperature = graph.temperature
        self._path = folder / graph.file
        self._session = open_session(self._path, "cuda" if provider == "tensorrt" else provider, num_threads)
        check_names(self._path, self._session, inputs={"states", "entries"}, outputs={"logits"})
        shapes = {value.name: value.shape for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        for name, size in (("states", state_width), ("logits", codebook.level_size)):
            if shapes[name][-1] != size:
                raise BundleError(
                    f"{self._path}: {name} are {shapes[name]}, expected {size} numbers a row; export the bundle again"
                )

    def logits(self, states: NDArray[np.float32], entries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of the next level's entries, [N, level size].

        Args:
            states: From which the first level was spoken, [N, width].
            entries: Of the first levels, one or more, [N, J].

        Raises:
            BundleError: The run failed.
        """
        try:
            (logits,) = self._session.run(["logits"], {"states": states, "entries": entries})
        except Exception as error:  # ONNX Runtime's own exceptions share no narrower class.
            raise BundleError(f"{self._path}: a run failed ({error}); export the bundle again") from error
        return np.asarray(logits)

    def speak(
        self, states: Sequence[NDArray[np.float32]], first_entries: Sequence[int], samplers: Sequence[Sampler]
    ) -> list[list[int] | BundleError]:
        """Draw the entries after the first of each row's code; an error for a row with a logit that is not finite.

        Args:
            states: From which each row's first level was spoken, [width] each.
            first_entries: What was spoken.
            samplers: Of each row.

        Raises:
            BundleError: A run failed.
        """
        num_rows, num_levels = len(states), self.codebook.num_levels
        stacked = np.stack(states)
        entries = np.zeros((num_rows, num_levels), np.int64)
        entries[:, 0] = first_entries
        temperatures = np.array([self._temperature * sampler.temperature for sampler in samplers], np.float32)
        chances = np.array([[sampler.random() for _ in range(1, num_levels)] for sampler in samplers])
        whole = np.ones(num_rows, np.bool_)
        for level in range(1, num_levels):
            logits = self.logits(stacked, np.ascontiguousarray(entries[:, :level]))
            drawn = draw_entries(logits, temperatures, chances[:, level - 1])
            whole &= drawn >= 0
            entries[:, level] = np.maximum(drawn, 0)
        return [
            spoken if is_whole else not_finite()
            for spoken, is_whole in zip(entries[:, 1:].tolist(), whole.tolist(), strict=True)
        ]


def open_depth_head(
    folder: Path, manifest: Manifest, state_width: int, provider: str, num_threads: int = 1
) -> DepthHead | None:
    """The depth head of a bundle; None where codes have one level. Arguments and errors are those of `DepthHead`."""
    if manifest.depth_head is None:
        return None
    return DepthHead(folder, manifest.depth_head, manifest.tokens.codebook, state_width, provider, num_threads)
