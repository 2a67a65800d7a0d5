"""One request: from a prompt to a plan, frames and a report on them."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bridge.decoder import Decoder, RootPlace, join
from bridge.depth_head import open_depth_head
from bridge.engine import Engine
from bridge.providers import ProviderError, check_name, most_rows
from bridge.providers import choose as choose_provider
from bridge.reply import Planned, Reply, Stop
from bridge.request import History, MotionRequest, RequestError, Violation
from bridge.sampler import Sampler
from bridge.step_loop import Decoded, Ended, StepLoop, Stream
from python_core.contract.bundle import TOKENIZER, Bundle, BundleError, Manifest, open_bundle
from python_core.contract.motion import Motion
from python_core.contract.plan import Plan, format_plan
from python_core.contract.prompt import PromptError, PromptTemplate
from python_core.contract.quality import QualityReport, measure_quality
from python_core.contract.vocabulary import (
    MAX_REASONING_TOKENS,
    MOTION_CLOSE,
    MOTION_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    TURN_END,
    Position,
    TokenLayout,
)

MAX_ROWS = 64
"""Replies that are written at once where nobody says."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """The frames of one code."""

    first_frame: int
    code: int
    motion: Motion
    next_root: RootPlace
    """Where the next frame begins; with it and the codes up to this one a `History` goes on from here."""


@dataclass(frozen=True)
class Summary:
    """The motion is complete."""

    num_codes: int
    num_frames: int
    duration_s: float
    stop: Stop
    quality: QualityReport
    num_reasoning_tokens: int


Event = Planned | Chunk | Summary


class MotionModel:
    """A bundle that is open and ready: tokenizer, language model, depth head and motion decoder.

    Any number of streams may run at once, from any event loop. `max_rows` of them write at a time; more wait in turn.

    Args:
        folder: The bundle.
        provider: A name of `providers.KNOWN`.
        num_threads: Threads of one step; 0 is one a core.
        max_rows: Replies that are written at once; None is MAX_ROWS, or as many as the engines of TensorRT take.

    Raises:
        BundleError: The bundle does not verify or does not open.
        ProviderError: The provider is unknown, does not load, or takes fewer rows.
    """

    def __init__(self, folder: Path, provider: str, num_threads: int = 1, max_rows: int | None = None) -> None:
        check_name(provider)
        self.bundle: Bundle = open_bundle(folder)
        manifest = self.bundle.manifest
        provider = choose_provider(provider, manifest.provider)
        max_rows = _rows_at_once(folder, manifest, provider, max_rows)
        self.tokenizer = _open_tokenizer(folder / TOKENIZER)
        _check_tokens(folder / TOKENIZER, self.tokenizer, manifest.tokens)
        self._template = PromptTemplate(self.tokenizer, manifest.prompt_template, manifest.tokens)
        self.engine = Engine(folder, manifest.language_model, provider, num_threads, max_rows)
        expected = (manifest.tokens.num_levels, manifest.tokens.num_spoken)
        if (found := (self.engine.num_levels, self.engine.num_spoken)) != expected:
            raise BundleError(
                f"{folder / manifest.language_model.file}: expected positions of {expected[0]} levels and logits of "
                f"{expected[1]} tokens, got {found[0]} and {found[1]}; export the bundle again"
            )
        self.depth_head = open_depth_head(folder, manifest, self.engine.state_width, provider, num_threads)
        self.decoder = Decoder(folder, manifest, provider, num_threads)
        self._lock = threading.Lock()
        self._loop: StepLoop | None = None

    @property
    def steps(self) -> StepLoop:
        """What all streams run in; its thread begins when it is first asked for."""
        with self._lock:
            if self._loop is None:
                self._loop = StepLoop(self.engine, self.depth_head, self.decoder, self.bundle.manifest.tokens)
            return self._loop

    @property
    def num_streams(self) -> int:
        """Streams that have begun and not ended."""
        return self._loop.num_streams if self._loop is not None else 0

    @property
    def code_duration_s(self) -> float:
        """Length of one code."""
        return self.bundle.manifest.frames_per_code / self.bundle.manifest.frame_rate_hz

    def warm_up(self) -> None:
        """Run each graph once, so that the first request pays for nothing that later ones do not pay for.

        Raises:
            BundleError: The graphs do not fit the manifest.
        """
        layout = self.bundle.manifest.tokens
        (code,) = layout.fold(layout.code_ids(0))

        def choose(_: NDArray[np.float32], state: NDArray[np.float32]) -> Position:
            if self.depth_head is not None:
                self.depth_head.speak([state], [0], [Sampler(0, 1.0, 1.0)])
            return code

        positions = self.engine.generate(layout.fold([layout.motion_open] * 2), choose)
        next(positions)
        next(positions)
        positions.close()
        self.decoder.decode([layout.num_codes - 1], self.decoder.start())

    def close(self) -> None:
        """End the thread that makes motions; streams that run get an error."""
        if self._loop is not None:
            self._loop.close()

    def perform(self, request: MotionRequest) -> AsyncGenerator[Event, None]:
        """Act out a request: the plan if there is one, one chunk a code, the summary.

        The request is checked at once, before the first event is asked for. Closing the events, or cancelling the task
        that waits for one, ends the work within one step.

        Raises:
            PromptError: The prompt holds control tokens, or is too long for the model.
            RequestError: The plan or the history cannot be given to this model.
            PlanError: The reasoning is not a plan (while iterating).
            ReplyError: The reply is not one (while iterating).
            BundleError: The model wrote numbers that are no motion (while iterating).
        """
        return self._events(request.history, (), request, self._check(request))

    async def plan(self, request: MotionRequest) -> Planned:
        """The plan alone, as `perform` with the same request would begin.

        Raises:
            PromptError: The prompt holds control tokens, or is too long for the model.
            PlanError: The reasoning is not a plan.
            ValueError: The request asks for no reasoning.
        """
        if not request.reasoning:
            raise ValueError("a plan is reasoning; ask with reasoning=True")
        events = self.perform(request)
        try:
            planned = await anext(events)
        finally:
            await events.aclose()
        assert isinstance(planned, Planned)
        return planned

    def decode(self, codes: Sequence[int], history: History | None = None) -> AsyncGenerator[Event, None]:
        """The chunks of given codes, and their summary.

        Args:
            codes: One or more; they are checked at once.
            history: What was done before; its frames are not sent.

        Raises:
            RequestError: No code, or one that the codebook lacks.
            BundleError: The decoder wrote numbers that are no motion (while iterating).
        """
        problems = [
            self._codes_problem("codes", codes) if len(codes) else Violation("codes", "must be 1 or more, got 0")
        ]
        if history is not None:
            problems.append(self._codes_problem("history.codes", history.codes))
        self._refuse(problems)
        return self._events(history, codes, None, [])

    def _check(self, request: MotionRequest) -> list[list[int]]:
        """Refuse what the model cannot be given; the prompt as token ids, in parts that other requests may share."""
        manifest = self.bundle.manifest
        max_positions = manifest.language_model.max_positions
        before, rest = self._template.parts(request.prompt)
        if request.history is not None:
            self._refuse([self._codes_problem("history.codes", request.history.codes)])
        num_prompt, num_reply = len(before) + len(rest), self._num_given(request) + 1
        if num_prompt + num_reply > max_positions:
            raise PromptError(
                f"the prompt is {num_prompt} tokens, which leaves no room for a motion: the model reads and writes "
                f"{max_positions} positions, {num_reply} of them are needed for the reply; shorten the prompt"
                + (" or the history" if request.history is not None and request.history.codes else "")
            )
        return [before, rest]

    def _num_given(self, request: MotionRequest) -> int:
        """Positions of a reply before its own codes, at most."""
        num_history = len(request.history.codes) if request.history is not None else 0
        if request.beats is not None:
            num_reasoning = self._num_plan_ids(request.beats) + 2
        else:
            num_reasoning = MAX_REASONING_TOKENS + 2 if request.reasoning else 0
        return num_reasoning + 1 + num_history

    async def _events(
        self, history: History | None, codes: Sequence[int], request: MotionRequest | None, prompt: list[list[int]]
    ) -> AsyncGenerator[Event, None]:
        """Run a stream: of given codes, or of those that the model writes for a request."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Planned | Decoded | Ended | Exception]()

        def send(event: Planned | Decoded | Ended | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # The event loop is closed: nobody reads any more.
                loop.call_soon_threadsafe(queue.put_nowait, event)

        stream = Stream(send, self.decoder.start())
        if history is not None:
            stream.history = list(history.codes)
            place = RootPlace(history.root_x_m, history.root_z_m, history.yaw_rad)
            stream.place, stream.state = place, stream.state.at(place)
        if request is None:
            stream.codes.extend(codes)
            stream.stop = Stop.GIVEN_CODES
        else:
            layout, colder = self.bundle.manifest.tokens, self.bundle.manifest.sampling.reasoning_temperature
            stream.reply = Reply(request, prompt, layout, self.tokenizer, self.code_duration_s, send, colder)
            # One more than it can need, and the two that end a reply.
            most = self._num_given(request) + request.max_codes + 3
            stream.max_positions = sum(map(len, prompt)) + most
        steps = self.steps
        steps.start(stream)
        parts, num_frames = list[Motion](), 0
        try:
            while not isinstance(event := await queue.get(), Ended):
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Planned):
                    yield event
                    continue
                steps.read(stream)
                motion = self.decoder.motion(event.frames, 1)
                yield Chunk(num_frames, event.code, motion, event.next_root)
                parts.append(motion)
                num_frames += motion.num_frames
        finally:
            steps.cancel(stream)
        whole = join(parts)
        yield Summary(
            num_codes=len(parts),
            num_frames=whole.num_frames,
            duration_s=whole.duration_s,
            stop=event.stop,
            quality=await asyncio.to_thread(measure_quality, whole),
            num_reasoning_tokens=event.num_reasoning_tokens,
        )

    def _num_plan_ids(self, plan: Plan) -> int:
        num_ids = len(self.tokenizer.encode(format_plan(plan), add_special_tokens=False).ids)
        if num_ids > MAX_REASONING_TOKENS:
            self._refuse(
                [Violation("beats", f"must be at most {MAX_REASONING_TOKENS} tokens, got {num_ids}; use fewer words")]
            )
        return num_ids

    def _codes_problem(self, field: str, codes: Sequence[int]) -> Violation | None:
        num_codes = self.bundle.manifest.tokens.num_codes
        for place, code in enumerate(codes):
            if not 0 <= code < num_codes:
                return Violation(field, f"codes go from 0 to {num_codes - 1}, got {code} at place {place}")
        return None

    @staticmethod
    def _refuse(problems: Sequence[Violation | None]) -> None:
        if violations := [problem for problem in problems if problem is not None]:
            raise RequestError(violations)


