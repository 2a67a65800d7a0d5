"""What a client asks for, checked: the message becomes a request of ours, or every field that is wrong is named."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.pacing import DEFAULT_LEAD_S, Pacing
from bridge.stubs import motion_pb2
from python_core.contract.bundle import SamplingDefaults
from python_core.contract.plan import MAX_BEATS, Beat, Plan, PlanError

MAX_PROMPT_CODE_POINTS = 1000
MAX_HISTORY_CODES = 64
MAX_DECODE_CODES = 4096
MAX_BEST_OF = 8
MAX_LEAD_S = 10.0
MAX_TEMPERATURE = 2.0
MAX_ROOT_M, MAX_YAW_RAD = 1e5, 1e4
"""Further out, steps of float32 are longer than a centimetre: a character would not move evenly."""
_ROUNDING = 1e-4
"""Durations arrive as float32: 1.4 s must still be 7 codes of 0.2 s."""


@dataclass(frozen=True)
class Limits:
    """What a request must keep."""

    max_duration_s: float
    """Longest motion."""
    code_duration_s: float
    """Length of one code, the shortest motion."""
    num_codes_known: int
    """Entries of the codebook: codes are less than this."""

    def num_codes(self, duration_s: float) -> int:
        """Codes that fit into a duration."""
        return whole_codes(duration_s, self.code_duration_s)


def whole_codes(duration_s: float, code_duration_s: float) -> int:
    """Codes that fit into a duration, both in seconds."""
    return math.floor(duration_s / code_duration_s + _ROUNDING)


@dataclass(frozen=True)
class History:
    """What a character has done before, and where it is; a motion goes on from there.

    Raises:
        ValueError: More than `MAX_HISTORY_CODES` codes, or a place beyond what float32 can tell apart.
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
        for name, most in (("root_x_m", MAX_ROOT_M), ("root_z_m", MAX_ROOT_M), ("yaw_rad", MAX_YAW_RAD)):
            if not abs(getattr(self, name)) <= most:
                raise ValueError(f"{name} of a history must be -{most:g} to {most:g}, got {getattr(self, name):g}")


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


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """A sentence to act out, and how to send it."""

    motion: MotionRequest
    pacing: Pacing
    best_of: int
    """Takes to choose from."""
    min_quality: float
    """Score below which the motion is refused."""


@dataclass(frozen=True, kw_only=True)
class DecodeRequest:
    """Codes to turn into frames, and how to send them."""

    codes: tuple[int, ...]
    history: History | None
    pacing: Pacing


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


def read_stream_request(
    message: motion_pb2.StreamMotionRequest, limits: Limits, defaults: SamplingDefaults
) -> StreamRequest:
    """Check a request for a motion.

    Raises:
        RequestError: Fields are outside their limits.
    """
    beats, beat_violations = _read_beats(message.beats)
    prompt = message.prompt
    if not prompt and beats is not None:
        prompt = ", then ".join(beat.text for beat in beats.beats)
    duration_s = message.max_duration_s if message.HasField("max_duration_s") else limits.max_duration_s
    temperature, top_p, violations = _read_sampling(message.sampling, defaults)
    pacing, pacing_violations = _read_pacing(message.pacing, limits)
    history, history_violations = _read_history(message.history if message.HasField("history") else None, limits)
    best_of = message.best_of if message.HasField("best_of") else 1
    _raise(
        _problem("prompt", None if message.beats and not message.prompt else _prompt_problem(prompt)),
        _problem("reasoning", _reasoning_problem(message.reasoning, bool(message.beats))),
        _problem("max_duration_s", _duration_problem(duration_s, limits)),
        violations,
        beat_violations,
        history_violations,
        pacing_violations,
        _problem("best_of", None if 1 <= best_of <= MAX_BEST_OF else f"must be 1 to {MAX_BEST_OF}, got {best_of}"),
        _problem(
            "min_quality",
            None if 0 <= message.min_quality <= 1 else f"must be a score of 0 to 1, got {message.min_quality:g}",
        ),
    )
    motion = MotionRequest(
        prompt=prompt,
        seed=message.seed,
        reasoning=message.reasoning != motion_pb2.REASONING_OFF,
        max_codes=limits.num_codes(duration_s),
        temperature=temperature,
        top_p=top_p,
        beats=beats,
        history=history,
    )
    return StreamRequest(motion=motion, pacing=pacing, best_of=best_of, min_quality=message.min_quality)


def read_plan_request(
    message: motion_pb2.PlanMotionRequest, limits: Limits, defaults: SamplingDefaults
) -> MotionRequest:
    """Check a request for a plan.

    Raises:
        RequestError: Fields are outside their limits.
    """
    temperature, top_p, violations = _read_sampling(message.sampling, defaults)
    _raise(_problem("prompt", _prompt_problem(message.prompt)), violations)
    return MotionRequest(
        prompt=message.prompt,
        seed=message.seed,
        reasoning=True,
        max_codes=limits.num_codes(limits.max_duration_s),
        temperature=temperature,
        top_p=top_p,
    )


def read_decode_request(message: motion_pb2.DecodeMotionRequest, limits: Limits) -> DecodeRequest:
    """Check a request to decode codes.

    Raises:
        RequestError: Fields are outside their limits.
    """
    pacing, pacing_violations = _read_pacing(message.pacing, limits)
    history, history_violations = _read_history(message.history if message.HasField("history") else None, limits)
    codes_problem = _codes_problem(message.codes, MAX_DECODE_CODES, limits)
    _raise(_problem("codes", codes_problem), history_violations, pacing_violations)
    return DecodeRequest(codes=tuple(message.codes), history=history, pacing=pacing)


