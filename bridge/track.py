"""What a client knows of one character: the codes it has, where each of them ends, and so how to go on.

No connection in here: a stream that breaks, an order that changes and a game that was saved all come down to asking
again with the codes before a moment.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bridge import wire
from bridge.decoder import join
from bridge.request import MAX_HISTORY_CODES, whole_codes
from bridge.stubs import motion_pb2
from python_core.contract.motion import Motion
from python_core.contract.plan import Beat, Plan, planned_codes
from python_core.contract.quality import measure_quality
from python_core.contract.skeleton import Skeleton

COMMIT_LEAD_S = 0.4
_ROUNDING = 1e-6
"""A playhead of 0.6000001 s is at the third boundary of 0.2 s, not after it."""

Request = motion_pb2.StreamMotionRequest | motion_pb2.DecodeMotionRequest


class StreamError(ValueError):
    """A stream that is not complete, or not in order; says what was expected and what came."""


@dataclass(frozen=True)
class Commit:
    """From where on a motion may still change."""

    num_codes: int
    """Codes of the stream that stay."""
    at_s: float
    """When the first new frame plays, on the character's own time line."""
    history: motion_pb2.History | None
    """What a new request says of the codes that stay; None at the very beginning."""


class EventOrder:
    """Checks events as they come: header, plan if there is to be one, chunks without gaps, summary."""

    def __init__(self, plans: bool) -> None:
        self._begin = ("header", "plan") if plans else ("header",)
        self._number = self._num_codes = self._num_frames = 0
        self._complete = False

    def check(self, event: motion_pb2.MotionEvent) -> None:
        """Look at the next event.

        Raises:
            StreamError: It is out of order, does not fit the others, or is of a server that knows less than we do.
        """
        kind, number = event.WhichOneof("event"), self._number
        if kind is None:  # What a later version sends besides.
            return
        if number < len(self._begin):
            expected = (self._begin[number],)
        elif self._complete:
            expected = ("the end",)
        else:
            expected = ("chunk", "summary") if self._num_codes else ("chunk",)
        if kind not in expected:
            raise StreamError(f"event {number} of the stream: expected {' or '.join(expected)}, got {kind}")
        if kind == "header":
            _check_version(event.header.model.wire_version)
        elif kind == "chunk":
            first_frame = event.chunk.first_frame
            if first_frame != self._num_frames:
                raise StreamError(f"expected a chunk that begins at frame {self._num_frames}, got {first_frame}")
            self._num_codes += 1
            self._num_frames += len(event.chunk.contacts)
        elif kind == "summary":
            counted = (event.summary.num_codes, event.summary.num_frames)
            if counted != (self._num_codes, self._num_frames):
                raise StreamError(
                    f"the summary counts {counted[0]} codes and {counted[1]} frames, "
                    f"{self._num_codes} and {self._num_frames} came"
                )
            self._complete = True
        self._number += 1

    def end(self) -> None:
        """Note that no event follows.

        Raises:
            StreamError: The summary is missing.
        """
        if not self._complete:
            raise StreamError(f"the stream ended after {self._num_frames} frames without its summary; ask again")


def check_events(events: Iterator[motion_pb2.MotionEvent], plans: bool) -> Iterator[motion_pb2.MotionEvent]:
    """Pass events on: header, plan if there is to be one, chunks without gaps, summary.

    Raises:
        StreamError: One is missing, out of order or does not fit the others.
    """
    order = EventOrder(plans)
    for event in events:
        order.check(event)
        yield event
    order.end()


