"""The teacher against a real server on loopback that speaks chat completions, well or badly."""

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from python_core.contract.plan import format_plan, parse_plan
from python_core.reasoning import teacher_prompts
from python_core.reasoning.plan_writer import Sentence, Written
from python_core.reasoning.teacher import MAX_FAILURES_IN_A_ROW, EndpointConfig, EndpointError, Teacher
from python_core.reasoning.teacher_prompts import (
    CHECK,
    INSTRUCTIONS,
    PROMPT_VERSION,
    PlanRejectedError,
    count_tokens,
    read_plan,
    read_verdict,
)
from tests.python_core.loopback import serve_completions

PASSED = "relevance: pass\norder: pass\nbrevity: pass"
PLAN = "1. walk forward, 2.0 s\n2. turn left, 2.0 s"
CAPTION = "a person walks forward and turns left"


def answer(text: str | None, tokens: int = 100) -> web.Response:
    return web.json_response(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": tokens - 10, "completion_tokens": 10, "total_tokens": tokens},
        }
    )


def refusal(status: int, message: str = "no", code: str | None = None, **headers: str) -> web.Response:
    body = {"error": {"message": message, "type": "error", "code": code}}
    return web.json_response(body, status=status, headers=headers)


@dataclass
class Server:
    """An endpoint whose answers a test decides; it notes what it was asked."""

    reply: Callable[[dict[str, Any]], web.Response] = lambda question: answer("")
    """Gives a response to the JSON of a request."""
    delay_s: float = 0.0
    port: int = 0
    questions: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    times_s: list[float] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.times_s.append(time.monotonic())
        self.keys.add(request.headers.get("Authorization", ""))
        question = await request.json()
        self.questions.append(question)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.delay_s)
            return self.reply(question)
        finally:
            self.running -= 1

    def script(self, *replies: web.Response | str) -> None:
        """Give these responses, one after the other."""
        left = iter(replies)

        def reply(_: dict[str, Any]) -> web.Response:
            found = next(left)
            return answer(found) if isinstance(found, str) else found

        self.reply = reply

    def config(self, **fields: Any) -> EndpointConfig:
        url = f"http://127.0.0.1:{self.port}/v1"
        return EndpointConfig(**{"base_url": url, "model": "m", "first_wait_s": 0.01, "timeout_s": 5.0} | fields)


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    with serve_completions(served.handle) as served.port:
        yield served


def is_check(question: dict[str, Any]) -> bool:
    return question["messages"][0]["content"] == CHECK


def good(question: dict[str, Any]) -> web.Response:
    """A plan in one beat for any caption, and a check that is content."""
    if is_check(question):
        return answer(PASSED)
    seconds = re.search(r"Duration: ([\d.]+) s", question["messages"][1]["content"])
    assert seconds
    return answer(f"1. walk, {seconds[1]} s")


def write(config: EndpointConfig, *captions: str, teacher: Teacher | None = None) -> dict[int, Written]:
    return asyncio.run(collect((teacher or Teacher(config)).write([Sentence(caption, 4.0) for caption in captions])))


async def collect(coming: AsyncGenerator[tuple[int, Written], None]) -> dict[int, Written]:
    found = {}
    async for index, written in coming:
        found[index] = written
    return found


def written_plan(written: Written) -> str:
    assert written.plan is not None, written
    return format_plan(written.plan)


def test_a_plan_that_passes_its_check_takes_two_requests(server):
    server.script(PLAN, PASSED)
    written = write(server.config(temperature=0.5, max_answer_tokens=99), CAPTION)[0]
    assert written_plan(written) == "1. walk forward, 2.0 s 2. turn left, 2.0 s"
    assert (written.num_requests, written.num_tokens, written.rejections) == (2, 200, ())
    first, second = server.questions
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert first["messages"][0]["content"] == INSTRUCTIONS
    assert first["messages"][1]["content"] == f"Caption: {CAPTION}\nDuration: 4.0 s"
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("m", 0.5, 99)
    assert is_check(second)
    assert "Plan: 1. walk forward, 2.0 s 2. turn left, 2.0 s" in second["messages"][1]["content"]


def test_what_is_none_is_not_sent(server):
    server.script(PLAN, PASSED)
    write(server.config(temperature=None, max_answer_tokens=None), CAPTION)
    assert server.questions[0].keys() == {"model", "messages"}


