"""One reply as the model writes it: which tokens may come, what is forced, when it ends. It knows no sessions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from tokenizers import Tokenizer

from bridge.request import MotionRequest
from bridge.sampler import Sampler
from python_core.contract.plan import (
    MOST_PLANS,
    Plan,
    PlanError,
    format_plan,
    parse_plan,
    planned_codes,
    reasoning_text,
)
from python_core.contract.vocabulary import Place, Position, ReplyError, ReplyParser, TokenLayout


@dataclass(frozen=True)
class Planned:
    """The model has finished its reasoning, or was given a plan."""

    plan: Plan
    text: str
    """The reasoning as the model wrote it, or as the plan that was given reads."""
    num_tokens: int
    """That the model wrote; 0 for a plan that was given."""


class Stop(Enum):
    """Why a motion ended."""

    MODEL = "the model closed the motion"
    PLAN_DURATION = "the length that the plan gives"
    MAX_DURATION = "the longest duration of the request, the server or the model"
    GIVEN_CODES = "the end of the codes that were given"


@dataclass(frozen=True)
class CodeLimits:
    """How many new codes a motion has, at most and at least, and why it ends when they are all there."""

    max_codes: int
    min_codes: int = 1
    stop: Stop = Stop.MAX_DURATION

    def planned(self, plan: Plan, code_duration_s: float) -> "CodeLimits":
        """The same with a plan, which the motion follows."""
        least, most = planned_codes(plan, code_duration_s)
        if most <= self.max_codes:
            return CodeLimits(most, least, Stop.PLAN_DURATION)
        return CodeLimits(self.max_codes, min(least, self.max_codes), self.stop)


class Reply:
    """Follows one reply position by position.

    Args:
        request: What was asked; checked.
        prompt: Parts of the prompt in token ids, which other requests may share.
        layout: Where the tokens of replies are.
        tokenizer: Reads and writes plans.
        code_duration_s: Length of a code.
        planned: Called with the plan, as soon as it is known.
        reasoning_temperature: Times the request's own, for the reasoning.
    """

    def __init__(
        self,
        request: MotionRequest,
        prompt: Sequence[Sequence[int]],
        layout: TokenLayout,
        tokenizer: Tokenizer,
        code_duration_s: float,
        planned: Callable[[Planned], None],
        reasoning_temperature: float = 1.0,
    ) -> None:
        self._of_motion = Sampler(request.seed, request.temperature, request.top_p)
        self._of_reasoning = self._of_motion.colder(reasoning_temperature)
        self.stop: Stop | None = None
        self._layout, self._tokenizer, self._code_duration_s = layout, tokenizer, code_duration_s
        self._parser, self._limits, self._planned = ReplyParser(layout), CodeLimits(request.max_codes), planned
        codes = request.history.codes if request.history is not None else ()
        self._num_history = len(codes)
        opening = [layout.motion_open, *(token_id for code in codes for token_id in layout.code_ids(code))]
        self._after_plan = opening
        self.num_reasoning_tokens = 0
        self._reasons = request.reasoning and request.beats is None
        self._num_malformed = 0
        if request.beats is not None:
            planned(Planned(request.beats, format_plan(request.beats), 0))
            self._limits = self._limits.planned(request.beats, code_duration_s)
            ids = tokenizer.encode(format_plan(request.beats), add_special_tokens=False).ids
            begun = [[layout.think_open, *ids, layout.think_close], opening]
        else:
            begun = [[layout.think_open]] if self._reasons else [opening]
        for segment in begun:
            self._hear(segment)
        self.segments = [layout.fold(segment) for segment in (*prompt, *begun)]
        """What the model reads first."""

    @property
    def place(self) -> Place:
        return self._parser.place

    @property
    def sampler(self) -> Sampler:
        """Of the next token."""
        return self._of_reasoning if self.place is Place.REASONING else self._of_motion

    def allowed(self) -> tuple[range, ...]:
        """Ids of the tokens that may come next, in ascending ranges."""
        ranges = self._parser.allowed_ranges()
        if self._parser.place is Place.MOTION and self._num_new < self._limits.min_codes:
            return tuple(ids for ids in ranges if self._layout.motion_close not in ids)
        return ranges

    def take(self, token_ids: Sequence[int]) -> tuple[int | None, Sequence[Position]]:
        """Take the tokens of the next position; `stop` says when it was the last.

        Returns:
            The code that they are, if they are one, and what the model reads next, which is this position and what
            follows it by force; nothing after the last one.

        Raises:
            PlanError: The reasoning is not a plan.
            ReplyError: A token cannot come here.
        """
        code = None
        for token_id in token_ids:
            code = self._parser.feed(token_id)
        following: list[int] = []
        if code is not None:
            if self._num_new == self._limits.max_codes:
                self.stop = self._limits.stop
        elif self._parser.place is Place.BETWEEN:
            self._end_reasoning()
            following = self._after_plan
            self._hear(following)
        elif self._parser.place is Place.DONE:
            self.stop = Stop.MODEL
        return code, [] if self.stop is not None else self._layout.fold([*token_ids, *following])

    def begin_again(self) -> bool:
        """After a `PlanError`: be ready to read `segments` once more and to draw another plan with the random numbers
        that come next; False if the reply is to count as malformed.
        """
        self._num_malformed += 1
        if self._num_malformed == MOST_PLANS or self._of_reasoning.temperature == 0:
            return False
        self._parser = ReplyParser(self._layout)
        self._hear([self._layout.think_open])
        return True

    def cut(self) -> None:
        """There is no room for another position.

        Raises:
            ReplyError: Nothing has moved yet.
        """
        if not self._num_new:
            raise ReplyError(
                f"the reply breaks off after {self._parser.num_tokens} tokens; expected {self._parser.place.value}"
            )
        self.stop = Stop.MAX_DURATION

    @property
    def _num_new(self) -> int:
        return len(self._parser.codes) - self._num_history

    def _hear(self, token_ids: Sequence[int]) -> None:
        for token_id in token_ids:
            self._parser.feed(token_id)

    def _end_reasoning(self) -> None:
        ids = self._parser.reasoning_ids or []
        self.num_reasoning_tokens = len(ids)
        text = reasoning_text(self._tokenizer, ids)
        if not text.strip():
            raise PlanError("expected '1. what is done, 1.0 s', got no reasoning")
        plan = parse_plan(text)
        self._planned(Planned(plan, text, len(ids)))
        self._limits = self._limits.planned(plan, self._code_duration_s)
