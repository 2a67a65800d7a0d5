"""The language model: positions in, logits out. It knows neither text nor requests.

One session serves all rows. Each step reads a slice of what one joining row was given, then one position of every row
that is further than that, whatever their lengths, those that lie near each other in one run. A row's logits do not
depend on its neighbours: every run is either of one row or of single positions, and slices depend on the row alone.
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bridge.kv_cache import KvCache
from bridge.providers import check_names, device, open_session
from python_core.contract.bundle import BundleError, LanguageModelGraph
from python_core.contract.vocabulary import Position

SLICE_POSITIONS = 16
"""Most positions that are read of a prompt between two of the running rows."""
MOST_BETWEEN = 4
"""Rows between two that are ready that cost about as much as a run of its own for the second: between 2 and 9 of the
models of docs/benchmarks.md.
"""
MOST_BINDINGS = 512
"""Runs whose buffers stay bound, by their first row and their number; more would take 100 MB and more in the end."""
KEPT_BEGINNINGS = 32
"""Beginnings of prompts whose caches are kept: the template, prompts, prompts with plans."""
KEPT_POSITIONS = 1024
"""Positions of all of them together, at most."""
PARTS = {"word_rows": "word_logits", "motion_rows": "motion_logits"}
"""Of a head in parts: the input that says for which rows a part speaks -> what it writes, in the order of token ids."""


@dataclass(eq=False)
class Row:
    """One reply in the making."""

    most_positions: int
    """That it may come to hold."""
    place: int | None = None
    """In the batch; None when it has left."""
    pauses: bool = False
    """Whether it keeps its place and asks for no token."""
    num_positions: int = 0
    """That it holds."""
    num_pending: int = 0
    """Positions that it has still to read."""
    segments: deque[Sequence[Position]] = field(default_factory=deque)
    """The same, in parts whose ends other rows may share."""
    beginning: list[Position] = field(default_factory=list)
    """Positions that it was given first, as far as it has read them."""
    allowed: Sequence[range] = (range(2**63 - 1),)
    """Ids of the tokens that may come next."""

    def feed(self, positions: Sequence[Position]) -> None:
        """Give it positions to read."""
        if positions:
            self.segments.append(positions)
            self.num_pending += len(positions)

    def advance(self, size: int) -> Sequence[Position]:
        """Positions that are read now, all of one segment."""
        segment = self.segments.popleft()
        if size < len(segment):
            self.segments.appendleft(segment[size:])
        self.num_positions += size
        self.num_pending -= size
        return segment[:size]

    def allows(self, tokens: range) -> bool:
        """Whether one of these tokens may come next."""
        return any(ids.start < tokens.stop and tokens.start < ids.stop for ids in self.allowed)


@dataclass(frozen=True, eq=False)
class HeadPart:
    """A part of the head, which speaks some of the tokens, for some of the rows."""

    rows: str
    """The graph's input of these rows."""
    output: str
    """What it writes of them, one after another, [rows, 1, tokens]."""
    tokens: range


