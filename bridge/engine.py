"""The language model: token ids in, logits out. It knows neither text nor requests.

One session serves all rows. Each step reads a slice of what one joining row was given, then one token of every row that
is further than that, whatever their lengths. A row's logits do not depend on its neighbours: every run is either of one
row or of single tokens, and slices depend on the row alone.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bridge.kv_cache import KvCache
from bridge.providers import device, open_session
from python_core.contract.bundle import BundleError, LanguageModelGraph

SLICE_TOKENS = 16
"""Most tokens that are read of a prompt between two tokens of the running rows."""
KEPT_BEGINNINGS = 32
"""Beginnings of prompts whose caches are kept: the template, prompts, prompts with plans."""
KEPT_TOKENS = 1024
"""Tokens of all of them together, at most."""


@dataclass(eq=False)
class Row:
    """One reply in the making."""

    most_tokens: int
    """Tokens that it may come to hold."""
    place: int | None = None
    """In the batch; None when it has left."""
    pauses: bool = False
    """Whether it keeps its place and asks for no token."""
    num_tokens: int = 0
    """Tokens that it holds."""
    num_pending: int = 0
    """Tokens that it has still to read."""
    segments: deque[Sequence[int]] = field(default_factory=deque)
    """The same, in parts whose ends other rows may share."""
    beginning: list[int] = field(default_factory=list)
    """Tokens that it was given first, as far as it has read them."""

    def feed(self, token_ids: Sequence[int]) -> None:
        """Give it tokens to read."""
        if token_ids:
            self.segments.append(token_ids)
            self.num_pending += len(token_ids)

    def advance(self, size: int) -> Sequence[int]:
        """Tokens that are read now, all of one segment."""
        segment = self.segments.popleft()
        if size < len(segment):
            self.segments.appendleft(segment[size:])
        self.num_tokens += size
        self.num_pending -= size
        return segment[:size]


@dataclass(frozen=True, eq=False)
class Step:
    """What a step brought."""

    rows: list[Row]
    """Rows that need their next token."""
    logits: list[NDArray[np.float32]]
    """Of each one's next token, [V]; overwritten by the next step."""
    failed: list[tuple[Row, Exception]]
    """Rows that could not go on, and have left."""