class Track:
    """One stream of one character, as far as it has come.

    Args:
        request: What was asked for.
        starts_at_s: When its first frame plays, on the character's own time line.
        revision: The bundle that the codes of its history belong to; empty if it has none.
    """

    def __init__(self, request: Request, starts_at_s: float = 0.0, revision: str = "") -> None:
        self.request, self.starts_at_s = request, starts_at_s
        self.header: motion_pb2.StreamHeader | None = None
        self.plan: Plan | None = None
        self.summary: motion_pb2.StreamSummary | None = None
        self.codes: list[int] = []
        self.parts: list[Motion] = []
        """Frames, a part for each code."""
        self._roots: list[motion_pb2.RootPlace] = []
        self._skeleton: Skeleton | None = None
        self._revision = revision
        self._begin(request)

    @property
    def code_duration_s(self) -> float:
        """Length of one code; known once the header is there."""
        assert self.header is not None, "the header comes first"
        return self.header.model.frames_per_code / self.header.model.frame_rate_hz

    @property
    def revision(self) -> str:
        """The bundle that the codes belong to."""
        return self._revision

    @property
    def motion(self) -> Motion:
        """All frames so far; at least one code must be there."""
        return join(self.parts)

    def feed(self, event: motion_pb2.MotionEvent) -> motion_pb2.MotionEvent | None:
        """Take in the next event of the call that runs.

        Returns:
            The event as it would be in a stream that never broke, or None for what such a stream does not have.

        Raises:
            StreamError: As of `EventOrder.check`, or it comes from another bundle.
        """
        self._order.check(event)
        match event.WhichOneof("event"):
            case None:  # Of a later version.
                return None
            case "header":
                return self._feed_header(event)
            case "plan":
                if self.plan is not None:
                    return None
                self.plan = wire.read_plan(event.plan)
                return event
            case "chunk":
                return self._feed_chunk(event)
            case _:
                return self._feed_summary(event)

    def end(self) -> None:
        """Note that the call has ended well.

        Raises:
            StreamError: The summary is missing.
        """
        self._order.end()

    def commit(self, playhead_s: float, commit_lead_s: float = COMMIT_LEAD_S) -> Commit:
        """The first boundary between codes at least `commit_lead_s` after the playhead, or the end of what has come.

        Args:
            playhead_s: What is shown now, on the character's own time line.
            commit_lead_s: What a new order and its first frame need to arrive.

        Raises:
            ValueError: The lead is negative.
        """
        if not commit_lead_s >= 0:
            raise ValueError(f"commit_lead_s must be 0 or more, got {commit_lead_s}")
        if self.header is None:
            return Commit(0, self.starts_at_s, self.history(0))
        boundary = math.ceil((playhead_s + commit_lead_s - self.starts_at_s) / self.code_duration_s - _ROUNDING)
        num_codes = min(max(boundary, 0), len(self.codes))
        at_s = self.starts_at_s + num_codes * self.code_duration_s
        return Commit(num_codes, at_s, self.history(num_codes))

    def history(self, num_codes: int) -> motion_pb2.History | None:
        """What a request says that goes on after the first `num_codes` codes of this stream; None at the very start."""
        before = list(self.request.history.codes) if self.request.HasField("history") else []
        codes = [*before, *self.codes[:num_codes]][-MAX_HISTORY_CODES:]
        if not codes:
            return None
        root = self._roots[num_codes - 1] if num_codes else self.request.history.root
        return motion_pb2.History(codes=codes, root=root)

    def rest(self, max_duration_s: float) -> Request | None:
        """The request for what is missing, after a stream that broke; None if only the summary is.

        Args:
            max_duration_s: The longest motion of the server that will answer.
        """
        done = len(self.codes)
        if isinstance(self.request, motion_pb2.DecodeMotionRequest):
            rest = motion_pb2.DecodeMotionRequest(codes=self.request.codes[done:], pacing=self.request.pacing)
            if history := self.history(done):
                rest.history.CopyFrom(history)
            return rest if rest.codes else None
        chosen = self.request.best_of > 1 or self.request.min_quality > 0
        if self.header is None or chosen or (not done and self.plan is None):
            return self.request  # A motion chosen from takes has no rest: it is asked for again, and is the same.
        return self._rest(self.request, done, max_duration_s)

    def resume(self, request: Request) -> None:
        """Note that a call for `request`, which `rest` gave, begins."""
        self._begin(request)

    def close(self) -> motion_pb2.MotionEvent:
        """The summary of a stream whose every code has come, where the server's own was lost."""
        stop = motion_pb2.STOP_REASON_CODES
        if isinstance(self.request, motion_pb2.StreamMotionRequest):
            planned = self.plan is not None
            stop = motion_pb2.STOP_REASON_PLAN_DURATION if planned else motion_pb2.STOP_REASON_MAX_DURATION
        self.summary = self._summarise(motion_pb2.StreamSummary(stop_reason=stop))
        return motion_pb2.MotionEvent(summary=self.summary)

    def _begin(self, request: Request) -> None:
        plans = isinstance(request, motion_pb2.StreamMotionRequest) and request.reasoning != motion_pb2.REASONING_OFF
        self._order = EventOrder(plans)
        self._resumed = request is not self.request
        self._skip = len(self.codes) if request is self.request else 0
        """Codes of this call that are there already."""
        self._num_seen = 0

    def _feed_header(self, event: motion_pb2.MotionEvent) -> motion_pb2.MotionEvent | None:
        model = event.header.model
        if self._revision and model.revision != self._revision:
            raise StreamError(
                f"the codes belong to the bundle {self._revision[:12]}, this server runs {model.revision[:12]}: "
                "they mean other motions there; begin anew"
            )
        self._revision = model.revision
        if self.header is not None:
            return None
        self.header, self._skeleton = event.header, wire.read_skeleton(model.skeleton)
        return event

    def _feed_chunk(self, event: motion_pb2.MotionEvent) -> motion_pb2.MotionEvent | None:
        assert self.header is not None
        assert self._skeleton is not None
        chunk, place = event.chunk, self._num_seen
        self._num_seen += 1
        if place < self._skip:
            if chunk.code != self.codes[place]:
                raise StreamError(
                    f"asked again, the server sends code {chunk.code} at place {place}, it was {self.codes[place]}; "
                    "its provider differs, begin anew"
                )
            return None
        self.parts.append(wire.read_chunk(chunk, self._skeleton, self.header.model.frame_rate_hz))
        self.codes.append(chunk.code)
        self._roots.append(chunk.next_root)
        first_frame = (len(self.codes) - 1) * self.header.model.frames_per_code
        if chunk.first_frame != first_frame:
            event = motion_pb2.MotionEvent(chunk=chunk)
            event.chunk.first_frame = first_frame
        return event

    def _feed_summary(self, event: motion_pb2.MotionEvent) -> motion_pb2.MotionEvent:
        self.summary = self._summarise(event.summary) if self._resumed else event.summary
        return motion_pb2.MotionEvent(summary=self.summary)

    def _summarise(self, last: motion_pb2.StreamSummary) -> motion_pb2.StreamSummary:
        """The summary of the whole, measured here, from that of the last part; times of the server are not known."""
        motion = self.motion
        return motion_pb2.StreamSummary(
            num_codes=len(self.codes),
            num_frames=motion.num_frames,
            duration_s=motion.duration_s,
            stop_reason=last.stop_reason,
            quality=wire.quality(measure_quality(motion)),
            seed=last.seed,
            num_takes=last.num_takes,
        )

    def _rest(
        self, request: motion_pb2.StreamMotionRequest, done: int, max_duration_s: float
    ) -> motion_pb2.StreamMotionRequest | None:
        rest = motion_pb2.StreamMotionRequest()
        rest.CopyFrom(request)
        if history := self.history(done):
            rest.history.CopyFrom(history)
        if rest.HasField("max_duration_s"):
            max_duration_s = rest.max_duration_s
        left = whole_codes(max_duration_s, self.code_duration_s) - done
        if self.plan is not None:
            left = min(left, planned_codes(self.plan, self.code_duration_s)[1] - done)
            beats = beats_left(self.plan, done * self.code_duration_s)
            del rest.beats[:]
            if beats:
                rest.beats.extend(wire.beats(Plan(beats)))
        if left <= 0:
            return None
        rest.max_duration_s = left * self.code_duration_s
        return rest


