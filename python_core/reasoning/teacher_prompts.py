"""What a teacher model is told, and how its answers are read."""

import re

from python_core.contract.plan import BODY_PARTS, MAX_BEATS, Beat, Plan, PlanError, format_plan, parse_plan
from python_core.reasoning.plan_writer import Rejection, Sentence, Why
from python_core.reasoning.planner import BEAT_UNIT_S, beat_seconds, share_units

PROMPT_VERSION = "1"
"""Written to each record; one more with every change to a prompt here."""

MAX_BEAT_TOKENS = 16
MAX_PLAN_TOKENS = 80
DURATION_SLACK = 0.3
"""Share of a clip by which the seconds of a plan may miss it; within that they are fitted."""
LETTERS_IN_A_TOKEN = 8
"""Longer words are more than one token."""

INSTRUCTIONS = f"""You break the caption of a human motion into the steps that the body does, in the order of time.

Answer with 1 to {MAX_BEATS} numbered beats, one a line, and with nothing else:
NUMBER. WHAT IS DONE (BODY PARTS), SECONDS s

- WHAT IS DONE begins with a verb in its base form and has no subject. Keep directions, sides, counts and manner that the caption gives. Add nothing that it does not say.
- (BODY PARTS) only where it matters which part acts, separated by commas, from this list: {", ".join(BODY_PARTS)}. Leave the brackets out otherwise.
- SECONDS has one decimal. The seconds of all beats together are the duration of the clip.
- What is done at the same time is one beat: "walk forward while waving".
- A beat has at most {MAX_BEAT_TOKENS} tokens with its number and seconds, which is about eight words; the answer at most {MAX_PLAN_TOKENS}.

Caption: after walking forward, a person turns left and sits down on a chair.
Duration: 5.0 s
1. walk forward, 2.4 s
2. turn left, 1.0 s
3. sit down on a chair, 1.6 s

Caption: someone waves with the right hand three times.
Duration: 3.2 s
1. wave three times (right hand), 3.2 s"""  # noqa: E501  # a prompt has one line for a rule

CHECK = """You check a plan for the motion that a caption describes. Judge three things:

- relevance: each beat is said or clearly meant by the caption, and nothing of the caption is missing, sides, directions and counts included.
- order: the beats come in the order of time that the caption means.
- brevity: no beat is said twice, split without need, or wordy.

Answer with exactly three lines, and give a short reason after a fail:
relevance: pass
order: fail, the turn comes before the walk
brevity: pass"""  # noqa: E501  # a prompt has one line for a rule

_THOUGHTS = re.compile(r"^.*</think>", re.DOTALL)
_FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
_VERDICT = re.compile(
    r"^[^\w\n]*(relevance|order|brevity)[^\w\n]+(pass|fail)\w*[^\w\n]*(.*)$", re.IGNORECASE | re.MULTILINE
)
_PIECES = re.compile(r"[a-z']+|\d|[^\sa-z\d]|(?<=\D) (?=\d)", re.IGNORECASE)


class PlanRejectedError(ValueError):
    """A plan that is not taken."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(detail)
        self.rejection = Rejection(why, detail)


def ask_for_plan(sentence: Sentence) -> str:
    """The question that goes with `INSTRUCTIONS`."""
    return f"Caption: {' '.join(sentence.caption.split())}\nDuration: {sentence.duration_s:.1f} s"


def ask_to_rewrite(rejection: Rejection) -> str:
    """The question that follows a plan that was rejected."""
    return f"This plan is not taken ({rejection.why}): {rejection.detail}\nWrite it again, with nothing else."


def ask_to_check(sentence: Sentence, plan: Plan) -> str:
    """The question that goes with `CHECK`."""
    return f"{ask_for_plan(sentence)}\nPlan: {format_plan(plan)}"


def read_plan(answer: str, duration_s: float) -> Plan:
    """Read an answer to `ask_for_plan`; its seconds are fitted to those of the clip.

    What a model thinks aloud before it answers, and the fences of a code block, are passed over.

    Raises:
        PlanRejectedError: Not a plan, too long, or not of the clip's duration.
    """
    text = " ".join(_FENCE.sub("", _THOUGHTS.sub("", answer)).split())
    try:
        plan = parse_plan(text)
    except PlanError as error:
        raise PlanRejectedError("format", str(error)) from error
    for number, beat in enumerate(plan.beats, start=1):
        if (tokens := count_tokens(f"{number}. {format_plan(Plan((beat,)))[3:]}")) > MAX_BEAT_TOKENS:
            raise PlanRejectedError(
                "length", f"beat {number} has about {tokens} tokens, at most {MAX_BEAT_TOKENS} fit; use fewer words"
            )
    if (tokens := count_tokens(format_plan(plan))) > MAX_PLAN_TOKENS:
        raise PlanRejectedError("length", f"the plan has about {tokens} tokens, at most {MAX_PLAN_TOKENS} fit")
    return _fit(plan, duration_s)


def read_verdict(answer: str) -> Rejection | None:
    """Read an answer to `ask_to_check`; None where all three are passed, else the first that is not."""
    verdicts = {match[1].lower(): match for match in _VERDICT.finditer(_THOUGHTS.sub("", answer))}
    criteria: tuple[Why, ...] = ("relevance", "order", "brevity")
    if missing := [name for name in criteria if name not in verdicts]:
        return Rejection("unreadable check", f"the check does not say pass or fail for {', '.join(missing)}")
    for name in criteria:
        if verdicts[name][2].lower() == "fail":
            return Rejection(name, verdicts[name][3].strip() or f"{name} is not right")
    return None


def count_tokens(text: str) -> int:
    """About how many tokens a text is: words by their length, each digit, each sign.

    For plans, a tokenizer of 49,000 words differs from it by at most one token in 93 of 100 beats.
    """
    return sum(1 + (len(piece) - 1) // LETTERS_IN_A_TOKEN for piece in _PIECES.findall(text))


def _fit(plan: Plan, duration_s: float) -> Plan:
    """Scale the seconds of a plan to a clip's, in units of `BEAT_UNIT_S`."""
    num_units = max(1, round(duration_s / BEAT_UNIT_S))
    if len(plan.beats) > num_units:
        raise PlanRejectedError("duration", f"{duration_s:.1f} s hold at most {num_units} beats, not {len(plan.beats)}")
    if abs(plan.duration_s - duration_s) > max(DURATION_SLACK * duration_s, BEAT_UNIT_S):
        raise PlanRejectedError(
            "duration", f"the beats last {plan.duration_s:.1f} s together, the clip lasts {duration_s:.1f} s"
        )
    units = share_units([beat.duration_s for beat in plan.beats], num_units)
    return Plan(
        tuple(
            Beat(beat.text, beat_seconds(count), beat.body_parts) for beat, count in zip(plan.beats, units, strict=True)
        )
    )
