"""The language model: token ids in, token ids out. It knows neither text nor requests.

One session serves all streams; each stream has a key-value cache of its own, which stays where the provider wrote it:
the present of one step is the past of the next.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bridge.providers import device, open_session
from python_core.contract.bundle import BundleError, LanguageModelGraph


class Cancelled(Exception):
    """The stream was cancelled; nobody wants its next token."""


class Engine:
    """An open language model.

    Raises:
        ProviderError: The provider does not load.
        BundleError: The graph's inputs or outputs are not those that the manifest promises.
    """

    def __init__(self, folder: Path, graph: LanguageModelGraph, provider: str, num_threads: int = 1) -> None:
        self.graph = graph
        self._session = open_session(folder / graph.file, provider, num_threads)
        self._device = device(provider)
        caches = [f"{layer}.{kind}" for layer in range(graph.num_layers) for kind in ("key", "value")]
        self._pasts = [f"past_key_values.{name}" for name in caches]
        self._presents = [f"present.{name}" for name in caches]
        check_names(
            folder / graph.file,
            self._session,
            inputs={"input_ids", "attention_mask", *self._pasts},
            outputs={"logits", *self._presents},
        )

    @property
    def provider(self) -> str:
        """As ONNX Runtime names it."""
        return self._session.get_providers()[0]

    def generate(
        self,
        prompt_ids: Sequence[int],
        choose: Callable[[NDArray[np.float32]], int],
        cancelled: threading.Event,
    ) -> Iterator[int]:
        """Continue a prompt, one token a step, until the model's `max_tokens` are full or the caller stops asking.

        A step runs when its token is asked for. Any thread may ask; streams do not change each other's tokens.

        Args:
            prompt_ids: What the model has read, with any prefix of the reply that is forced.
            choose: Picks the next token from its logits, [V].
            cancelled: Once set, no further step runs.

        Raises:
            Cancelled: `cancelled` was set.
        """
        caches = self._empty_caches()
        next_ids, num_tokens = list(prompt_ids), 0
        while num_tokens + len(next_ids) < self.graph.max_tokens:
            if cancelled.is_set():
                raise Cancelled
            num_tokens += len(next_ids)
            logits, caches = self._step(next_ids, num_tokens, caches)
            token_id = choose(logits)
            next_ids = [token_id]
            yield token_id

    def _step(
        self, next_ids: list[int], num_tokens: int, caches: list[ort.OrtValue]
    ) -> tuple[NDArray[np.float32], list[ort.OrtValue]]:
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.array([next_ids], dtype=np.int64))
        binding.bind_cpu_input("attention_mask", np.ones((1, num_tokens), dtype=np.int64))
        for name, cache in zip(self._pasts, caches, strict=True):
            binding.bind_ortvalue_input(name, cache)
        binding.bind_output("logits", "cpu")
        for name in self._presents:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        logits, *presents = binding.get_outputs()
        return logits.numpy()[0, -1], presents

    def _empty_caches(self) -> list[ort.OrtValue]:
        shape = (1, self.graph.num_kv_heads, 0, self.graph.head_dim)
        dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        types = {value.name: value.type for value in self._session.get_inputs()}
        return [ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtypes[types[name]])) for name in self._pasts]


def check_names(path: Path, session: ort.InferenceSession, inputs: set[str], outputs: set[str]) -> None:
    """Compare a graph's inputs and outputs with those that are needed.

    Raises:
        BundleError: They differ.
    """
    for kind, expected, values in (
        ("inputs", inputs, session.get_inputs()),
        ("outputs", outputs, session.get_outputs()),
    ):
        actual = {value.name for value in values}
        if actual != expected:
            raise BundleError(
                f"{path}: {kind} differ from the manifest: lacks {sorted(expected - actual)}, "
                f"has besides {sorted(actual - expected)}; export the bundle again"
            )
