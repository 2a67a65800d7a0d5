"""What a client asks for, checked: the message becomes a `MotionRequest`, or every field that is wrong is named."""

import math
from dataclasses import dataclass

from bridge.stubs import motion_pb2
from python_core.contract.bundle import SamplingDefaults
from python_core.contract.plan import Plan

MAX_PROMPT_CODE_POINTS = 1000
MAX_HISTORY_CODES = 64
MAX_TEMPERATURE = 2.0
_ROUNDING = 1e-4
"""Durations arrive as float32: 1.4 s must still be 7 codes of 0.2 s."""


@dataclass(frozen=True)
class Limits:
    """What a request must keep."""

    max_duration_s: float
    """Longest motion."""
    code_duration_s: float
    """Length of one code, the shortest motion."""

    def num_codes(self, duration_s: float) -> int:
        """Codes that fit into a duration."""
        return math.floor(duration_s / self.code_duration_s + _ROUNDING)


@dataclass(frozen=True)
class History:
    """What a character has done before, and where it is; a motion goes on from there.

    Raises:
        ValueError: More than `MAX_HISTORY_CODES` codes, or a place that is not finite.
    """

    codes: tuple[int, ...]
    """The last codes, in order; without any a motion begins at the place."""
    root_x_m: float = 0.0
    root_z_m: float = 0.0
    yaw_rad: float = 0.0
    """Where the first new frame begins and which way the root faces there: `Chunk.next_root` of the last code."""

    def __post_init__(self) -> None:
        if len(self.codes) > MAX_HISTORY_CODES:
            raise ValueError(f"a history is at most {MAX_HISTORY_CODES} codes, got {len(self.codes)}; give the last")
        for name in ("root_x_m", "root_z_m", "yaw_rad"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} of a history must be a number, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class MotionRequest:
    """One sentence to act out."""

    prompt: str
    seed: int
    reasoning: bool
    max_codes: int
    """Of new codes; those of the history are not counted."""
    temperature: float
    top_p: float
    beats: Plan | None = None
    """A plan that was edited: the motion follows it and nothing is reasoned."""
    history: History | None = None


@dataclass(frozen=True)
class Violation:
    """A field that cannot be used, and why."""

    field: str
    description: str


class RequestError(ValueError):
    """A request that cannot be served; holds every field that is wrong."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("; ".join(f"{violation.field}: {violation.description}" for violation in violations))
        self.violations = violations


def read_request(message: motion_pb2.StreamMotionRequest, limits: Limits, defaults: SamplingDefaults) -> MotionRequest:
    """Check a request.

    Raises:
        RequestError: Fields are outside their limits.
    """
    sampling = message.sampling
    duration_s = message.max_duration_s if message.HasField("max_duration_s") else limits.max_duration_s
    temperature = sampling.temperature if sampling.HasField("temperature") else defaults.temperature
    top_p = sampling.top_p if sampling.HasField("top_p") else defaults.top_p
    problems = {
        "prompt": _prompt_problem(message.prompt),
        "reasoning": _reasoning_problem(message.reasoning),
        "max_duration_s": _duration_problem(duration_s, limits),
        "sampling.temperature": None
        if 0 <= temperature <= MAX_TEMPERATURE
        else f"must be 0 to {MAX_TEMPERATURE:g}, got {temperature:g}",
        "sampling.top_p": None if 0 < top_p <= 1 else f"must be more than 0 and at most 1, got {top_p:g}",
        **{field.name: "this server cannot do that yet" for field, _ in message.ListFields() if field.number > 5},
    }
    violations = [Violation(field, problem) for field, problem in problems.items() if problem]
    if violations:
        raise RequestError(violations)
    return MotionRequest(
        prompt=message.prompt,
        seed=message.seed,
        reasoning=message.reasoning != motion_pb2.REASONING_OFF,
        max_codes=limits.num_codes(duration_s),
        temperature=temperature,
        top_p=top_p,
    )


def _prompt_problem(prompt: str) -> str | None:
    if not prompt.strip():
        return f"must say what the character does, got {'nothing' if not prompt else 'white space only'}"
    if len(prompt) > MAX_PROMPT_CODE_POINTS:
        return f"must be at most {MAX_PROMPT_CODE_POINTS} code points, got {len(prompt)}; shorten it"
    return None


def _reasoning_problem(reasoning: int) -> str | None:
    known = motion_pb2.Reasoning.items()
    if reasoning in dict(known).values():
        return None
    return f"must be one of {', '.join(f'{name} ({value})' for name, value in known)}, got {reasoning}"


def _duration_problem(duration_s: float, limits: Limits) -> str | None:
    longest, shortest = limits.max_duration_s, limits.code_duration_s
    if shortest * (1 - _ROUNDING) <= duration_s <= longest * (1 + _ROUNDING):
        return None
    return f"must be {shortest:g} (one code) to {longest:g} seconds, got {duration_s:g}"