class Engine:
    """An open language model and its rows. One thread at a time may use it.

    Args:
        folder: Where the graph lies.
        graph: What the manifest says of it.
        provider: Where it runs.
        num_threads: Threads of one step; 0 is one a core.
        max_rows: Rows at once.

    Raises:
        ProviderError: The provider does not load.
        BundleError: The graph's inputs or outputs are not those that the manifest promises.
    """

    def __init__(
        self, folder: Path, graph: LanguageModelGraph, provider: str, num_threads: int = 1, max_rows: int = 64
    ) -> None:
        self.graph, self.max_rows = graph, max_rows
        self._path = folder / graph.file
        self._session = open_session(self._path, provider, num_threads, graph)
        names = [f"past_key_values.{layer}.{kind}" for layer in range(graph.num_layers) for kind in ("key", "value")]
        check_names(
            self._path,
            self._session,
            inputs={"input_ids", "attention_mask", *names},
            outputs={"logits", *(name.replace("past_key_values", "present") for name in names)},
        )
        dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        types = {value.name: value.type for value in self._session.get_inputs()}
        if (kind := types[names[0]]) not in dtypes:
            raise BundleError(f"{self._path}: {names[0]} is {kind}, expected float or float16; export the bundle again")
        self._cache = KvCache(
            names, graph.num_kv_heads, graph.head_dim, dtypes[kind], device(provider), max_rows, graph.max_tokens
        )
        output = next(value for value in self._session.get_outputs() if value.name == "logits")
        if output.type not in dtypes or not isinstance(output.shape[-1], int):
            raise BundleError(
                f"{self._path}: logits are {output.type} {output.shape}, expected floats for a vocabulary of known "
                "size; export the bundle again"
            )
        self._logits = np.empty((max_rows, 1, output.shape[-1]), dtypes[output.type])
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}
        self._beginnings: OrderedDict[tuple[int, ...], NDArray[np.floating]] = OrderedDict()
        self._rows: list[Row | None] = []
        self._in_turn: list[Row] = []

    @property
    def provider(self) -> str:
        """As ONNX Runtime names it."""
        return self._session.get_providers()[0]

    @property
    def vocabulary_size(self) -> int:
        """Tokens that have logits."""
        return self._logits.shape[-1]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Rows that are in the batch, in the order in which they joined."""
        return tuple(self._in_turn)

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return len(self._in_turn)

    @property
    def has_room(self) -> bool:
        """Whether one more row can join."""
        return self.num_rows < self.max_rows

    def join(self, segments: Sequence[Sequence[int]], most_tokens: int | None = None) -> Row:
        """Take a row into the batch.

        Args:
            segments: What the model is given, in order, at least one token in all. Rows that begin with the same whole
                segments share the work of reading them.
            most_tokens: Tokens that it may come to hold, when they are fewer than the model's `max_tokens`.
        """
        row = Row(min(most_tokens or self.graph.max_tokens, self.graph.max_tokens))
        for segment in segments:
            row.feed(segment)
        assert row.num_pending, "a row has something to read"
        assert self.has_room, "the batch is full"
        row.place = self._rows.index(None) if None in self._rows else len(self._rows)
        self._rows[row.place : row.place + 1] = [row]
        self._in_turn.append(row)
        lengths = [0 if one is None else one.num_tokens for one in self._rows]
        if self._cache.reserve(len(self._rows), row.most_tokens, lengths):
            self._bindings.clear()
        self._recall(row, row.place)
        return row

    def is_full(self, row: Row, num_more: int) -> bool:
        """Whether so many tokens more would leave no room for another."""
        return row.num_tokens + row.num_pending + num_more >= row.most_tokens

    def leave(self, row: Row) -> None:
        """Free a row's place at once; nothing happens if it has left."""
        if row.place is None:
            return
        place, row.place = row.place, None
        self._in_turn.remove(row)
        self._rows[place] = None
        self._drop_free_ends()
        if self._cache.moves_rows and place < len(self._rows):
            last = self._rows.pop()
            assert last is not None
            self._cache.move(len(self._rows), place, last.num_tokens)
            self._rows[place], last.place = last, place
            self._drop_free_ends()

    def step(self) -> Step:
        """Read a slice of one row that joins, then one token of each row that is ready."""
        failed: list[tuple[Row, Exception]] = []
        row = next((row for row in self._in_turn if row.num_pending > 1), None)
        if row is not None:
            try:
                self._read_slice(row)
            except Exception as error:  # ONNX Runtime's own exceptions share no narrower class.
                failed.append((row, self._step_error(error)))
                self.leave(row)
        rows, logits = self._decode(failed)
        return Step(rows, logits, failed)

    def generate(
        self, prompt_ids: Sequence[int], choose: Callable[[NDArray[np.float32]], int]
    ) -> Generator[int, None, None]:
        """Continue one prompt, one token a step, until the model's `max_tokens` are full or the caller stops asking.

        Args:
            prompt_ids: What the model has read, with any prefix of the reply that is forced.
            choose: Picks the next token from its logits, [V].

        Raises:
            BundleError: A step failed.
        """
        row = self.join([prompt_ids])
        try:
            while True:
                step = self.step()
                for one, error in step.failed:
                    if one is row:
                        raise error
                if row in step.rows:
                    token_id = choose(step.logits[step.rows.index(row)])
                    yield token_id
                    if self.is_full(row, 1):
                        return
                    row.feed([token_id])
        finally:
            self.leave(row)

    def _drop_free_ends(self) -> None:
        while self._rows and self._rows[-1] is None:
            self._rows.pop()

    def _read_slice(self, row: Row) -> None:
        """Read on in what a row was given, all but its last token, which is read in the batch for its logits."""
        assert row.place is not None
        segment = row.segments[0]
        size = min(SLICE_TOKENS, len(segment), row.num_pending - 1)
        self._run(row.place, np.array([segment[:size]], np.int64), np.array([row.num_tokens + size]))
        row.beginning.extend(row.advance(size))
        if size == len(segment):
            self._keep(row, row.place)

    def _decode(self, failed: list[tuple[Row, Exception]]) -> tuple[list[Row], list[NDArray[np.float32]]]:
        ready = [row for row in self._rows if row is not None and row.num_pending == 1 and not row.pauses]
        if not ready:
            return [], []
        places = [row.place for row in ready if row.place is not None]
        # Rows that are not ready and free places take part: what they write lies where their next token will lie.
        num_rows = places[-1] + 1
        token_ids = np.zeros((num_rows, 1), np.int64)
        token_ids[places, 0] = [row.segments[0][0] for row in ready]
        lengths = np.array([1 if row is None else row.num_tokens + 1 for row in self._rows[:num_rows]])
        try:
            batch = self._run(0, token_ids, lengths)
            logits = [batch[place] for place in places]
        except Exception:  # As above. The step runs again, row by row, so that only those fail that are the cause.
            done, logits = [], []
            for row, place in zip(ready, places, strict=True):
                alone = slice(place, place + 1)
                try:
                    logits.append(self._run(place, token_ids[alone], lengths[alone])[0].copy())
                    done.append(row)
                except Exception as error:
                    failed.append((row, self._step_error(error)))
                    self.leave(row)
            ready = done
        for row in ready:
            row.advance(1)
        return ready, logits

    def _run(self, first: int, token_ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Run the graph over rows that follow each other, [rows, L] -> [rows, V]."""
        num_rows = len(token_ids)
        logits = self._logits[:num_rows]
        binding = self._bindings.get((first, num_rows))
        if binding is None:
            binding = self._bindings[first, num_rows] = self._session.io_binding()
            self._cache.bind(binding, first, num_rows)
            binding.bind_output("logits", "cpu", 0, logits.dtype, logits.shape, logits.ctypes.data)
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        binding.bind_cpu_input("input_ids", token_ids)
        binding.bind_cpu_input("attention_mask", mask)
        self._session.run_with_iobinding(binding)
        return logits[:, 0].astype(np.float32, copy=False)

    def _keep(self, row: Row, place: int) -> None:
        """Keep the cache of a beginning that another row may share."""
        key = tuple(row.beginning)
        if not self._cache.moves_rows or row.num_tokens != len(key) or key in self._beginnings:
            return
        self._beginnings[key] = self._cache.read(place, row.num_tokens)
        while len(self._beginnings) > KEPT_BEGINNINGS or sum(map(len, self._beginnings)) > KEPT_TOKENS:
            self._beginnings.popitem(last=False)

    def _recall(self, row: Row, place: int) -> None:
        """Take the longest beginning whose cache was kept."""
        beginnings = list(accumulate((tuple(segment) for segment in row.segments), initial=()))[1:-1]
        for number, beginning in reversed(list(enumerate(beginnings, start=1))):
            if (kept := self._beginnings.get(beginning)) is not None:
                self._beginnings.move_to_end(beginning)
                self._cache.write(place, kept)
                for _ in range(number):
                    row.beginning.extend(row.advance(len(row.segments[0])))
                return

    def _step_error(self, error: Exception) -> BundleError:
        return BundleError(f"{self._path}: a step failed ({error}); export the bundle again")


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
