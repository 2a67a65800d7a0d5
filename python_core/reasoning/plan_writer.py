"""What writes plans for captions: the interface that `build-reasoning` asks, and the planner behind it."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from python_core.contract.plan import Plan

if TYPE_CHECKING:
    from python_core.reasoning.planner import Planner

BATCH = 512
"""Captions that the planner tags at a time."""

Why = Literal["format", "length", "duration", "relevance", "order", "brevity", "unreadable check", "refused"]
"""What was wrong with a plan; `refused`: the endpoint would not answer for this caption."""


@dataclass(frozen=True)
class Sentence:
    """A caption to write a plan for."""

    caption: str
    duration_s: float


@dataclass(frozen=True)
class Rejection:
    """A plan that was not taken."""

    why: Why
    detail: str
    """In words, as the writer is told."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What came of one sentence: a plan; none, because each one was rejected; or none, because of a failure."""

    plan: Plan | None
    rejections: tuple[Rejection, ...] = ()
    """In the order in which they came."""
    failure: str | None = None
    """Why the writer could not be asked; the same sentence may do well later."""
    num_requests: int = 0
    num_tokens: int = 0
    """Read and written by the model, as the endpoint counts them."""


class Writer(Protocol):
    """Writes plans."""

    @property
    def name(self) -> str:
        """What its records carry as their writer."""
        ...

    @property
    def prompt_version(self) -> str:
        """Changes with what the writer is told or how it works."""
        ...

    def write(self, sentences: Sequence[Sentence]) -> AsyncGenerator[tuple[int, Written], None]:
        """Write plans as they come, each with the index of its sentence.

        Raises:
            ValueError: The writer cannot go on; what had come before was given.
        """
        ...


class PlannerWriter:
    """Writes plans with the deterministic planner, in the order of the sentences."""

    name = "planner"
    prompt_version = "1"

    def __init__(self, planner: "Planner") -> None:
        self._planner = planner

    async def write(self, sentences: Sequence[Sentence]) -> AsyncGenerator[tuple[int, Written], None]:
        """Write a plan for each sentence; none is rejected."""
        for first in range(0, len(sentences), BATCH):
            for index, plan in enumerate(self.plan(sentences[first : first + BATCH]), start=first):
                yield index, Written(plan=plan)

    def plan(self, sentences: Sequence[Sentence]) -> list[Plan]:
        """The plans of sentences, at once."""
        return self._planner.plan_many([(sentence.caption, sentence.duration_s) for sentence in sentences])