def _rows_at_once(folder: Path, manifest: Manifest, provider: str, max_rows: int | None) -> int:
    """Refuse more rows than TensorRT's engines take, before they are built; it would build them anew under load."""
    if provider != "tensorrt":
        return max_rows or MAX_ROWS
    most = most_rows(manifest)
    if max_rows is not None and max_rows > most:
        raise ProviderError(
            f"{folder}: --max-streams (max_rows) must be at most {most} on tensorrt, whose engines are built for so "
            f"many rows, got {max_rows}; ask for {most} or fewer and start more replicas, or ask for --provider cuda"
        )
    return max_rows or min(MAX_ROWS, most)


def _open_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises Exception itself.
        raise BundleError(f"{path}: not a tokenizer ({error}); export the bundle again") from error


def _check_tokens(path: Path, tokenizer: Tokenizer, layout: TokenLayout) -> None:
    """Compare the tokenizer's ids with those that the manifest names."""
    expected = {
        THINK_OPEN: layout.think_open,
        THINK_CLOSE: layout.think_close,
        MOTION_OPEN: layout.motion_open,
        MOTION_CLOSE: layout.motion_close,
        "<Motion_0>": layout.first_code,
        f"<Motion_{layout.codebook.num_tokens - 1}>": layout.first_code + layout.codebook.num_tokens - 1,
        TURN_END: layout.turn_end,
    }
    for token, token_id in expected.items():
        if (actual := tokenizer.token_to_id(token)) != token_id:
            raise BundleError(f"{path}: {token} is {actual}, the manifest says {token_id}; export the bundle again")
