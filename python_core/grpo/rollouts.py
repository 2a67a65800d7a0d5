"""Rollouts: replies that the model in training samples for its prompts, in the form that TRL's `rollout_func` asks for.

As in serving, a request names its form, with or without reasoning, so the first token of a reply is given. A share of
the prompts is decoded under the grammar of replies, the others freely, or the format reward would mean nothing; a free
reply ends where it breaks the grammar, since nothing that follows could mend it. The same prompt has the same form in
its whole group, on whichever process its replies are sampled. Tokens that were forced are marked: the model is neither
praised nor blamed for them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

from python_core.contract.prompt import PromptTemplate
from python_core.contract.vocabulary import PROMPT_TEMPLATE, ReplyParser, TokenLayout
from python_core.reply_mask import ReplyRow, longest_reply
from python_core.reply_sampling import sample_replies


@dataclass(frozen=True)
class ReplyForm:
    """What is asked of the replies of one group."""

    reasoning: bool
    """The reply begins with `<think>`; else with `<Motion>`."""
    constrained: bool
    """Only tokens that fit the grammar can be sampled."""


@dataclass(frozen=True, kw_only=True)
class FormShares:
    """How many prompts get which form.

    Raises:
        ValueError: A share is not within 0 and 1.
    """

    reasoning: float
    """Share that is asked to reason."""
    constrained: float
    """Share that is decoded under the grammar."""

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}_share goes from 0 to 1, got {share}")

    def form(self, seed: int, step: int, prompt: str) -> ReplyForm:
        """The form of a prompt in a step, the same on every process and in every run."""
        digest = hashlib.sha256(f"{seed} {step} {prompt}".encode()).digest()
        first, second = (int.from_bytes(digest[start : start + 8], "big") / 2**64 for start in (0, 8))
        return ReplyForm(reasoning=first < self.reasoning, constrained=second < self.constrained)


class Rollouts:
    """Samples replies with the model of a `GRPOTrainer`; an instance is its `rollout_func`."""

    def __init__(
        self, tokenizer: Tokenizer, layout: TokenLayout, shares: FormShares, max_codes: int, seed: int
    ) -> None:
        self.tokenizer, self.layout, self.shares = tokenizer, layout, shares
        self.template = PromptTemplate(tokenizer, PROMPT_TEMPLATE, layout)
        self.max_codes, self.seed = max_codes, seed

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """One reply for each prompt, of which TRL sends a copy for each reply of a group.

        Returns:
            What TRL wants (`prompt_ids`, `completion_ids`, `logprobs`), 0 in its `env_mask` for each token that the
            model did not choose, and two columns for the rewards, `reasoning_asked` and `constrained`.
        """
        forms = [self.shares.form(self.seed, trainer.state.global_step, prompt) for prompt in prompts]
        asked = [self.prompt_ids(prompt) for prompt in prompts]
        if trainer.use_vllm:
            # vLLM has no grammar of ours.
            forms = [ReplyForm(form.reasoning, constrained=False) for form in forms]
            replies, logprobs = self._sample_by_vllm(trainer, asked, forms)
            chosen = [[0, *([1] * (len(reply) - 1))] for reply in replies]
        else:
            replies, chosen = self.sample(trainer, asked, forms)
            logprobs = None
        return {
            "prompt_ids": asked,
            "completion_ids": replies,
            "logprobs": logprobs,
            "env_mask": chosen,
            "reasoning_asked": [form.reasoning for form in forms],
            "constrained": [form.constrained for form in forms],
        }

    def prompt_ids(self, prompt: str) -> list[int]:
        """A prompt in its template, as the bridge encodes it.

        Raises:
            PromptError: The prompt is empty or holds control tokens.
        """
        return self.template.ids(prompt)

    def sample(
        self, trainer: Any, prompts: Sequence[list[int]], forms: Sequence[ReplyForm]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Replies to encoded prompts, each with the token that ends the turn unless it was cut off; and for each of
        their tokens 1 if the model chose it, 0 if it was forced.
        """
        from trl.models.utils import unwrap_model_for_generation

        rows = [self._row(form) for form in forms]
        wrapped = trainer.model_wrapped
        unwrapped = unwrap_model_for_generation(
            wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
            gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
        )
        with unwrapped as model, _whole_root(wrapped):
            sample_replies(model, prompts, rows, longest_reply(self.max_codes), trainer.temperature)
        return [row.token_ids for row in rows], [[int(not forced) for forced in row.forced] for row in rows]

    def _sample_by_vllm(
        self, trainer: Any, prompts: Sequence[list[int]], forms: Sequence[ReplyForm]
    ) -> tuple[list[list[int]], list[list[float | None]]]:
        """The same by vLLM, which TRL has given the weights. None stands for the log-probability of the opening, which
        was not sampled; TRL then corrects nothing there.
        """
        generations = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
        inputs = [[*ids, self._opening(form)] for ids, form in zip(prompts, forms, strict=True)]
        _, written, logprobs, _ = trainer.vllm_generation.generate(
            prompts=inputs, images=None, num_generations=generations
        )
        replies = [[opened[-1], *ids] for opened, ids in zip(inputs, written, strict=True)]
        return replies, [[None, *(top[0] for top in of_reply)] for of_reply in logprobs]

    def _opening(self, form: ReplyForm) -> int:
        return self.layout.think_open if form.reasoning else self.layout.motion_open

    def _row(self, form: ReplyForm) -> ReplyRow:
        return ReplyRow(ReplyParser(self.layout), self.max_codes, form.constrained, given=[self._opening(form)])


@contextmanager
def _whole_root(model: Any) -> Iterator[None]:
    """Where FSDP, of either version, holds a model in parts: put together what its layers do not hold. The depth head
    is among that, and speaks between two steps of the model.
    """
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model, recurse=False):
            yield
    elif isinstance(model, FSDPModule):
        # Or the first step would take it apart again.
        model.set_reshard_after_forward(False, recurse=False)
        model.unshard()
        try:
            yield
        finally:
            model.reshard()
    else:
        yield