def _check_version(theirs: str) -> None:
    """A server may know more of the wire than we do; one that knows less would drop what we ask for without a word."""
    major, _, grown = theirs.partition(".")
    our_major, _, ours = wire.WIRE_VERSION.partition(".")
    if major != our_major or not grown.isdecimal() or int(grown) < int(ours):
        raise StreamError(
            f"the server speaks wire version {theirs!r}, this client {wire.WIRE_VERSION!r}: update the older of the two"
        )


def steered(
    track: Track, playhead_s: float, request: motion_pb2.StreamMotionRequest, commit_lead_s: float = COMMIT_LEAD_S
) -> Track:
    """The track of a character that gets a new order: it begins at the commit point of the old one.

    Raises:
        ValueError: The lead is negative.
    """
    commit = track.commit(playhead_s, commit_lead_s)
    order = motion_pb2.StreamMotionRequest()
    order.CopyFrom(request)
    order.ClearField("history")
    if commit.history is not None:
        order.history.CopyFrom(commit.history)
    return Track(order, commit.at_s, track.revision)


def beats_left(plan: Plan, done_s: float) -> tuple[Beat, ...]:
    """What is left of a plan after `done_s`: the beat that is under way is shorter, those before it are gone."""
    left: list[Beat] = []
    for beat in plan.beats:
        remaining_s = round(beat.duration_s - max(0.0, done_s), 1)
        done_s -= beat.duration_s
        if remaining_s >= 0.1:
            left.append(Beat(beat.text, min(remaining_s, beat.duration_s), beat.body_parts))
    return tuple(left)
