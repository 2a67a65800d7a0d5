"""Replies as what they say: plan, codes and motion. They are read and decoded as the bridge does it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from python_core.contract.motion import Motion
from python_core.contract.plan import Plan, PlanError, parse_plan, reasoning_text
from python_core.contract.quality import QualityReport, measure_quality
from python_core.contract.vocabulary import ReplyError, TokenLayout, parse_reply
from python_core.evaluation.judgement import judged_features
from python_core.motion_tokenizer import MotionTokenizer


@dataclass(frozen=True, eq=False, kw_only=True)
class Rollout:
    """A reply that is well-formed, and what it decodes to."""

    plan: Plan | None
    """None where no reasoning was asked for, or where its text is no plan and need not be one."""
    num_plan_tokens: int
    """Of the reasoning, also where it is no plan; 0 without."""
    motion: Motion
    rows: NDArray[np.float32]
    """`judged_features`"""

    @cached_property
    def quality(self) -> QualityReport:
        """What the bridge reports with the motion."""
        return measure_quality(self.motion)


class ReplyReader:
    """Reads each batch of replies once, whoever asks.

    Args:
        motion_tokenizer: Decodes codes.
        tokenizer: Decodes reasoning.
        layout: Where the tokens of replies are.
        any_reasoning: Reasoning need not be a plan, as in the paper; it is a token or more.
    """

    def __init__(
        self, motion_tokenizer: MotionTokenizer, tokenizer: Tokenizer, layout: TokenLayout, any_reasoning: bool = False
    ) -> None:
        self.motion_tokenizer, self.tokenizer, self.layout = motion_tokenizer, tokenizer, layout
        self.any_reasoning = any_reasoning
        self._last: tuple[list[list[int]], list[bool], list[Rollout | None]] = ([], [], [])

    def read(self, replies: list[list[int]], reasoning_asked: list[bool]) -> list[Rollout | None]:
        """What replies say and decode to; None for those that are not of the form that was asked for."""
        if self._last[:2] != (replies, reasoning_asked):
            parsed = [self._parse(*reply) for reply in zip(replies, reasoning_asked, strict=True)]
            motions = iter(self.motion_tokenizer.decode_all([found[2] for found in parsed if found]))
            rollouts: list[Rollout | None] = []
            for found in parsed:
                if found is None:
                    rollouts.append(None)
                    continue
                plan, num_plan_tokens, _ = found
                motion = next(motions)
                rows = judged_features(motion)
                rollouts.append(Rollout(plan=plan, num_plan_tokens=num_plan_tokens, motion=motion, rows=rows))
            self._last = ([list(ids) for ids in replies], list(reasoning_asked), rollouts)
        return self._last[2]

    def _parse(self, token_ids: list[int], reasoning_asked: bool) -> tuple[Plan | None, int, list[int]] | None:
        """Plan, tokens of reasoning and codes."""
        try:
            reply = parse_reply(token_ids, self.layout)
        except ReplyError:
            return None
        if (reply.reasoning_ids is not None) != reasoning_asked:
            return None
        if reply.reasoning_ids is None:
            return None, 0, reply.codes
        if not reply.reasoning_ids:
            return None
        try:
            plan = parse_plan(reasoning_text(self.tokenizer, reply.reasoning_ids))
        except PlanError:
            if not self.any_reasoning:
                return None
            plan = None
        return plan, len(reply.reasoning_ids), reply.codes
