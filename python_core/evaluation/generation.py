"""Replies of a language model to prompts, a batch at a time, sampled under the grammar of replies or free of it.

A reply that breaks the grammar is over at that token: nothing that comes after could mend it. Under the grammar replies
can be drawn as the bridge draws them: reasoning that is no plan is drawn again, and a motion is as long as its plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from tokenizers import Tokenizer

from python_core.contract.plan import MOST_PLANS, parse_plan, planned_codes, reasoning_text
from python_core.contract.prompt import PromptTemplate
from python_core.contract.vocabulary import PROMPT_TEMPLATE, ReplyError, ReplyParser, TokenLayout, parse_reply
from python_core.motion_model import SpeaksMotion
from python_core.reply_mask import ReplyRow, longest_reply
from python_core.reply_sampling import sample_replies


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How replies are drawn."""

    temperature: float = 1.0
    """Below 1 the likely tokens become more so."""

    top_p: float = 1.0
    """Only the likeliest tokens that have this probability together are drawn."""

    depth_temperature: float = 1.0
    """Of the levels of a code after its first, times `temperature`."""

    reasoning_temperature: float = 1.0
    """Of the reasoning, times `temperature`."""

    max_codes: int = 49
    """A reply that the grammar holds ends after so many codes; a free one has no room for more."""

    constrained: bool = False
    """Only tokens that the grammar allows are drawn; `evaluate` draws replies as the bridge does then."""

    reasoning: bool = True
    """Without, a reply begins with its motion; with it, under the grammar, with its reasoning."""

    def __post_init__(self) -> None:
        for name in ("temperature", "depth_temperature", "reasoning_temperature"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"{name} must be 0, for the likeliest, or more, got {value}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.max_codes < 1:
            raise ValueError(f"max_codes must be at least 1, got {self.max_codes}")


@dataclass(frozen=True)
class Prompt:
    """What the model is asked."""

    text: str
    history: tuple[int, ...] = ()
    """Codes that its motion begins with, and goes on from."""


@dataclass(frozen=True, eq=False)
class Reply:
    """What it answered."""

    token_ids: tuple[int, ...]
    """As they were drawn, the end of the turn included where it came."""
    parsed: ReplyParser | None
    """None where it is malformed."""
    error: str
    """What is wrong with it; empty where nothing is."""
    num_history: int = 0

    @property
    def codes(self) -> list[int]:
        """Codes that the model wrote after the history; none where the reply is malformed."""
        return [] if self.parsed is None else self.parsed.codes[self.num_history :]


def read_reply(token_ids: Sequence[int], layout: TokenLayout, num_history: int = 0) -> Reply:
    """Parse the tokens of a reply, the history included."""
    try:
        parsed = parse_reply(token_ids, layout)
        if len(parsed.codes) <= num_history:
            raise ReplyError(f"the reply ends with its history of {num_history} codes; expected codes of its own")
    except ReplyError as error:
        return Reply(tuple(token_ids), None, str(error), num_history)
    return Reply(tuple(token_ids), parsed, "", num_history)


def generate(
    model: SpeaksMotion,
    tokenizer: Tokenizer,
    layout: TokenLayout,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    seed: int,
    served_code_s: float | None = None,
) -> list[Reply]:
    """Draw a reply to each prompt. The same batch with the same seed gives the same replies on the same device.

    Args:
        model: The model.
        tokenizer: Its text tokenizer.
        layout: Where the tokens of replies are.
        prompts: What is asked.
        sampling: How replies are drawn.
        seed: Of the draws.
        served_code_s: Seconds of a code, if what the grammar holds is to be drawn as the bridge draws it; a reply none
            of whose `MOST_PLANS` drafts of a plan was one is malformed.

    Raises:
        ValueError: The model has no room for a prompt and `max_codes`.
        PromptError: A prompt holds control tokens, or nothing.
    """
    template = PromptTemplate(tokenizer, PROMPT_TEMPLATE, layout)
    asked = [template.ids(prompt.text) for prompt in prompts]
    longest, history = max(map(len, asked)), max(len(prompt.history) for prompt in prompts)
    max_new = longest_reply(history + sampling.max_codes, sampling.reasoning)
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and longest + max_new > room:
        raise ValueError(
            f"a prompt of {longest} tokens and a reply of up to {max_new} do not fit a model of {room}; lower "
            f"max_codes, now {sampling.max_codes}" + (f", or the history, now {history} codes" if history else "")
        )
    lasts = None
    if sampling.constrained and served_code_s is not None:
        lasts = partial(_planned_codes, tokenizer, served_code_s)
    opening = layout.think_open if sampling.reasoning else layout.motion_open

    def begin(prompt: Prompt) -> ReplyRow:
        return ReplyRow(
            parser=ReplyParser(layout),
            max_codes=len(prompt.history) + sampling.max_codes,
            constrained=sampling.constrained,
            given=[opening] if sampling.constrained or not sampling.reasoning else [],
            history=[token for code in prompt.history for token in layout.code_ids(code)],
            min_codes=len(prompt.history) + 1,
            lasts=lasts,
        )

    device, rows, todo = model.device, dict[int, ReplyRow](), [*range(len(prompts))]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for _ in range(MOST_PLANS):
            drawn = {place: begin(prompts[place]) for place in todo}
            of_drawn = [asked[place] for place in drawn]
            sample_replies(
                model,
                of_drawn,
                [*drawn.values()],
                max_new,
                sampling.temperature,
                sampling.top_p,
                sampling.depth_temperature,
                sampling.reasoning_temperature,
            )
            rows |= drawn
            todo = [place for place, row in drawn.items() if row.is_unplanned]
            if not todo:
                break
    return [read_reply(rows[place].token_ids, layout, len(prompt.history)) for place, prompt in enumerate(prompts)]


def _planned_codes(tokenizer: Tokenizer, code_s: float, reasoning_ids: Sequence[int]) -> tuple[int, int]:
    return planned_codes(parse_plan(reasoning_text(tokenizer, reasoning_ids)), code_s)