def test_the_reason_of_a_rejection_is_told_and_the_plan_written_again(server):
    too_long = "1. walk forward " + "very " * 12 + "slowly, 4.0 s"
    check = "relevance: pass\norder: fail, the turn comes first\nbrevity: fail, long"
    server.script("I would walk.", too_long, PLAN, check, PLAN, PASSED)
    written = write(server.config(), CAPTION)[0]
    assert written_plan(written) == "1. walk forward, 2.0 s 2. turn left, 2.0 s"
    assert [rejection.why for rejection in written.rejections] == ["format", "length", "order"]
    assert written.num_requests == 6
    second, third, after_check = (server.questions[k]["messages"] for k in (1, 2, 4))
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert second[2]["content"] == "I would walk."
    assert "expected '1. what is done" in second[3]["content"]
    assert "beat 1 has about 23 tokens, at most 16" in third[3]["content"]
    assert "(order): the turn comes first" in after_check[3]["content"]


def test_after_the_last_rewrite_there_is_no_plan_and_all_reasons_are_kept(server):
    server.reply = lambda question: answer("no")
    written = write(server.config(max_rewrites=2), CAPTION)[0]
    assert written.plan is None
    assert written.failure is None
    assert [rejection.why for rejection in written.rejections] == ["format"] * 3
    assert written.num_requests == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda: refusal(500, "oops"), "HTTP 500: .*oops"),
        (lambda: refusal(503), "HTTP 503"),
        (lambda: refusal(429, "slow down"), "HTTP 429: .*slow down"),
        (lambda: web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html"), "HTTP 502"),
        (lambda: web.Response(text="<html>Welcome</html>", content_type="text/html"), "without choices: '<html>"),
        (lambda: web.Response(text="{broken", content_type="application/json"), "not JSON"),
        (lambda: web.json_response([1, 2]), "without choices"),
        (lambda: web.json_response({}), "without choices"),
        (lambda: web.json_response({"choices": []}), "without choices"),
        (lambda: web.json_response({"choices": None, "usage": None}), "without choices"),
        (lambda: web.json_response({"choices": [{"index": 0}]}), "without text"),
        (lambda: answer(None), "without text"),
        (lambda: answer(" \n"), "without text"),
    ],
)
def test_a_bad_answer_is_asked_for_again_and_then_counted_as_a_failure(server, bad, reason):
    server.script(bad(), PLAN, bad(), PASSED)
    assert written_plan(write(server.config(retries=1), CAPTION)[0]) == "1. walk forward, 2.0 s 2. turn left, 2.0 s"
    server.reply = lambda question: bad()
    written = write(server.config(retries=2), CAPTION)[0]
    assert written.plan is None
    assert written.failure is not None
    assert re.search(reason, written.failure)
    assert written.num_requests == 3


def test_an_answer_that_takes_too_long_is_a_failure(server):
    server.reply, server.delay_s = good, 0.5
    written = write(server.config(timeout_s=0.1, retries=1), CAPTION)[0]
    assert written.failure == "no answer within 0.1 s"
    assert written.num_requests == 2


def test_a_server_that_is_not_there_is_a_failure():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        written = write(EndpointConfig(base_url=url, model="m", first_wait_s=0.01, retries=1), CAPTION)[0]
    assert written.failure is not None
    assert written.failure.startswith("cannot connect")


def test_a_connection_that_breaks_off_is_a_failure_and_asked_for_again(server):
    broken = web.Response(text="x" * 10, headers={"Content-Length": "1000"})
    server.script(broken, PLAN, PASSED)
    assert write(server.config(retries=1, timeout_s=0.3), CAPTION)[0].num_requests == 3


def test_waits_double_up_to_the_longest(server):
    server.script(*[refusal(500) for _ in range(6)], PLAN, PASSED)
    write(server.config(first_wait_s=0.1, max_wait_s=0.2, retries=6), CAPTION)
    waits_s = [later - earlier for earlier, later in zip(server.times_s, server.times_s[1:7], strict=False)]
    for wait_s, expected_s in zip(waits_s, (0.1, 0.2, 0.2, 0.2, 0.2, 0.2), strict=True):
        assert wait_s > expected_s - 0.01
    assert sum(waits_s) < 6, "without a longest it would be 6.3 s"


@pytest.mark.parametrize("as_date", [False, True])
def test_the_wait_that_a_server_asks_for_is_kept_within_the_longest(server, as_date):
    asked = formatdate(time.time() + 30, usegmt=True) if as_date else "30"
    server.script(refusal(429, **{"Retry-After": asked}), PLAN, PASSED)
    write(server.config(max_wait_s=0.3), CAPTION)
    assert 0.29 <= server.times_s[1] - server.times_s[0] < 20


@pytest.mark.parametrize(
    ("status", "code"), [(401, "invalid_api_key"), (403, None), (404, "model_not_found"), (429, "insufficient_quota")]
)
def test_an_endpoint_that_refuses_stops_the_run_at_once(server, status, code):
    server.reply = lambda question: refusal(status, "go away", code)
    with pytest.raises(EndpointError, match=f"HTTP {status}.*go away.*check address, model and key"):
        write(server.config(concurrency=2), *[f"{CAPTION} {k}" for k in range(50)])
    assert len(server.questions) == 2