Written = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits [V] and state [width] of a row."""


@dataclass(frozen=True, eq=False)
class Step:
    """What a step brought."""

    rows: list[Row]
    """Rows that need their next position."""
    logits: list[NDArray[np.float32]]
    """Of each one's next token, [V]: only of those that its row allows. Overwritten by the next step."""
    states: list[NDArray[np.float32]]
    """From which a depth head goes on, [width] each; overwritten as well."""
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
        presents = {name.replace("past_key_values", "present") for name in names}
        inputs = {value.name: value for value in self._session.get_inputs()}
        parts = PARTS if PARTS.keys() <= inputs.keys() else {}
        check_names(
            self._path,
            self._session,
            inputs={"input_ids", "attention_mask", *names, *parts},
            outputs={"states", *presents, *(parts.values() or ["logits"])},
        )
        dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        kept = dtypes | {"tensor(int8)": np.int8}
        if (kind := inputs[names[0]].type) not in kept:
            raise BundleError(
                f"{self._path}: {names[0]} is {kind}, expected float, float16 or int8; export the bundle again"
            )
        shape = inputs["input_ids"].shape
        if len(shape) != 3 or not isinstance(shape[2], int):
            raise BundleError(f"{self._path}: input_ids are {shape}, expected [B, P, levels]; export the bundle again")
        self.num_levels: int = shape[2]
        """Tokens of a position."""
        self._cache = KvCache(
            names, graph.num_kv_heads, graph.head_dim, kept[kind], device(provider), max_rows, graph.max_positions
        )
        self._outputs: dict[str, tuple[int, type[np.floating]]] = {}
        for output in self._session.get_outputs():
            if output.name in presents:
                continue
            if output.type not in dtypes or not isinstance(output.shape[-1], int):
                raise BundleError(
                    f"{self._path}: {output.name} are {output.type} {output.shape}, expected floats of known size; "
                    "export the bundle again"
                )
            self._outputs[output.name] = output.shape[-1], dtypes[output.type]
        self._parts: list[HeadPart] = []
        num_spoken = 0
        for rows, output in parts.items():
            tokens = range(num_spoken, num_spoken + self._outputs[output][0])
            self._parts.append(HeadPart(rows, output, tokens))
            num_spoken = tokens.stop
        if parts:
            self._outputs["logits"] = num_spoken, np.float32
        self._written: dict[str, NDArray[np.floating]] = {}
        self._make_room()
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}
        self._beginnings: OrderedDict[tuple[Position, ...], NDArray[np.generic]] = OrderedDict()
        self._rows: list[Row | None] = []
        self._in_turn: list[Row] = []

    @property
    def provider(self) -> str:
        """As ONNX Runtime names it."""
        return self._session.get_providers()[0]

    @property
    def num_spoken(self) -> int:
        """Tokens that have logits."""
        return self._outputs["logits"][0]

    @property
    def state_width(self) -> int:
        """Of what a depth head goes on from."""
        return self._outputs["states"][0]

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

    def join(self, segments: Sequence[Sequence[Position]], most_positions: int | None = None) -> Row:
        """Take a row into the batch.

        Args:
            segments: What the model is given, in order, at least one position in all. Rows that begin with the same
                whole segments share the work of reading them.
            most_positions: That it may come to hold, when they are fewer than the model's `max_positions`.
        """
        row = Row(min(most_positions or self.graph.max_positions, self.graph.max_positions))
        for segment in segments:
            row.feed(segment)
        assert row.num_pending, "a row has something to read"
        assert self.has_room, "the batch is full"
        row.place = self._rows.index(None) if None in self._rows else len(self._rows)
        self._rows[row.place : row.place + 1] = [row]
        self._in_turn.append(row)
        lengths = [0 if one is None else one.num_positions for one in self._rows]
        if self._cache.reserve(len(self._rows), row.most_positions, lengths):
            self._bindings.clear()
            self._make_room()
        self._recall(row, row.place)
        return row

    def is_full(self, row: Row, num_more: int) -> bool:
        """Whether so many positions more would leave no room for another."""
        return row.num_positions + row.num_pending + num_more >= row.most_positions

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
            self._cache.move(len(self._rows), place, last.num_positions)
            self._rows[place], last.place = last, place
            self._drop_free_ends()
        if not self._in_turn:
            self._cache.give_back()

    def step(self) -> Step:
        """Read a slice of one row that joins, then one position of each row that is ready."""
        failed: list[tuple[Row, Exception]] = []
        row = next((row for row in self._in_turn if row.num_pending > 1), None)
        if row is not None:
            try:
                self._read_slice(row)
            except Exception as error:  # ONNX Runtime's own exceptions share no narrower class.
                failed.append((row, self._step_error(error)))
                self.leave(row)
        rows, written = self._decode(failed)
        return Step(rows, [logits for logits, _ in written], [states for _, states in written], failed)

    def generate(
        self, prompt: Sequence[Position], choose: Callable[[NDArray[np.float32], NDArray[np.float32]], Position]
    ) -> Generator[Position, None, None]:
        """Continue one prompt, a position a step, until the model's `max_positions` are full or the caller stops.

        Args:
            prompt: What the model has read, with any prefix of the reply that is forced.
            choose: Picks the next position from the logits of its first token, [V], and the state, [width].

        Raises:
            BundleError: A step failed.
        """
        row = self.join([prompt])
        try:
            while True:
                step = self.step()
                for one, error in step.failed:
                    if one is row:
                        raise error
                if row in step.rows:
                    place = step.rows.index(row)
                    position = choose(step.logits[place], step.states[place])
                    yield position
                    if self.is_full(row, 1):
                        return
                    row.feed([position])
        finally:
            self.leave(row)

    def _make_room(self) -> None:
        """For what is written of each row that the cache has room for, [rows, 1, size]."""
        num_rows = self._cache.num_rows
        self._written = {name: np.empty((num_rows, 1, size), dtype) for name, (size, dtype) in self._outputs.items()}

    def _drop_free_ends(self) -> None:
        while self._rows and self._rows[-1] is None:
            self._rows.pop()

    def _read_slice(self, row: Row) -> None:
        """Read on in what a row was given, all but the last position, which is read in the batch."""
        assert row.place is not None
        segment = row.segments[0]
        size = min(SLICE_POSITIONS, len(segment), row.num_pending - 1)
        self._run(row.place, np.array([segment[:size]], np.int64), np.array([row.num_positions + size]), [])
        row.beginning.extend(row.advance(size))
        if size == len(segment):
            self._keep(row, row.place)

    def _decode(self, failed: list[tuple[Row, Exception]]) -> tuple[list[Row], list[Written]]:
        """Rows that were ready, and what was written of each."""
        ready = [row for row in self._rows if row is not None and row.num_pending == 1 and not row.pauses]
        if not ready:
            return [], []
        places = [row.place for row in ready if row.place is not None]
        num_rows = places[-1] + 1
        positions = np.zeros((num_rows, 1, self.num_levels), np.int64)
        positions[places, 0] = [row.segments[0][0] for row in ready]
        lengths = np.array([1 if row is None else row.num_positions + 1 for row in self._rows[:num_rows]])
        broken: list[Row] = []
        cuts = [0, *(np.flatnonzero(np.diff(places) > MOST_BETWEEN + 1) + 1), len(ready)]
        for part in itertools.starmap(slice, itertools.pairwise(cuts)):
            # Rows between them take part: what they write lies where their next position will lie.
            first, end = places[part][0], places[part][-1] + 1
            try:
                self._run(first, positions[first:end], lengths[first:end], ready[part])
            except Exception:  # As above. The step runs again, row by row, so that only those fail that are the cause.
                for row, place in zip(ready[part], places[part], strict=True):
                    alone = slice(place, place + 1)
                    try:
                        self._run(place, positions[alone], lengths[alone], [row])
                    except Exception as error:
                        broken.append(row)
                        failed.append((row, self._step_error(error)))
        done = [(row, place) for row, place in zip(ready, places, strict=True) if row not in broken]
        logits, states = (
            self._written[name][:num_rows, 0].astype(np.float32, copy=False) for name in ("logits", "states")
        )
        written = [(logits[place], states[place]) for _, place in done]
        # Now only: where a row leaves, another may move to its place.
        for row in broken:
            self.leave(row)
        for row, _ in done:
            row.advance(1)
        return [row for row, _ in done], written

    def _run(
        self, first: int, positions: NDArray[np.int64], lengths: NDArray[np.int64], speaking: Sequence[Row]
    ) -> None:
        """Run the graph over rows that follow each other.

        Args:
            first: Place of the first.
            positions: What they read, [rows, P, levels].
            lengths: Positions that they hold then, [rows].
            speaking: Rows among them whose next tokens are drawn. A head in parts speaks for no other.
        """
        num_rows = len(positions)
        binding = self._bindings.get((first, num_rows))
        if binding is None:
            if len(self._bindings) == MOST_BINDINGS:
                del self._bindings[next(iter(self._bindings))]
            binding = self._bindings[first, num_rows] = self._session.io_binding()
            self._cache.bind(binding, first, num_rows)
            for name in ("states",) if self._parts else ("states", "logits"):
                rows = self._written[name][first : first + num_rows]
                binding.bind_output(name, "cpu", 0, rows.dtype, rows.shape, rows.ctypes.data)
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        binding.bind_cpu_input("input_ids", positions)
        binding.bind_cpu_input("attention_mask", mask)
        places = [
            np.array([row.place for row in speaking if row.allows(part.tokens)], np.int64) for part in self._parts
        ]
        for part, of_part in zip(self._parts, places, strict=True):
            binding.bind_cpu_input(part.rows, of_part - first)
            logits = self._written[part.output][: len(of_part)]
            binding.bind_output(part.output, "cpu", 0, logits.dtype, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(binding)
        for part, of_part in zip(self._parts, places, strict=True):
            spoken = self._written[part.output][: len(of_part)]
            self._written["logits"][of_part, :, part.tokens.start : part.tokens.stop] = spoken

    def _keep(self, row: Row, place: int) -> None:
        """Keep the cache of a beginning that another row may share."""
        key = tuple(row.beginning)
        if not self._cache.moves_rows or row.num_positions != len(key) or key in self._beginnings:
            return
        self._beginnings[key] = self._cache.read(place, row.num_positions)
        while len(self._beginnings) > KEPT_BEGINNINGS or sum(map(len, self._beginnings)) > KEPT_POSITIONS:
            self._beginnings.popitem(last=False)

    def _recall(self, row: Row, place: int) -> None:
        """Take the longest beginning whose cache was kept."""
        beginnings = list(itertools.accumulate((tuple(segment) for segment in row.segments), initial=()))[1:-1]
        for number, beginning in reversed(list(enumerate(beginnings, start=1))):
            if (kept := self._beginnings.get(beginning)) is not None:
                self._beginnings.move_to_end(beginning)
                self._cache.write(place, kept)
                for _ in range(number):
                    row.beginning.extend(row.advance(len(row.segments[0])))
                return

    def _step_error(self, error: Exception) -> BundleError:
        return BundleError(f"{self._path}: a step failed ({error}); export the bundle again")
