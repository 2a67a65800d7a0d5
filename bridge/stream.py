"""One request: from a prompt to a plan, frames and a report on them."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bridge.decoder import Decoder, DecoderState, RootPlace, join
from bridge.engine import Cancelled, Engine
from bridge.providers import choose as choose_provider
from bridge.request import History, MotionRequest, RequestError, Violation
from bridge.sampler import Sampler
from python_core.contract.bundle import TOKENIZER, Bundle, BundleError, open_bundle
from python_core.contract.motion import Motion
from python_core.contract.plan import Plan, PlanError, format_plan, parse_plan
from python_core.contract.prompt import PromptError, prompt_ids
from python_core.contract.quality import QualityReport, measure_quality
from python_core.contract.vocabulary import (
    MAX_REASONING_TOKENS,
    MOTION_CLOSE,
    MOTION_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    TURN_END,
    Place,
    ReplyError,
    ReplyParser,
    TokenLayout,
)


@dataclass(frozen=True)
class Planned:
    """The model has finished its reasoning, or was given a plan."""

    plan: Plan
    text: str
    """The reasoning as the model wrote it, or as the plan that was given reads."""
    num_tokens: int
    """That the model wrote; 0 for a plan that was given."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """The frames of one code."""

    first_frame: int
    code: int
    motion: Motion
    next_root: RootPlace
    """Where the next frame begins; with it and the codes up to this one a `History` goes on from here."""


class Stop(Enum):
    """Why a motion ended."""

    MODEL = "the model closed the motion"
    PLAN_DURATION = "the length that the plan gives"
    MAX_DURATION = "the longest duration of the request, the server or the model"
    GIVEN_CODES = "the end of the codes that were given"


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


@dataclass(frozen=True)
class _CodeLimits:
    """How many new codes a motion has, at most and at least, and why it ends when they are all there."""

    max_codes: int
    min_codes: int = 1
    stop: Stop = Stop.MAX_DURATION

    def planned(self, plan: Plan, code_duration_s: float) -> "_CodeLimits":
        """The same with a plan, which the motion follows: at most a code shorter than it, and never longer."""
        planned_codes = max(1, round(plan.duration_s / code_duration_s))
        min_codes = max(1, min(self.max_codes, planned_codes - 1))
        if planned_codes <= self.max_codes:
            return _CodeLimits(planned_codes, min_codes, Stop.PLAN_DURATION)
        return _CodeLimits(self.max_codes, min_codes, self.stop)


class MotionModel:
    """A bundle that is open and ready: tokenizer, language model and motion decoder.

    Any number of streams may run at once, each in a thread of its own.

    Args:
        folder: The bundle.
        provider: A name of `providers.KNOWN`.
        num_threads: Threads of one step; 0 is one a core.

    Raises:
        BundleError: The bundle does not verify or does not open.
        ProviderError: The provider is unknown or does not load.
    """

    def __init__(self, folder: Path, provider: str, num_threads: int = 1) -> None:
        provider = choose_provider(provider)
        self.bundle: Bundle = open_bundle(folder)
        manifest = self.bundle.manifest
        for file in (manifest.language_model.file, manifest.motion_decoder.file, TOKENIZER):
            if file not in manifest.files:
                raise BundleError(f"{folder}: the manifest has no SHA-256 of {file}; export the bundle again")
        self.tokenizer = _open_tokenizer(folder / TOKENIZER)
        _check_tokens(folder / TOKENIZER, self.tokenizer, manifest.tokens)
        self.engine = Engine(folder, manifest.language_model, provider, num_threads)
        self.decoder = Decoder(folder, manifest, provider, num_threads)
        self._threads = ThreadPoolExecutor(256, thread_name_prefix="stream")

    @property
    def code_duration_s(self) -> float:
        """Length of one code."""
        return self.bundle.manifest.frames_per_code / self.bundle.manifest.frame_rate_hz

    def warm_up(self) -> None:
        """Run each graph once, so that the first request pays for nothing that later ones do not pay for.

        Raises:
            BundleError: The graphs do not fit the manifest.
        """
        manifest = self.bundle.manifest
        layout = manifest.tokens

        def choose_code(logits: NDArray[np.float32]) -> int:
            if logits.shape != (layout.vocabulary_size,):
                raise BundleError(
                    f"{self.bundle.folder / manifest.language_model.file}: expected logits of "
                    f"{layout.vocabulary_size} tokens, got {logits.shape}; export the bundle again"
                )
            return layout.first_code

        tokens = self.engine.generate([layout.motion_open] * 2, choose_code, threading.Event())
        next(tokens)
        next(tokens)
        self.decoder.decode([layout.num_codes - 1], self.decoder.start())

    def close(self) -> None:
        """Give the threads back; call it when no stream runs."""
        self._threads.shutdown()

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
        cancelled = threading.Event()
        return self._iterate(self._perform(self._begin(request), request, cancelled), cancelled)

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
        cancelled = threading.Event()
        return self._iterate(self._decode(codes, history, cancelled), cancelled)

    async def _iterate(self, events: Iterator[Event], cancelled: threading.Event) -> AsyncGenerator[Event, None]:
        try:
            while True:
                step = asyncio.get_running_loop().run_in_executor(self._threads, next, events, None)
                try:
                    event = await asyncio.shield(step)
                except asyncio.CancelledError:
                    cancelled.set()
                    await asyncio.wait([step])
                    step.exception()
                    raise
                if event is None:
                    return
                yield event
        finally:
            cancelled.set()

    def _begin(self, request: MotionRequest) -> list[int]:
        """Check a request; the token ids that the model is given first."""
        manifest = self.bundle.manifest
        layout, max_tokens = manifest.tokens, manifest.language_model.max_tokens
        ids = prompt_ids(self.tokenizer, manifest.prompt_template, layout, request.prompt)
        if request.history is not None:
            self._refuse([self._codes_problem("history.codes", request.history.codes)])
        plan_ids = self._plan_ids(request.beats) if request.beats is not None else []
        history_ids = self._history_ids(request)
        reasoning = request.reasoning or request.beats is not None
        # The markers, the longest reasoning and one code.
        needed = len(ids) + len(history_ids) + 1 + layout.num_levels
        needed += (len(plan_ids) or MAX_REASONING_TOKENS) + 2 if reasoning else 0
        if needed > max_tokens:
            raise PromptError(
                f"the prompt is {len(ids)} tokens, which leaves no room for a motion: the model reads and writes "
                f"{max_tokens} tokens, {needed - len(ids)} of them are needed for the reply; shorten the prompt"
                + (" or the history" if history_ids else "")
            )
        if plan_ids:
            return [*ids, layout.think_open, *plan_ids, layout.think_close, layout.motion_open, *history_ids]
        return [*ids, layout.think_open] if reasoning else [*ids, layout.motion_open, *history_ids]

    def _plan_ids(self, plan: Plan) -> list[int]:
        ids = self.tokenizer.encode(format_plan(plan), add_special_tokens=False).ids
        if len(ids) > MAX_REASONING_TOKENS:
            self._refuse(
                [Violation("beats", f"must be at most {MAX_REASONING_TOKENS} tokens, got {len(ids)}; use fewer words")]
            )
        return ids

    def _history_ids(self, request: MotionRequest) -> list[int]:
        codes = request.history.codes if request.history is not None else ()
        return [token_id for code in codes for token_id in self.bundle.manifest.tokens.code_ids(code)]

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

    def _perform(self, ids: list[int], request: MotionRequest, cancelled: threading.Event) -> Iterator[Event]:
        layout = self.bundle.manifest.tokens
        parser, sampler = ReplyParser(layout), Sampler(request.seed, request.temperature, request.top_p)
        history_ids = self._history_ids(request)
        num_history = len(history_ids) // layout.num_levels
        reply_began = next(
            place for place, token_id in enumerate(ids) if token_id in (layout.think_open, layout.motion_open)
        )
        for token_id in ids[reply_began:]:
            parser.feed(token_id)
        limits = _CodeLimits(request.max_codes)
        given: list[int] = []
        if request.beats is not None:
            yield Planned(request.beats, format_plan(request.beats), 0)
            limits = limits.planned(request.beats, self.code_duration_s)

        def choose(logits: NDArray[np.float32]) -> int:
            if given:
                return given.pop(0)
            allowed = parser.allowed()
            if parser.place is Place.MOTION and len(parser.codes) - num_history < limits.min_codes:
                allowed[layout.motion_close] = False
            return sampler.draw(logits, allowed)

        tokens = self.engine.generate(ids, choose, cancelled)
        parts: list[Motion] = []
        state, stop = self._replay(request.history), None
        for token_id in tokens:
            code = parser.feed(token_id)
            if code is not None and len(parser.codes) > num_history:
                part, state = self.decoder.decode([code], state)
                yield Chunk(sum(part.num_frames for part in parts), code, part, state.place)
                parts.append(part)
                if len(parts) == limits.max_codes:
                    stop = limits.stop
                    break
            elif parser.place is Place.BETWEEN:
                planned = self._read_plan(parser)
                yield planned
                limits = limits.planned(planned.plan, self.code_duration_s)
                given.extend([layout.motion_open, *history_ids])
            elif parser.place is Place.DONE:
                stop = Stop.MODEL
                break
        if stop is None and parts:
            stop = Stop.MAX_DURATION  # The model's `max_tokens` are full.
        if stop is None:
            raise ReplyError(f"the reply breaks off after {parser.num_tokens} tokens; expected {parser.place.value}")
        yield self._summary(parts, stop, len(parser.reasoning_ids or ()) if request.beats is None else 0)

    def _decode(self, codes: Sequence[int], history: History | None, cancelled: threading.Event) -> Iterator[Event]:
        parts: list[Motion] = []
        state = self._replay(history)
        for code in codes:
            if cancelled.is_set():
                raise Cancelled
            part, state = self.decoder.decode([code], state)
            yield Chunk(sum(part.num_frames for part in parts), code, part, state.place)
            parts.append(part)
        yield self._summary(parts, Stop.GIVEN_CODES, 0)

    def _replay(self, history: History | None) -> DecoderState:
        state = self.decoder.start()
        if history is None:
            return state
        for code in history.codes:
            _, state = self.decoder.decode([code], state)
        return state.at(RootPlace(history.root_x_m, history.root_z_m, history.yaw_rad))

    @staticmethod
    def _summary(parts: list[Motion], stop: Stop, num_reasoning_tokens: int) -> Summary:
        motion = join(parts)
        return Summary(
            num_codes=len(parts),
            num_frames=motion.num_frames,
            duration_s=motion.duration_s,
            stop=stop,
            quality=measure_quality(motion),
            num_reasoning_tokens=num_reasoning_tokens,
        )

    def _read_plan(self, parser: ReplyParser) -> Planned:
        text = self.tokenizer.decode(parser.reasoning_ids or [], skip_special_tokens=False)
        if not text.strip():
            raise PlanError("expected '1. what is done, 1.0 s', got no reasoning")
        return Planned(parse_plan(text), text, len(parser.reasoning_ids or ()))


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
