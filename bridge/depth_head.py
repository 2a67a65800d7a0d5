"""Speaks the levels of codes after their first: one run draws them for all rows that have a code to speak."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.providers import check_names, open_session
from bridge.sampler import Sampler, not_finite
from python_core.contract.bundle import BundleError, DepthHeadGraph, Manifest
from python_core.contract.vocabulary import CodebookSize

COLDEST = np.float32(1e-20)
"""Stands for lower temperatures: of two logits the less likely is left nothing of, and neither is beyond float32."""


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
        inputs, outputs = {"states", "given", "chances", "temperatures"}, {"entries", "logits"}
        check_names(self._path, self._session, inputs, outputs)
        shapes = {value.name: value.shape for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        sizes = (("states", state_width), ("given", codebook.num_levels), ("logits", codebook.level_size))
        for name, size in sizes:
            if shapes[name][-1] != size:
                raise BundleError(
                    f"{self._path}: {name} are {shapes[name]}, expected {size} numbers a row; export the bundle again"
                )

    def logits(self, states: NDArray[np.float32], entries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of the entries of each level after the first, from those before it, [N, levels - 1, level size].

        Args:
            states: From which the first level was spoken, [N, width].
            entries: Of all levels, [N, levels].

        Raises:
            BundleError: The run failed.
        """
        num_rows, num_drawn = len(entries), self.codebook.num_levels - 1
        return self._run("logits", states, entries, np.zeros((num_rows, num_drawn)), np.ones((num_rows, 1), np.float32))

    def speak(
        self, states: Sequence[NDArray[np.float32]], first_entries: Sequence[int], samplers: Sequence[Sampler]
    ) -> list[list[int] | BundleError]:
        """Draw the entries after the first of each row's code; an error for a row with a logit that is not finite.

        Args:
            states: From which each row's first level was spoken, [width] each.
            first_entries: What was spoken.
            samplers: Of each row.

        Raises:
            BundleError: The run failed.
        """
        num_rows, num_levels = len(states), self.codebook.num_levels
        given = np.full((num_rows, num_levels), -1, np.int64)
        given[:, 0] = first_entries
        chances = np.array([[sampler.random() for _ in range(1, num_levels)] for sampler in samplers])
        temperatures = np.array([[self._temperature * sampler.temperature] for sampler in samplers], np.float32)
        # At 0 the likeliest is taken, and the first of those that are.
        chances[temperatures[:, 0] == 0] = 0
        entries = self._run("entries", np.stack(states), given, chances, np.maximum(temperatures, COLDEST))
        return [spoken if spoken[0] >= 0 else not_finite() for spoken in entries.tolist()]

    def _run(
        self,
        output: str,
        states: NDArray[np.float32],
        given: NDArray[np.int64],
        chances: NDArray[np.float64],
        temperatures: NDArray[np.float32],
    ) -> NDArray:
        inputs = {"states": states, "given": given, "chances": chances, "temperatures": temperatures}
        try:
            (found,) = self._session.run([output], inputs)
        except Exception as error:  # ONNX Runtime's own exceptions share no narrower class.
            raise BundleError(f"{self._path}: a run failed ({error}); export the bundle again") from error
        return np.asarray(found)


def open_depth_head(
    folder: Path, manifest: Manifest, state_width: int, provider: str, num_threads: int = 1
) -> DepthHead | None:
    """The depth head of a bundle; None where codes have one level. Arguments and errors are those of `DepthHead`."""
    if manifest.depth_head is None:
        return None
    return DepthHead(folder, manifest.depth_head, manifest.tokens.codebook, state_width, provider, num_threads)
