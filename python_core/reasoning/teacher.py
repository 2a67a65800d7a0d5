"""A teacher model writes plans: any endpoint that speaks OpenAI's chat completions, checked by itself.

Each caption is one conversation: a plan, a check of it in a conversation of its own, and where it is rejected the
reason and the next plan. Requests that fail are made again, later and later.
"""

import asyncio
import email.utils
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from python_core.contract.plan import Plan
from python_core.reasoning.plan_writer import Rejection, Sentence, Written
from python_core.reasoning.teacher_prompts import (
    CHECK,
    INSTRUCTIONS,
    PROMPT_VERSION,
    PlanRejectedError,
    ask_for_plan,
    ask_to_check,
    ask_to_rewrite,
    read_plan,
    read_verdict,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

HOPELESS_STATUSES = (401, 403, 404, 405)
"""What no other caption and no later time will change: the key, the model's name or the address are wrong."""
RETRIED_STATUSES = (408, 409, 425, 429)
"""Besides all from 500 on."""
MAX_FAILURES_IN_A_ROW = 10
"""Captions without an answer, none with one between them, after which the endpoint is given up."""


class EndpointError(ValueError):
    """The endpoint cannot be used any more; says why and what to do."""


class BudgetSpentError(EndpointError):
    """No request is left in the budget."""


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """An endpoint with chat completions as OpenAI has them: a vendor's, vLLM, llama.cpp, Ollama.

    Raises:
        ValueError: A field that does not make sense.
    """

    base_url: str = "http://127.0.0.1:8080/v1"
    """Address up to and with the version."""

    model: str = ""
    """Name of the model, as the endpoint knows it."""

    api_key_variable: str | None = None
    """Environment variable that holds the key; None sends none, as local servers have it."""

    concurrency: int = 8
    """Captions that are asked for at a time."""

    max_rewrites: int = 3
    """Plans after the first that a caption may get."""

    timeout_s: float = 120.0
    """Seconds to wait for an answer."""

    retries: int = 5
    """Times that a failed request is made again."""

    first_wait_s: float = 1.0
    """Seconds before a failed request is made again; twice as many before each further time."""

    max_wait_s: float = 60.0
    """Most seconds between two tries, also where the endpoint asks for more."""

    max_requests: int | None = None
    """Budget of requests, failed ones included; None sets no limit."""

    max_tokens: int | None = None
    """Budget of tokens, read and written; requests under way when it is reached still count on top."""

    temperature: float | None = 0.3
    """Of the model; None leaves it to the endpoint, as some reasoning models want it."""

    max_answer_tokens: int | None = 1024
    """Limit of one answer, sent as `max_tokens`; None sends none. Reasoning models need more, or none."""

    def __post_init__(self) -> None:
        positive = ("concurrency", "timeout_s", "max_requests", "max_tokens", "max_answer_tokens")
        not_negative = ("max_rewrites", "retries", "first_wait_s", "max_wait_s")
        for name in (*positive, *not_negative):
            value = getattr(self, name)
            if value is not None and (value < 0 or (name in positive and value == 0)):
                raise ValueError(
                    f"{name}: expected {'more than 0' if name in positive else '0 or more'}, got {value}; set another"
                )


@dataclass
class Spending:
    """What an endpoint was asked for, in this run and in those before that it goes on from."""

    num_requests: int = 0
    num_tokens: int = 0


class _FailedRequestError(Exception):
    """A request that got no answer; another time may."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        """Seconds that the endpoint asks to wait."""


@dataclass
class _Conversation:
    """What one caption has cost and brought so far."""

    sentence: Sentence
    rejections: list[Rejection] = field(default_factory=list)
    num_requests: int = 0
    num_tokens: int = 0

    def written(self, plan: Plan | None, failure: str | None = None) -> Written:
        return Written(
            plan=plan,
            rejections=tuple(self.rejections),
            failure=failure,
            num_requests=self.num_requests,
            num_tokens=self.num_tokens,
        )


class Teacher:
    """Writes plans with a model behind an endpoint.

    Args:
        config: Where it is and how it is asked.

    Raises:
        ValueError: No model is named, the key's variable is not set, or the `openai` package is missing.
    """

    prompt_version = PROMPT_VERSION

    def __init__(self, config: EndpointConfig) -> None:
        try:
            import openai
        except ImportError as error:
            raise ValueError("an endpoint needs the openai package; pip install 'openai>=3.54,<4'") from error
        if not config.model:
            raise ValueError("endpoint.model: expected the name of a model, got none; give --endpoint.model")
        self._openai: Any = openai
        self._key = "none"
        if config.api_key_variable is not None:
            self._key = os.environ.get(config.api_key_variable, "")
            if not self._key:
                raise ValueError(
                    f"endpoint.api_key_variable: expected the key in the environment variable "
                    f"{config.api_key_variable}, got none; set it, or leave the field out where no key is needed"
                )
        self.config = config
        self.spending = Spending()

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.model

    async def write(self, sentences: Sequence[Sentence]) -> AsyncGenerator[tuple[int, Written], None]:
        """Write plans as they come.

        Conversations that are under way when the endpoint is given up are brought to their end first, so that nothing
        that was paid for is lost. Captions that it refuses come with the next one that it answers: if none is before
        the run ends in an error, they count as failures, and are asked for again.

        Raises:
            EndpointError: The budget is spent, the endpoint refuses, or too many captions in a row had no answer.
        """
        client = self._openai.AsyncOpenAI(
            base_url=self.config.base_url, api_key=self._key, timeout=self.config.timeout_s, max_retries=0
        )
        left = iter(enumerate(sentences))
        running: dict[asyncio.Task[tuple[Written, EndpointError | None]], int] = {}
        failures: Counter[str] = Counter()
        refused: dict[int, Written] = {}
        stop: EndpointError | None = None
        try:
            while True:
                while stop is None and len(running) < self.config.concurrency and (item := next(left, None)):
                    running[asyncio.create_task(self._write_one(client, item[1]))] = item[0]
                if not running:
                    break
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=running.__getitem__):
                    index = running.pop(task)
                    written, error = task.result()
                    stop = stop or error
                    if _is_refused(written):
                        refused[index] = written
                        failures[written.rejections[-1].detail] += 1
                    else:
                        yield index, written
                        if written.failure is None:
                            for item in refused.items():
                                yield item
                            refused.clear()
                            failures.clear()
                            continue
                        failures[written.failure] += 1
                    if failures.total() >= MAX_FAILURES_IN_A_ROW:
                        reason = failures.most_common(1)[0][0]
                        stop = stop or EndpointError(
                            f"{self.config.base_url}: no answer for {failures.total()} captions in a row ({reason}); "
                            "see to the endpoint, then run the same command to go on"
                        )
            for index, written in refused.items():
                yield index, written if stop is None else _as_failure(written)
            if stop is not None:
                raise stop
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await client.close()

    async def _write_one(self, client: "AsyncOpenAI", sentence: Sentence) -> tuple[Written, EndpointError | None]:
        """One conversation, with the error that ends the run, if one came: what it has cost is told all the same."""
        conversation = _Conversation(sentence)
        messages = [_message("system", INSTRUCTIONS), _message("user", ask_for_plan(sentence))]
        try:
            for _ in range(1 + self.config.max_rewrites):
                answer = await self._ask(client, messages, conversation)
                plan, rejection = None, None
                try:
                    plan = read_plan(answer, sentence.duration_s)
                except PlanRejectedError as error:
                    rejection = error.rejection
                if plan is not None:
                    question = [_message("system", CHECK), _message("user", ask_to_check(sentence, plan))]
                    rejection = read_verdict(await self._ask(client, question, conversation))
                if rejection is None:
                    return conversation.written(plan), None
                conversation.rejections.append(rejection)
                messages = [*messages[:2], _message("assistant", answer), _message("user", ask_to_rewrite(rejection))]
            return conversation.written(None), None
        except PlanRejectedError as error:
            conversation.rejections.append(error.rejection)
            return conversation.written(None), None
        except _FailedRequestError as error:
            return conversation.written(None, failure=str(error)), None
        except EndpointError as error:
            return conversation.written(None, failure=str(error)), error

    async def _ask(self, client: "AsyncOpenAI", messages: list[dict[str, str]], conversation: _Conversation) -> str:
        """One answer, however many requests it takes."""
        wait_s, retries = self.config.first_wait_s, 0
        while True:
            self._check_budget()
            self.spending.num_requests += 1
            conversation.num_requests += 1
            try:
                return await self._request(client, messages, conversation)
            except _FailedRequestError as error:
                if retries == self.config.retries:
                    raise
                retries += 1
                await asyncio.sleep(min(max(wait_s, error.wait_s or 0), self.config.max_wait_s))
                wait_s *= 2

    def _check_budget(self) -> None:
        for name, spent, limit in (
            ("requests", self.spending.num_requests, self.config.max_requests),
            ("tokens", self.spending.num_tokens, self.config.max_tokens),
        ):
            if limit is not None and spent >= limit:
                raise BudgetSpentError(
                    f"the budget of {limit} {name} is spent; "
                    f"run the same command with more --endpoint.max-{name} to go on"
                )

    async def _request(self, client: "AsyncOpenAI", messages: list[dict[str, str]], conversation: _Conversation) -> str:
        openai, url = self._openai, self.config.base_url
        options = {"temperature": self.config.temperature, "max_tokens": self.config.max_answer_tokens}
        request: dict[str, Any] = {"model": self.config.model, "messages": messages}
        request |= {name: value for name, value in options.items() if value is not None}
        try:
            reply: Any = await client.chat.completions.create(**request)
        except openai.APITimeoutError as error:
            raise _FailedRequestError(f"no answer within {self.config.timeout_s} s") from error
        except openai.APIConnectionError as error:
            raise _FailedRequestError(f"cannot connect ({error.__cause__ or error})") from error
        except openai.APIStatusError as error:
            raise self._meaning(error) from error
        except (openai.OpenAIError, ValueError) as error:
            raise _FailedRequestError(f"an answer that is not JSON ({error})") from error
        usage = getattr(reply, "usage", None)
        tokens = getattr(usage, "total_tokens", None)
        if isinstance(tokens, int):
            self.spending.num_tokens += tokens
            conversation.num_tokens += tokens
        # A server that sends something else than JSON gives a string here, and fields may be missing.
        choices = getattr(reply, "choices", None)
        if not isinstance(choices, list) or not choices:
            raise _FailedRequestError(f"an answer without choices: {str(reply)[:80]!r}")
        if getattr(choices[0], "finish_reason", None) == "content_filter":
            raise PlanRejectedError("refused", f"{url} filters what it would say about this caption")
        answer = getattr(getattr(choices[0], "message", None), "content", None)
        if not isinstance(answer, str) or not answer.strip():
            raise _FailedRequestError("an answer without text")
        return answer

    def _meaning(self, error: Any) -> Exception:
        """What follows from an HTTP status that is an error."""
        status, url = error.status_code, self.config.base_url
        said = f"HTTP {status}: {' '.join(str(error.message).split())[:200]}"
        if status in HOPELESS_STATUSES or error.code == "insufficient_quota":
            return EndpointError(
                f"{url} refuses model {self.config.model!r} ({said}); check address, model and key, "
                "then run the same command to go on"
            )
        if status >= 500 or status in RETRIED_STATUSES:
            return _FailedRequestError(said, _retry_after_s(error.response.headers.get("retry-after")))
        return PlanRejectedError("refused", f"{url} does not take the request ({said})")


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _is_refused(written: Written) -> bool:
    return written.failure is None and bool(written.rejections) and written.rejections[-1].why == "refused"


def _as_failure(refused: Written) -> Written:
    *rejections, refusal = refused.rejections
    return replace(refused, rejections=tuple(rejections), failure=refusal.detail)


def _retry_after_s(header: str | None) -> float | None:
    """Seconds that a `Retry-After` asks for, as a number or as a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
