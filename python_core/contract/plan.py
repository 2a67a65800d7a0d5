"""The reasoning as typed beats.

    1. walk forward, 2.0 s 2. turn left, 0.8 s 3. wave (right arm), 1.6 s

A beat has a text, the parts of the body that it is about (none: the whole body) and a duration.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_BEATS = 5
MIN_BEAT_S, MAX_BEAT_S = 0.1, 60.0
MOST_PLANS = 5
"""Plans that are drawn before a reply counts as malformed: a small model now and then writes one that is none."""
BODY_PARTS = (
    "head", "torso", "left arm", "right arm", "both arms", "left hand", "right hand", "left leg", "right leg",
    "both legs", "left foot", "right foot",
)  # fmt: skip

_BEAT = re.compile(r"(\d+)\. (.+?)(?: \(([^()]+)\))?, (\d+\.\d) s(?: (?=\d+\. )|$)")
_FORBIDDEN = re.compile(r"[<>()\n]|\d+\. |, \d+\.\d s")


class PlanError(ValueError):
    """A reasoning that is not a plan; says what was expected and what came."""


class Tokenizer(Protocol):
    """The part of `tokenizers.Tokenizer` that is used here."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...


@dataclass(frozen=True)
class Beat:
    """One step of a plan.

    Raises:
        PlanError: No text, text that would read as the end of a beat, an unknown body part, no duration.
    """

    text: str
    duration_s: float
    """Kept to a tenth of a second, as it is written."""
    body_parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.text or self.text != " ".join(self.text.split()):
            raise PlanError(f"a beat's text is words with single spaces, got {self.text!r}")
        if found := _FORBIDDEN.search(self.text):
            raise PlanError(f"a beat's text cannot hold {found.group()!r}, got {self.text!r}")
        if unknown := [part for part in self.body_parts if part not in BODY_PARTS]:
            raise PlanError(f"unknown body parts {unknown}; known are {', '.join(BODY_PARTS)}")
        if not MIN_BEAT_S <= self.duration_s <= MAX_BEAT_S:
            raise PlanError(f"a beat lasts {MIN_BEAT_S:g} to {MAX_BEAT_S:g} seconds, got {self.duration_s}")


@dataclass(frozen=True)
class Plan:
    """Beats in order.

    Raises:
        PlanError: No beat, or more than `MAX_BEATS`.
    """

    beats: tuple[Beat, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.beats) <= MAX_BEATS:
            raise PlanError(f"a plan has 1 to {MAX_BEATS} beats, got {len(self.beats)}")

    @property
    def duration_s(self) -> float:
        return sum(beat.duration_s for beat in self.beats)


def format_plan(plan: Plan) -> str:
    """Write a plan as the model writes it; `parse_plan` reads it back."""
    steps = []
    for number, beat in enumerate(plan.beats, start=1):
        parts = f" ({', '.join(beat.body_parts)})" if beat.body_parts else ""
        steps.append(f"{number}. {beat.text}{parts}, {beat.duration_s:.1f} s")
    return " ".join(steps)


def parse_plan(text: str) -> Plan:
    """Read a plan from reasoning.

    Raises:
        PlanError: Text that is not numbered beats with durations from the first character to the last.
    """
    text = text.strip()
    beats, end = [], 0
    while end < len(text):
        match = _BEAT.match(text, end)
        if match is None:
            raise PlanError(f"expected '{len(beats) + 1}. what is done, 1.0 s', got {text[end:]!r}")
        number, words, parts, duration = match.groups()
        if number != str(len(beats) + 1):
            raise PlanError(f"expected beat {len(beats) + 1}, got beat {number} in {text!r}")
        beats.append(Beat(words, float(duration), tuple(parts.split(", ")) if parts else ()))
        end = match.end()
    return Plan(tuple(beats))


def reasoning_text(tokenizer: Tokenizer, token_ids: Sequence[int]) -> str:
    """Reasoning as text. Nothing is left out of it: with a special token in it, it is no plan."""
    return tokenizer.decode(token_ids, skip_special_tokens=False)


def planned_codes(plan: Plan, code_duration_s: float) -> tuple[int, int]:
    """Codes of a motion that follows a plan, at least and at most: the plan's seconds in whole codes, or one less."""
    most = max(1, round(plan.duration_s / code_duration_s))
    return max(1, most - 1), most
