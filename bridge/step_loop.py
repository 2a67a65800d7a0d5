"""The thread that steps the language model and the motion decoder for all streams together.

Each round: streams that were cancelled leave, waiting ones join, the language model takes a step, tokens are drawn, the
depth head speaks the other levels of codes, and the decoder runs once over all streams that have a code ready. What a
stream gets does not depend on the others.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bridge.decoder import Decoder, DecoderState, Frames, RootPlace
from bridge.depth_head import DepthHead
from bridge.engine import Engine, Row, Step
from bridge.reply import Reply, Stop
from bridge.sampler import draw
from python_core.contract.bundle import BundleError
from python_core.contract.plan import PlanError
from python_core.contract.vocabulary import TokenLayout

logger = logging.getLogger(__name__)

MOST_AHEAD = 8
"""Codes that a stream may be ahead of who reads it; then it pauses, and others have its share."""
HAND_OVER_S = 1e-4
"""In which another thread wakes up."""
REPLAYED_CODES = 16
"""Most codes of a history that are replayed between two steps of the running streams."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """The frames of a new code."""

    code: int
    frames: Frames
    next_root: RootPlace


@dataclass(frozen=True)
class Ended:
    """Nothing follows."""

    stop: Stop
    num_reasoning_tokens: int


@dataclass(eq=False)
class Stream:
    """One stream: codes that a reply writes, or codes that were given."""

    send: Callable[["Decoded | Ended | Exception"], None]
    """Takes what comes, in the loop's thread; must not raise or wait."""
    state: DecoderState
    """Of the decoder; moves on with each code."""
    reply: Reply | None = None
    """None where codes were given."""
    codes: deque[int] = field(default_factory=deque)
    """To be decoded."""
    history: list[int] = field(default_factory=list)
    """To be replayed before them."""
    place: RootPlace | None = None
    """Where the first new frame begins, if there is a history."""
    max_positions: int | None = None
    """That the row may come to hold."""
    row: Row | None = None
    stop: Stop | None = None
    """Set when no code will be added."""
    num_sent: int = 0
    num_read: int = 0
    """Codes; `StepLoop.read` counts them."""

    @property
    def is_ahead(self) -> bool:
        """Whether it waits for its reader."""
        return self.num_sent - self.num_read >= MOST_AHEAD