def _raise(*violations: Iterable[Violation]) -> None:
    if found := [violation for some in violations for violation in some]:
        raise RequestError(found)


def _problem(name: str, description: str | None) -> list[Violation]:
    return [Violation(name, description)] if description else []


def _read_sampling(message: motion_pb2.Sampling, defaults: SamplingDefaults) -> tuple[float, float, list[Violation]]:
    temperature = message.temperature if message.HasField("temperature") else defaults.temperature
    top_p = message.top_p if message.HasField("top_p") else defaults.top_p
    violations = []
    if not 0 <= temperature <= MAX_TEMPERATURE:
        violations.append(Violation("sampling.temperature", f"must be 0 to {MAX_TEMPERATURE:g}, got {temperature:g}"))
    if not 0 < top_p <= 1:
        violations.append(Violation("sampling.top_p", f"must be more than 0 and at most 1, got {top_p:g}"))
    return temperature, top_p, violations


def _read_beats(messages: Sequence[motion_pb2.Beat]) -> tuple[Plan | None, list[Violation]]:
    if not messages:
        return None, []
    if len(messages) > MAX_BEATS:
        return None, [Violation("beats", f"must be at most {MAX_BEATS}, got {len(messages)}")]
    beats: list[Beat] = []
    violations: list[Violation] = []
    for number, message in enumerate(messages):
        try:
            tenths = 10 * message.duration_s
            if not math.isfinite(tenths) or abs(tenths - round(tenths)) > 1e-3:
                raise PlanError(f"duration_s is counted in tenths of a second, got {message.duration_s:g}")
            beats.append(Beat(message.text, round(message.duration_s, 1), tuple(message.body_parts)))
        except PlanError as error:
            violations.append(Violation(f"beats[{number}]", str(error)))
    return (None if violations else Plan(tuple(beats))), violations


def _read_history(message: motion_pb2.History | None, limits: Limits) -> tuple[History | None, list[Violation]]:
    if message is None:
        return None, []
    violations = _problem("history.codes", _codes_problem(message.codes, MAX_HISTORY_CODES, limits))
    if not message.HasField("root"):
        violations.append(Violation("history.root", "is needed: next_root of the chunk of the last of these codes"))
    if violations:
        return None, violations
    root = message.root
    try:
        return History(tuple(message.codes), root.x_m, root.z_m, root.yaw_rad), []
    except ValueError as error:
        return None, [Violation("history.root", str(error))]


def _read_pacing(message: motion_pb2.Pacing, limits: Limits) -> tuple[Pacing, list[Violation]]:
    known = motion_pb2.PacingMode.items()
    if message.mode not in dict(known).values():
        return Pacing(None), [Violation("pacing.mode", _one_of(known, message.mode))]
    real_time = message.mode == motion_pb2.PACING_MODE_REALTIME
    lead_s = message.max_lead_s if message.HasField("max_lead_s") else max(DEFAULT_LEAD_S, limits.code_duration_s)
    if message.HasField("max_lead_s") and not real_time:
        return Pacing(None), [Violation("pacing.max_lead_s", "is for PACING_MODE_REALTIME only; set mode or leave it")]
    shortest = limits.code_duration_s
    if not shortest * (1 - _ROUNDING) <= lead_s <= MAX_LEAD_S * (1 + _ROUNDING):
        problem = f"must be {shortest:g} (one code) to {MAX_LEAD_S:g} seconds, got {lead_s:g}"
        return Pacing(None), [Violation("pacing.max_lead_s", problem)]
    return Pacing(lead_s if real_time else None), []


def _codes_problem(codes: Sequence[int], most: int, limits: Limits) -> str | None:
    if not 1 <= len(codes) <= most:
        return f"must be 1 to {most} codes, got {len(codes)}"
    for place, code in enumerate(codes):
        if not 0 <= code < limits.num_codes_known:
            return f"codes of this model go from 0 to {limits.num_codes_known - 1}, got {code} at place {place}"
    return None


def _prompt_problem(prompt: str) -> str | None:
    if not prompt.strip():
        return f"must say what the character does, got {'nothing' if not prompt else 'white space only'}"
    if len(prompt) > MAX_PROMPT_CODE_POINTS:
        return f"must be at most {MAX_PROMPT_CODE_POINTS} code points, got {len(prompt)}; shorten it"
    return None


def _reasoning_problem(reasoning: int, has_beats: bool) -> str | None:
    known = motion_pb2.Reasoning.items()
    if reasoning not in dict(known).values():
        return _one_of(known, reasoning)
    if has_beats and reasoning == motion_pb2.REASONING_OFF:
        return "must not be REASONING_OFF where beats are given; leave out one of them"
    return None


def _one_of(known: Iterable[tuple[str, int]], value: int) -> str:
    return f"must be one of {', '.join(f'{name} ({number})' for name, number in known)}, got {value}"


def _duration_problem(duration_s: float, limits: Limits) -> str | None:
    longest, shortest = limits.max_duration_s, limits.code_duration_s
    if shortest * (1 - _ROUNDING) <= duration_s <= longest * (1 + _ROUNDING):
        return None
    return f"must be {shortest:g} (one code) to {longest:g} seconds, got {duration_s:g}"