def test_a_caption_that_is_refused_is_rejected_and_the_others_go_on(server):
    server.reply = lambda question: (
        refusal(400, "filtered") if "walks" in str(question["messages"][1]) else good(question)
    )
    found = write(server.config(), "a person waves", "a person walks", "a person sits")
    assert written_plan(found[0]) == written_plan(found[2]) == "1. walk, 4.0 s"
    assert found[1].plan is None
    assert found[1].rejections[0].why == "refused"
    assert "HTTP 400" in found[1].rejections[0].detail
    assert found[1].num_requests == 1


@pytest.mark.parametrize("status", [400, 500])
def test_too_many_captions_in_a_row_without_an_answer_stop_the_run(server, status):
    server.reply = lambda question: refusal(status, "bad")
    teacher = Teacher(server.config(concurrency=1, retries=0))
    with pytest.raises(EndpointError, match=f"{MAX_FAILURES_IN_A_ROW} captions in a row .*HTTP {status}"):
        write(teacher.config, *[f"{CAPTION} {k}" for k in range(50)], teacher=teacher)
    assert len(server.questions) == teacher.spending.num_requests == MAX_FAILURES_IN_A_ROW


def test_captions_that_were_refused_before_another_is_answered_stay_rejected_also_where_the_run_ends_in_an_error(
    server,
):
    def reply(question: dict[str, Any]) -> Any:
        number = int(str(question["messages"][1]["content"]).split("number ")[1].split()[0])
        return good(question) if number == 3 else refusal(400, "bad")

    server.reply = reply
    teacher, found = Teacher(server.config(concurrency=1)), {}

    async def ask() -> None:
        async for index, written in teacher.write([Sentence(f"number {k} walks", 4.0) for k in range(50)]):
            found[index] = written

    with pytest.raises(EndpointError, match=f"{MAX_FAILURES_IN_A_ROW} captions in a row"):
        asyncio.run(ask())
    assert len(found) == 4 + MAX_FAILURES_IN_A_ROW
    assert [found[k].rejections[-1].why for k in range(3)] == ["refused"] * 3
    assert all(found[k].failure is None for k in range(4))
    assert all("HTTP 400" in found[k].failure and not found[k].rejections for k in range(4, 14))


def test_the_budget_of_requests_is_never_exceeded_and_nothing_that_came_is_lost(server):
    server.reply = good
    teacher = Teacher(server.config(max_requests=21, concurrency=4))
    found: dict[int, Written] = {}

    async def ask() -> None:
        async for index, written in teacher.write([Sentence(f"{CAPTION} {k}", 4.0) for k in range(50)]):
            found[index] = written

    with pytest.raises(EndpointError, match=r"budget of 21 requests is spent.*--endpoint.max-requests"):
        asyncio.run(ask())
    assert len(server.questions) == 21
    assert sum(written.num_requests for written in found.values()) == 21
    plans = [written for written in found.values() if written.plan is not None]
    assert 8 <= len(plans) <= 10


def test_the_budget_of_tokens_stops_the_run(server):
    server.reply = good
    with pytest.raises(EndpointError, match="budget of 450 tokens is spent"):
        write(server.config(max_tokens=450, concurrency=1), *[f"{CAPTION} {k}" for k in range(9)])
    assert len(server.questions) == 5


def test_no_more_captions_are_asked_for_at_a_time_than_allowed(server):
    server.reply, server.delay_s = good, 0.02
    found = write(server.config(concurrency=3), *[f"{CAPTION} {k}" for k in range(12)])
    assert sorted(found) == list(range(12))
    assert server.most_running == 3


def test_who_stops_reading_early_ends_the_requests(server):
    server.reply, server.delay_s = good, 0.05

    async def first() -> None:
        coming = Teacher(server.config(concurrency=2)).write([Sentence(f"{CAPTION} {k}", 4.0) for k in range(40)])
        async for _ in coming:
            break
        await coming.aclose()

    asyncio.run(first())
    assert len(server.questions) <= 6


def test_the_key_comes_from_the_variable_that_is_named(server, monkeypatch):
    server.script(PLAN, PASSED, PLAN, PASSED)
    monkeypatch.setenv("MY_KEY", "secret")
    write(server.config(api_key_variable="MY_KEY"), CAPTION)
    assert server.keys == {"Bearer secret"}
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ValueError, match="environment variable MY_KEY, got none"):
        Teacher(server.config(api_key_variable="MY_KEY"))


def test_a_model_must_be_named():
    with pytest.raises(ValueError, match=r"endpoint\.model: expected the name of a model"):
        Teacher(EndpointConfig())


