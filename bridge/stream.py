"""One request: from a prompt to a plan, frames and a report on them."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bridge.decoder import Decoder, join
from bridge.engine import Engine
from bridge.providers import choose as choose_provider
from bridge.request import MotionRequest
from bridge.sampler import Sampler
from python_core.contract.bundle import TOKENIZER, Bundle, BundleError, open_bundle
from python_core.contract.motion import Motion
from python_core.contract.plan import Plan, PlanError, parse_plan
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
    """The model has finished its reasoning."""

    plan: Plan
    text: str
    """The reasoning as the model wrote it."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """The frames of one code."""

    first_frame: int
    code: int
    motion: Motion


class Stop(Enum):
    """Why a motion ended."""

    MODEL = "the model closed the motion"
    PLAN_DURATION = "the length that the plan gives"
    MAX_DURATION = "the longest duration of the request, the server or the model"


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

    def perform(self, request: MotionRequest, cancelled: threading.Event) -> Iterator[Event]:
        """Act out a request: the plan if it is asked for, one chunk a code, the summary.

        The request is checked at once, before the first event is asked for.

        Raises:
            PromptError: The prompt holds control tokens, or is too long for the model.
            PlanError: The reasoning is not a plan (while iterating).
            ReplyError: The reply is not one (while iterating).
            BundleError: The model wrote numbers that are no motion (while iterating).
            Cancelled: `cancelled` was set (while iterating); no further step runs.
        """
        manifest = self.bundle.manifest
        layout, max_tokens = manifest.tokens, manifest.language_model.max_tokens
        ids = prompt_ids(self.tokenizer, manifest.prompt_template, layout, request.prompt)
        # The markers, the longest reasoning and one code.
        needed = len(ids) + 1 + layout.num_levels + (MAX_REASONING_TOKENS + 2 if request.reasoning else 0)
        if needed > max_tokens:
            raise PromptError(
                f"the prompt is {len(ids)} tokens, which leaves no room for a motion: the model reads and writes "
                f"{max_tokens} tokens, {needed - len(ids)} of them are needed for the reply; shorten the prompt"
            )
        return self._perform(ids, request, cancelled)

    def _perform(self, ids: list[int], request: MotionRequest, cancelled: threading.Event) -> Iterator[Event]:
        layout = self.bundle.manifest.tokens
        parser, sampler = ReplyParser(layout), Sampler(request.seed, request.temperature, request.top_p)
        opening = layout.think_open if request.reasoning else layout.motion_open
        parser.feed(opening)
        min_codes, max_codes, stop_at_limit = 1, request.max_codes, Stop.MAX_DURATION

        def choose(logits: NDArray[np.float32]) -> int:
            allowed = parser.allowed()
            if parser.place is Place.MOTION and len(parser.codes) < min_codes:
                allowed[layout.motion_close] = False
            return sampler.draw(logits, allowed)

        tokens = self.engine.generate([*ids, opening], choose, cancelled)
        parts: list[Motion] = []
        state, stop = self.decoder.start(), None
        for token_id in tokens:
            code = parser.feed(token_id)
            if code is not None:
                part, state = self.decoder.decode([code], state)
                yield Chunk(sum(part.num_frames for part in parts), code, part)
                parts.append(part)
                if len(parts) == max_codes:
                    stop = stop_at_limit
                    break
            elif parser.place is Place.BETWEEN:
                planned = self._read_plan(parser)
                yield planned
                planned_codes = max(1, round(planned.plan.duration_s / self.code_duration_s))
                min_codes = min(max_codes, planned_codes - 1)
                if planned_codes <= max_codes:
                    max_codes, stop_at_limit = planned_codes, Stop.PLAN_DURATION
            elif parser.place is Place.DONE:
                stop = Stop.MODEL
                break
        if stop is None and parts:
            stop = Stop.MAX_DURATION  # The model's `max_tokens` are full.
        if stop is None:
            raise ReplyError(f"the reply breaks off after {parser.num_tokens} tokens; expected {parser.place.value}")
        motion = join(parts)
        yield Summary(
            num_codes=len(parts),
            num_frames=motion.num_frames,
            duration_s=motion.duration_s,
            stop=stop,
            quality=measure_quality(motion),
            num_reasoning_tokens=len(parser.reasoning_ids or ()),
        )

    def _read_plan(self, parser: ReplyParser) -> Planned:
        text = self.tokenizer.decode(parser.reasoning_ids or [], skip_special_tokens=False)
        if not text.strip():
            raise PlanError("expected '1. what is done, 1.0 s', got no reasoning")
        return Planned(parse_plan(text), text)


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
