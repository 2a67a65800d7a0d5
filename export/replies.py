"""Replies of the checkpoint: what calibration sees, and what parity lets both sides read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from rich.progress import Progress

from export.source import Source
from python_core.contract.prompt import PromptTemplate
from python_core.contract.vocabulary import PROMPT_TEMPLATE
from python_core.evaluation.generation import Prompt, Sampling, generate
from python_core.reply_mask import longest_reply

PROMPTS = (
    "a person walks forward and then turns around",
    "someone sneaks forward slowly",
    "a person does a squat",
    "the man kicks with the left leg, then stands still",
    "a person jumps up and down three times",
    "walk in a circle while waving the right arm",
    "a person picks something up from the floor",
    "someone throws a ball and steps back",
    "a woman sits down, then stands up again",
    "the person stretches both arms above the head",
    "run forward, stop, then walk backwards",
    "a person punches with the right hand",
)
"""What is asked where no captions are given."""
AT_ONCE = 16
MAX_CODES = 49


@dataclass(frozen=True)
class WrittenReply:
    """A prompt and its reply as token ids, and the reply's codes."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    codes: tuple[int, ...]


def sample_replies(
    source: Source, captions: Sequence[str], num_tokens: int, seed: int, progress: Progress, what: str
) -> list[WrittenReply]:
    """Let torch write replies within the grammar, every other batch without a plan, until they have enough tokens.

    Raises:
        ValueError: The model has no room for a prompt and a code.
    """
    replies: list[WrittenReply] = []
    template = PromptTemplate(source.tokenizer, PROMPT_TEMPLATE, source.tokens)
    task = progress.add_task(what, total=num_tokens)
    written = 0
    for prompts, reasoning in _batches(captions):
        asked = [template.ids(prompt.text) for prompt in prompts]
        sampling = Sampling(max_codes=most_codes(source, max(map(len, asked))), constrained=True, reasoning=reasoning)
        model, tokenizer, tokens = source.language_model, source.tokenizer, source.tokens
        for ids, reply in zip(asked, generate(model, tokenizer, tokens, prompts, sampling, seed), strict=True):
            codes = tuple(reply.codes)
            replies.append(WrittenReply(tuple(ids), reply.token_ids, codes))
            written += len(reply.token_ids)
        seed += 1
        progress.update(task, completed=min(written, num_tokens))
        if written >= num_tokens:
            break
    return replies


def _batches(captions: Sequence[str]) -> Iterator[tuple[list[Prompt], bool]]:
    for number in count():
        places = range(number * AT_ONCE, (number + 1) * AT_ONCE)
        yield [Prompt(captions[place % len(captions)]) for place in places], number % 2 == 0


def most_codes(source: Source, prompt_tokens: int) -> int:
    """Codes of the longest reply that is asked for, which the model must have room for.

    Raises:
        ValueError: It has room for none.
    """
    room = source.language_model.config.max_position_embeddings - prompt_tokens
    most = min(MAX_CODES, room - longest_reply(0))
    if most < 1:
        raise ValueError(
            f"a prompt of {prompt_tokens} tokens, a plan and a code do not fit a model of "
            f"{source.language_model.config.max_position_embeddings} positions; train one with more max_tokens"
        )
    return most