@pytest.mark.parametrize(
    "fields", [{"concurrency": 0}, {"timeout_s": 0.0}, {"retries": -1}, {"max_requests": 0}, {"max_rewrites": -1}]
)
def test_a_config_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))}: expected"):
        replace(EndpointConfig(), **fields)


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("1. walk forward, 2.0 s 2. turn left, 2.0 s", "1. walk forward, 2.0 s 2. turn left, 2.0 s"),
        ("```\n1. walk, 4.0 s\n```", "1. walk, 4.0 s"),
        ("```text\n1. walk, 4.0 s\n```\n", "1. walk, 4.0 s"),
        ("<think>1. maybe run, 9.0 s\n</think>\n\n1. walk, 4.0 s", "1. walk, 4.0 s"),
        ("1. wave (right hand), 4.0 s", "1. wave (right hand), 4.0 s"),
        ("1. walk, 1.0 s 2. turn, 2.2 s", "1. walk, 1.4 s 2. turn, 2.6 s"),
    ],
)
def test_an_answer_reads_as_this_plan_of_4_seconds(text, plan):
    assert format_plan(read_plan(text, 4.0)) == plan


@pytest.mark.parametrize(
    ("text", "why", "detail"),
    [
        ("walk forward for a while", "format", "expected '1. what is done"),
        ("1. walk, 2 s", "format", "expected '1. what is done, 1.0 s'"),
        ("2. walk, 4.0 s", "format", "expected beat 1"),
        ("1. wave (left ear), 4.0 s", "format", "unknown body parts"),
        (" ".join(f"{k}. hop, 0.7 s" for k in range(1, 7)), "format", "1 to 5 beats, got 6"),
        ("1. walk, 4.0 s Done!", "format", "got "),
        ("1. walk, 9.0 s", "duration", "9.0 s together, the clip lasts 4.0 s"),
        ("1. " + "go " * 9 + "on, 4.0 s", "length", "beat 1 has about 18 tokens, at most 16"),
    ],
)
def test_an_answer_is_rejected_for_this_reason(text, why, detail):
    with pytest.raises(PlanRejectedError, match=re.escape(detail)) as error:
        read_plan(text, 4.0)
    assert error.value.rejection.why == why


PIECES = (
    "1. ",
    "2. ",
    "walk",
    " (left arm)",
    ", 2.0 s",
    ", 9.9 s",
    " ",
    "\n",
    "```",
    "</think>",
    "\u2028",
    "(",
    "\u00b9. ",
)


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=9).map("".join))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_answer_is_a_plan_of_the_clips_duration_or_is_rejected(text):
    with contextlib.suppress(PlanRejectedError):
        plan = read_plan(text, 4.0)
        assert plan.duration_s == pytest.approx(4.0)
        assert parse_plan(format_plan(plan)) == plan
    read_verdict(text)


def test_five_beats_do_not_fit_in_six_tenths_of_a_second():
    with pytest.raises(PlanRejectedError, match=r"0\.6 s hold at most 3 beats"):
        read_plan(" ".join(f"{k}. hop, 0.1 s" for k in range(1, 6)), 0.6)


def test_no_beat_is_fitted_beyond_what_a_plan_allows():
    assert format_plan(read_plan("1. walk around the room, 60.0 s", 75.0)) == "1. walk around the room, 60.0 s"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PASSED, None),
        ("**Relevance:** PASS\n**Order:** PASS\n**Brevity:** Passed.", None),
        ("<think>order: fail</think>" + PASSED, None),
        ("relevance: fail - no turn\norder: fail\nbrevity: pass", "relevance"),
        ("relevance: pass\norder: pass\nbrevity: failed, too long", "brevity"),
        ("Looks good to me!", "unreadable check"),
        ("relevance: pass\norder: pass", "unreadable check"),
    ],
)
def test_a_check_reads_as_this_verdict(text, why):
    rejection = read_verdict(text)
    assert (rejection and rejection.why) == why


def test_tokens_are_words_by_their_length_digits_and_signs():
    assert count_tokens("1. walk forward, 2.0 s") == 10
    assert count_tokens("stealthily") == 2


def test_the_examples_in_the_instructions_are_plans_that_would_be_taken():
    examples = re.findall(r"Duration: ([\d.]+) s\n((?:\d\. .+\n?)+)", INSTRUCTIONS)
    assert len(examples) == 2
    for seconds, text in examples:
        assert format_plan(read_plan(text, float(seconds))) == " ".join(text.split())


def test_other_prompts_have_another_version():
    # A new hash here comes with a new PROMPT_VERSION.
    texts = json.dumps([INSTRUCTIONS, CHECK, teacher_prompts.ask_for_plan(Sentence("c", 1.0))])
    assert (PROMPT_VERSION, hashlib.sha256(texts.encode()).hexdigest()[:8]) == ("1", "a49fa8f0")