class StepLoop:
    """Runs streams until it is closed.

    Args:
        engine: The language model; nothing else may use it.
        depth_head: Its depth head; None where codes have one level.
        decoder: The motion decoder.
        layout: Where the tokens of replies are.
    """

    def __init__(self, engine: Engine, depth_head: DepthHead | None, decoder: Decoder, layout: TokenLayout) -> None:
        self._engine, self._depth_head, self._decoder, self._layout = engine, depth_head, decoder, layout
        self._changed = threading.Condition()
        self._joining: deque[Stream] = deque()
        self._leaving: deque[Stream] = deque()
        self._closed = False
        self._waiting: deque[Stream] = deque()
        self._streams: dict[Stream, None] = {}
        self._by_row: dict[Row, Stream] = {}
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)
        self._thread.start()

    @property
    def num_streams(self) -> int:
        """Streams that have begun and not ended, those that wait for a place among them."""
        with self._changed:
            return len(self._streams) + len(self._joining)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Streams that take part in the rounds."""
        return tuple(self._streams)

    def start(self, stream: Stream) -> None:
        """Run a stream. It waits for a place in the batch, in the order of arrival, when there is none.

        Raises:
            RuntimeError: The loop is closed.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the model is closed")
            self._joining.append(stream)
            self._changed.notify()

    def cancel(self, stream: Stream) -> None:
        """Free what a stream uses before the next step; nothing happens if it has ended."""
        with self._changed:
            self._leaving.append(stream)
            self._changed.notify()

    def read(self, stream: Stream) -> None:
        """Say that a code of a stream has been read."""
        stream.num_read += 1
        if stream.num_sent - stream.num_read == MOST_AHEAD - 1:
            with self._changed:
                self._changed.notify()

    def close(self) -> None:
        """End the thread; streams that run get a RuntimeError."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._round():
                pass
        finally:
            # However the thread ends: who waits for it would wait for ever.
            with self._changed:
                self._closed = True
                streams = [*self._streams, *self._joining]
            for stream in streams:
                stream.send(RuntimeError("the model was closed"))

    def _round(self) -> bool:
        """Take changes and a step; False when the loop is closed."""
        try:
            if not self._take_changes():
                return False
            self._step()
        except Exception as error:
            # Nobody else can tell the streams; without this they would wait for ever.
            logger.exception("a round of the step loop failed; its %d streams end", len(self._streams))
            for stream in list(self._streams):
                self._fail(stream, error)
        return True

    def _take_changes(self) -> bool:
        """Wait for work; False when the loop is closed."""
        with self._changed:
            while not (self._joining or self._leaving or self._closed or any(map(self._can_go_on, self._streams))):
                self._changed.wait()
            for stream in self._joining:
                self._streams[stream] = None
                if stream.reply is not None:
                    self._waiting.append(stream)
            self._joining.clear()
            leaving = list(self._leaving)
            self._leaving.clear()
            closed = self._closed
        for stream in leaving:
            self._drop(stream)
        return not closed

    def _can_go_on(self, stream: Stream) -> bool:
        if stream.reply is not None and stream.row is None and stream.stop is None:
            return self._engine.has_room
        return bool(stream.history) or not stream.is_ahead

    def _step(self) -> None:
        while self._waiting and self._engine.has_room:
            stream = self._waiting.popleft()
            assert stream.reply is not None
            self._join(stream, stream.reply)
        for row, stream in self._by_row.items():
            row.pauses = stream.is_ahead
        if self._by_row:
            self._write()
        self._replay()
        self._decode()

    def _write(self) -> None:
        """One step of the language model, and a position for each row that is ready."""
        step = self._engine.step()
        for row, error in step.failed:
            self._fail(self._by_row[row], error)
        replies = [(self._by_row[row], reply) for row in step.rows if (reply := self._by_row[row].reply) is not None]
        drawn = draw(step.logits, [row.allowed for row in step.rows], [reply.sampler for _, reply in replies])
        for (stream, reply), token_ids in zip(replies, self._speak(step, drawn, replies), strict=True):
            if isinstance(token_ids, BundleError):
                self._fail(stream, token_ids)
                continue
            try:
                self._take(stream, reply, token_ids)
            except PlanError as error:
                if not reply.begin_again():
                    self._fail(stream, error)
                    continue
                self._leave(stream)
                self._join(stream, reply)
            except Exception as error:  # A reply that is none, or what nobody expected: this stream's alone.
                self._fail(stream, error)

    def _speak(
        self, step: Step, drawn: Sequence[int | BundleError], replies: Sequence[tuple[Stream, Reply]]
    ) -> list[list[int] | BundleError]:
        """All tokens of each row's position: the one that was drawn and, of a code, those of its other levels."""
        spoken: list[list[int] | BundleError] = [[one] if isinstance(one, int) else one for one in drawn]
        layout, head = self._layout, self._depth_head
        begun = {
            place: token_id - layout.first_code
            for place, token_id in enumerate(drawn)
            if isinstance(token_id, int) and layout.is_of_code(token_id)
        }
        if head is None or not begun:
            return spoken
        states = [step.states[place] for place in begun]
        try:
            others = head.speak(states, [*begun.values()], [replies[place][1].sampler for place in begun])
        except BundleError as error:  # Of these rows; others wait for no code.
            others = [error] * len(begun)
        for (place, first), entries in zip(begun.items(), others, strict=True):
            spoken[place] = entries if isinstance(entries, BundleError) else layout.entry_ids([first, *entries])
        return spoken

    def _take(self, stream: Stream, reply: Reply, token_ids: Sequence[int]) -> None:
        row = stream.row
        assert row is not None
        code, following = reply.take(token_ids)
        if code is not None:
            stream.codes.append(code)
        if reply.stop is None:
            if self._engine.is_full(row, len(following)):
                reply.cut()
            else:
                row.feed(following)
                row.allowed = reply.allowed()
        if reply.stop is not None:
            stream.stop = reply.stop
            self._leave(stream)
            if not stream.codes:
                self._end(stream)

    def _replay(self) -> None:
        """Some codes of one stream's history."""
        stream = next((stream for stream in self._streams if stream.history), None)
        if stream is None:
            return
        codes, stream.history = stream.history[:REPLAYED_CODES], stream.history[REPLAYED_CODES:]
        try:
            _, stream.state = self._decoder.run([codes], [stream.state])[0]
        except Exception as error:  # ONNX Runtime's own exceptions share no narrower class.
            self._fail(stream, decoder_error(error))
            return
        if not stream.history and stream.place is not None:
            stream.state = stream.state.at(stream.place)

    def _decode(self) -> None:
        """One code of each stream that has one."""
        ready = [stream for stream in self._streams if stream.codes and not stream.history and not stream.is_ahead]
        if not ready:
            return
        codes = [[stream.codes[0]] for stream in ready]
        try:
            decoded = self._decoder.run(codes, [stream.state for stream in ready])
        except Exception:  # As above. Once more, stream by stream, so that only those fail that are the cause.
            for stream, code in zip(ready, codes, strict=True):
                try:
                    self._send(stream, *self._decoder.run([code], [stream.state])[0])
                except Exception as error:
                    self._fail(stream, decoder_error(error))
            return
        for stream, (frames, state) in zip(ready, decoded, strict=True):
            self._send(stream, frames, state)
        if all(stream.num_sent == 1 for stream in ready):
            # First frames and nothing else: the thread that waits for them has the interpreter before the next step.
            time.sleep(HAND_OVER_S)

    def _send(self, stream: Stream, frames: Frames, state: DecoderState) -> None:
        stream.state = state
        stream.num_sent += 1
        stream.send(Decoded(stream.codes.popleft(), frames, state.place))
        if stream.stop is not None and not stream.codes:
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        assert stream.stop is not None
        num_tokens = stream.reply.num_reasoning_tokens if stream.reply is not None else 0
        self._drop(stream)
        stream.send(Ended(stream.stop, num_tokens))

    def _fail(self, stream: Stream, error: Exception) -> None:
        self._drop(stream)
        stream.send(error)

    def _drop(self, stream: Stream) -> None:
        self._leave(stream)
        self._streams.pop(stream, None)
        if stream in self._waiting:
            self._waiting.remove(stream)

    def _join(self, stream: Stream, reply: Reply) -> None:
        stream.row = self._engine.join(reply.segments, stream.max_positions)
        stream.row.allowed = reply.allowed()
        self._by_row[stream.row] = stream

    def _leave(self, stream: Stream) -> None:
        if stream.row is not None:
            self._by_row.pop(stream.row, None)
            self._engine.leave(stream.row)
            stream.row = None


def decoder_error(error: Exception) -> BundleError:
    """What a failed run of the motion decoder means."""
    return BundleError(f"the motion decoder failed ({error}); export the bundle again")
