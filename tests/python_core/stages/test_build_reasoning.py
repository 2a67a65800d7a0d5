"""The stage as a whole: with the planner, and with a server on loopback that is killed, refuses and comes back."""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from python_core.clips.prepared import PreparedClip, read_prepared, write_prepared
from python_core.contract.plan import parse_plan
from python_core.contract.skeleton import BODY_22
from python_core.features import num_features
from python_core.reasoning.teacher import EndpointConfig
from python_core.stages.build_reasoning import PRESETS, BuildReasoningConfig, PlanRecord, read_plans, run
from tests.python_core.conftest import write_text_encoder
from tests.python_core.loopback import serve_completions

ROOT = Path(__file__).parents[3]
EXACT_PLAN = "1. jump up, 1.0 s 2. walk forward, 1.0 s"
CAPTIONS = {
    "a": ("a person walks forward, then quickly sits down.", "someone jumps up and stops."),
    "Ma": ("a person walks forward, then quickly sits down.", "someone jumps up and stops."),
    "b": ("a person waves the right hand.",),
    "J1": ("a person jumps up, then walks forward.",),
}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Four clips of 2 seconds: one, its copy with the same captions, another, and one whose plan is known."""
    clips = [
        PreparedClip(
            clip_id=name,
            split="train",
            source="composed" if name == "J1" else "test",
            licence="none",
            take="",
            captions=captions,
            plan=EXACT_PLAN if name == "J1" else None,
            first_row=40 * number,
            num_rows=40,
        )
        for number, (name, captions) in enumerate(CAPTIONS.items())
    ]
    rows = np.random.default_rng(1).normal(size=(4, 40, num_features(BODY_22))).astype(np.float32)
    write_prepared(tmp_path / "prepared", clips, rows, 20.0)
    return tmp_path / "prepared"


class Server:
    """Answers chat completions with `reply`, which gets the question."""

    def __init__(self) -> None:
        self.reply: Callable[[str], web.Response | str] = lambda question: one_beat(question)
        self.delay_s = 0.0
        self.asked: list[str] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.Response:
        question = (await request.json())["messages"][1]["content"]
        self.asked.append(question)
        await asyncio.sleep(self.delay_s)
        reply = self.reply(question)
        if isinstance(reply, web.Response):
            return reply
        return web.json_response({"choices": [{"message": {"content": reply}}], "usage": {"total_tokens": 50}})

    @property
    def num_plans_asked(self) -> int:
        return sum("Plan:" not in question for question in self.asked)


def one_beat(question: str) -> str:
    if "Plan:" in question:
        return "relevance: pass\norder: pass\nbrevity: pass"
    match = re.search(r"Duration: ([\d.]+) s", question)
    assert match
    return f"1. do as told, {match[1]} s"


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    with serve_completions(served.handle) as served.port:
        yield served


def config_of(prepared: Path, server: Server | None = None, **fields: Any) -> BuildReasoningConfig:
    config = replace(PRESETS["tiny"], prepared=prepared, out=prepared.parent / "plans.jsonl")
    if server is not None:
        endpoint = EndpointConfig(
            base_url=f"http://127.0.0.1:{server.port}/v1", model="wise", retries=1, first_wait_s=0.01, max_rewrites=1
        )
        config = replace(config, writer="endpoint", endpoint=replace(endpoint, **fields.pop("endpoint", {})))
    return replace(config, **fields)


def report_of(config: BuildReasoningConfig) -> dict[str, Any]:
    return json.loads(config.out.with_suffix(".report.json").read_text(encoding="utf-8"))


def test_the_planner_writes_one_record_a_caption_in_the_order_of_the_clips(prepared):
    config = config_of(prepared)
    run(config)
    records = read_plans(config.out)
    assert [(record.clip_id, record.caption) for record in records] == [
        (name, caption) for name, captions in CAPTIONS.items() for caption in captions
    ]
    assert records[0] == PlanRecord(
        "a", CAPTIONS["a"][0], 2.0, "1. walk forward, 1.4 s 2. quickly sit down, 0.6 s", "planner", "1"
    )
    assert records[-1] == PlanRecord("J1", CAPTIONS["J1"][0], 2.0, EXACT_PLAN, "exact")
    assert not config.out.with_suffix(".journal").exists()
    report = report_of(config)
    assert report["complete"]
    assert (report["num_sentences"], report["num_passed"], report["num_records"]) == (3, 3, 6)
    assert report["records_by_writer"] == {"planner": 5, "exact": 1}


def test_the_sample_shows_each_record_of_a_small_run_once(prepared, capsys):
    config = config_of(prepared)
    run(config)
    text = config.out.with_suffix(".sample.txt").read_text(encoding="utf-8")
    assert Counter(re.findall(r"clip (\w+), 2\.00 s", text)) == {"a": 2, "Ma": 2, "b": 1, "J1": 1}
    assert (
        "a person jumps up, then walks forward.\n  clip J1, 2.00 s, exact\n    1. jump up, 1.0 s\n    2. walk" in text
    )
    assert "walk forward" in capsys.readouterr().out


def test_all_records_of_the_sample_are_printed(prepared, tmp_path, capsys):
    more = tmp_path / "more.jsonl"
    captions = [f"a person takes {number} steps" for number in range(100, 180)]
    more.write_text(json.dumps({"captions": captions, "duration_s": 3.0}) + "\n", encoding="utf-8")
    config = config_of(prepared, more_captions=more)
    run(config)
    printed = capsys.readouterr().out
    sample = config.out.with_suffix(".sample.txt").read_text(encoding="utf-8")
    sampled = [caption for caption in captions if caption in sample]
    assert len(re.findall(r"^  clip ", sample, re.MULTILINE)) == 50
    assert len(sampled) > 40
    assert all(number in printed for number in re.findall(r"\d{3}", " ".join(sampled)))


def test_paraphrases_follow_their_caption_and_keep_its_plan_but_for_a_changed_verb(prepared):
    config = config_of(prepared, paraphrases=3)
    run(config)
    records = read_plans(config.out)
    sources = [record for record in records if record.paraphrase_of is None]
    assert len(sources) == 6
    assert len({(record.clip_id, record.caption) for record in records}) == len(records) > 15
    changed = 0
    source = records[0]
    for record in records:
        if record.paraphrase_of is None:
            source = record
            continue
        assert record.paraphrase_of == source.caption
        assert record == replace(source, caption=record.caption, plan=record.plan, paraphrase_of=source.caption)
        plan, source_plan = parse_plan(record.plan), parse_plan(source.plan)
        assert [beat.duration_s for beat in plan.beats] == [beat.duration_s for beat in source_plan.beats]
        if "jump" in source.caption and "jump" not in record.caption:
            changed += 1
            assert re.search("(leap|spring) up", record.plan)
        elif "stop" not in source.caption or "stop" in record.caption:
            assert record.plan == source.plan
    assert changed > 0
    assert report_of(config)["num_paraphrases"] == len(records) - 6
    before = config.out.read_bytes()
    run(config)
    assert config.out.read_bytes() == before


def test_orders_follow_each_caption_and_other_words_those_without_motion(prepared, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text('{"captions": ["a person slowly opens a door and then sits on a chair."], "duration_s": 3}\n')
    config = config_of(prepared, orders=True, other_words=20, more_captions=more)
    run(config)
    records = read_plans(config.out)
    orders = [record for record in records if record.clip_id is not None and record.paraphrase_of]
    assert len(orders) == 6
    for record in orders:
        beats = [beat.text for beat in parse_plan(record.plan).beats]
        assert re.split(",? then |,? and (?:then )?", record.caption) == beats
    made = [record for record in records if record.clip_id is None and record.paraphrase_of]
    assert len(made) > 15
    as_orders = 0
    for record in made:
        texts = [beat.text for beat in parse_plan(record.plan).beats]
        as_orders += all(text in record.caption for text in texts)
        # Things and manners are taken over as they are.
        assert set(re.findall(r"[a-z]+ly|(?<=a )[a-z]+", record.plan)) <= set(re.findall("[a-z]+", record.caption))
    assert 0.25 < as_orders / len(made) < 0.9


def test_other_words_without_captions_that_lack_motion_say_that_there_are_none(prepared, caplog):
    caplog.set_level("INFO")
    run(config_of(prepared, other_words=1))
    assert "other_words: every caption has a motion, so none is added; give --more-captions" in caplog.text


def test_with_a_text_encoder_plans_know_only_the_beats_of_motions(prepared, tmp_path):
    words = "walk sit wave jump stop quickly forward down up right left hand the"
    write_text_encoder(tmp_path, words.split())
    more = tmp_path / "more.jsonl"
    captions = ["a guard waves the right hand.", "a guard waves the left hand.", "someone jumps up, then sits down."]
    more.write_text(json.dumps({"captions": captions, "duration_s": 3.0}) + "\n")
    config = config_of(prepared, orders=True, paraphrases=3, more_captions=more, text_encoder=tmp_path)
    run(config)
    records = read_plans(config.out)
    of_clips = {(record.clip_id, record.caption): record for record in records if record.clip_id is not None}
    known = {beat.text for record in of_clips.values() for beat in parse_plan(record.plan).beats}
    assert known == {"walk forward", "quickly sit down", "jump up", "stop", "wave the right hand"}
    for (clip_id, _), record in of_clips.items():
        if record.paraphrase_of is not None:
            assert record.plan == of_clips[clip_id, record.paraphrase_of].plan
    without = {record.caption: parse_plan(record.plan) for record in records if record.clip_id is None}
    assert {beat.text for plan in without.values() for beat in plan.beats} <= known
    writers = Counter(record.writer for record in records)
    assert writers["planner, known beats"] == len([record for record in records if record.clip_id is None])
    assert report_of(config)["records_by_writer"] == writers
    # No motion waves the left hand.
    assert captions[1] not in without
    in_its_own_words = replace(config, out=tmp_path / "own" / "plans.jsonl", text_encoder=None)
    run(in_its_own_words)
    left_out = [record for record in read_plans(in_its_own_words.out) if record.caption not in without]
    left_out = [record for record in left_out if record.clip_id is None]
    assert report_of(config)["num_left_out"] == len(left_out) > 1
    (waves,) = without[captions[0]].beats
    assert (waves.text, waves.body_parts, waves.duration_s) == ("wave the right hand", ("right hand",), 3.0)
    assert of_clips["b", captions[0]].paraphrase_of == CAPTIONS["b"][0]
    assert [beat.text for beat in without[captions[2]].beats] == ["jump up", "quickly sit down"]
    before = config.out.read_bytes()
    run(config)
    assert config.out.read_bytes() == before


def test_a_text_encoder_without_captions_of_motions_is_refused(prepared, tmp_path, text_encoder):
    found = read_prepared(prepared)
    assert found.rows is not None
    clips = [replace(clip, captions=()) for clip in found.clips]
    write_prepared(tmp_path / "silent", clips, np.split(found.rows, len(clips)), found.frame_rate_hz)
    more = tmp_path / "more.jsonl"
    more.write_text('{"captions": ["a person walks."], "duration_s": 3.0}\n')
    with pytest.raises(ValueError, match=r"text_encoder: no clip has a caption"):
        run(config_of(tmp_path / "silent", more_captions=more, text_encoder=text_encoder))


def test_written_captions_are_of_clips_with_their_plan_on_either_side_and_records_of_their_own(
    prepared, tmp_path, caplog
):
    written = tmp_path / "written.jsonl"
    lines = [
        {"caption": "say hello", "beats": ["wave the right hand"]},
        {"caption": "off you go, then rest", "beats": ["walk forward", "quickly sit down"]},
        {"caption": "greet with the right hand and take a seat", "beats": ["wave the right hand", "quickly sit down"]},
        {"caption": "swim to the left", "beats": ["swim to the left", "wave the right hand"]},
    ]
    written.write_text("".join(json.dumps(line) + "\n" for line in lines))
    caplog.set_level(logging.INFO)
    run(config_of(prepared, written=written))
    found = [record for record in read_plans(tmp_path / "plans.jsonl") if record.writer == "written"]
    of_clips = {(record.clip_id, record.caption): record.plan for record in found if record.clip_id is not None}
    wave, walk = "1. wave the right hand (right hand), 2.0 s", "1. walk forward, 1.4 s 2. quickly sit down, 0.6 s"
    # Not of the composition, which only its own captions say.
    assert of_clips == {
        ("b", "say hello"): wave,
        ("a", "off you go, then rest"): walk,
        ("Ma", "off you go, then rest"): walk,
    }
    alone = {record.caption: (record.plan, record.duration_s) for record in found if record.clip_id is None}
    assert alone == {
        "say hello": (wave, 2.0),
        "off you go, then rest": (walk, 2.0),
        "greet with the right hand and take a seat": (
            "1. wave the right hand (right hand), 2.0 s 2. quickly sit down, 0.6 s",
            2.6,
        ),
    }
    # The same on the other side asks for what no clip does.
    assert "no clip has the beats swim to the left; swim to the right; wave the left hand" in caplog.text
    assert "3 of 7 written captions are of beats that clips have" in caplog.text
    written.write_text(json.dumps(lines[3]) + "\n")
    run(config_of(prepared, written=written))
    assert "0 of 2 written captions are of beats that clips have" in caplog.text
    assert not [record for record in read_plans(tmp_path / "plans.jsonl") if record.writer == "written"]


def test_a_written_caption_of_a_side_is_also_one_of_the_other(prepared, tmp_path):
    found = read_prepared(prepared)
    assert found.rows is not None
    captions = {"b": ("a person waves the right hand.",), "Mb": ("a person waves the left hand.",)}
    clips = [
        replace(clip, clip_id=name, captions=said, plan=None, source="test")
        for clip, (name, said) in zip(found.clips, captions.items(), strict=False)
    ]
    write_prepared(tmp_path / "both", clips, np.split(found.rows[:80], 2), found.frame_rate_hz)
    written = tmp_path / "written.jsonl"
    lines = [
        {"caption": "hail them with your right hand", "beats": ["wave the right hand"]},
        {"caption": "hail them", "beats": ["wave the right hand"]},
    ]
    written.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(config_of(tmp_path / "both", written=written))
    records = [record for record in read_plans(tmp_path / "plans.jsonl") if record.writer == "written"]
    assert {(record.clip_id, record.caption) for record in records if record.clip_id} == {
        ("b", "hail them with your right hand"),
        ("Mb", "hail them with your left hand"),
        ("b", "hail them"),
        ("Mb", "hail them"),
    }


@pytest.mark.parametrize(
    "line", ['{"caption": "go"}', '{"caption": "?", "beats": ["walk"]}', '{"caption": "go", "beats": []}', "x", "[]"]
)
def test_written_captions_that_do_not_read_are_refused_with_their_line(prepared, tmp_path, line):
    written = tmp_path / "written.jsonl"
    written.write_text('{"caption": "go", "beats": ["walk forward"]}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"written\.jsonl:2: expected caption and beats"):
        run(config_of(prepared, written=written))


@pytest.mark.parametrize("name", ["paraphrases", "other_words"])
def test_a_count_below_0_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: expected 0 or more, got -1"):
        replace(PRESETS["tiny"], **dict.fromkeys([name], -1))


def test_an_endpoint_is_asked_once_for_equal_captions_and_not_for_exact_plans(prepared, server):
    config = config_of(prepared, server)
    run(config)
    records = read_plans(config.out)
    assert [record.writer for record in records] == ["wise"] * 5 + ["exact"]
    assert {record.plan for record in records[:5]} == {"1. do as told, 2.0 s"}
    assert len(server.asked) == 6
    report = report_of(config)
    assert (report["num_requests"], report["num_tokens"], report["num_passed_at_once"]) == (6, 300, 3)


def test_a_run_that_is_done_asks_for_nothing_again_and_new_captions_only(prepared, server, tmp_path):
    config = config_of(prepared, server)
    run(config)
    before = config.out.read_bytes()
    run(config)
    assert config.out.read_bytes() == before
    assert len(server.asked) == 6
    more = tmp_path / "more.jsonl"
    more.write_text('{"captions": ["a dog barks"], "duration_s": 1.5}\n', encoding="utf-8")
    run(replace(config, more_captions=more))
    assert len(server.asked) == 8
    assert read_plans(config.out)[-1] == PlanRecord(None, "a dog barks", 1.5, "1. do as told, 1.6 s", "wise", "1")


def test_where_all_plans_are_rejected_the_planner_writes_and_the_report_says_why(prepared, server):
    def reply(question: str) -> str:
        if "waves" in question:
            return "relevance: fail, no hand\norder: pass\nbrevity: pass" if "Plan:" in question else one_beat(question)
        return one_beat(question)

    server.reply = reply
    config = config_of(prepared, server)
    run(config)
    by_caption = {record.caption: record for record in read_plans(config.out)}
    record = by_caption["a person waves the right hand."]
    assert (record.writer, record.plan) == ("planner", "1. wave the right hand (right hand), 2.0 s")
    report = report_of(config)
    assert (report["num_passed"], report["num_rejected"], report["rejections"]) == (2, 1, {"relevance": 2})
    assert report["rejected"][0]["reasons"] == ["relevance: no hand"] * 2


def test_a_server_that_fails_leaves_what_came_and_the_next_run_goes_on(prepared, server):
    server.reply = lambda question: web.Response(status=500) if "waves" in question else one_beat(question)
    config = config_of(prepared, server)
    with pytest.raises(ValueError, match=r"1 captions have no plan yet.*run the same command"):
        run(config)
    assert not config.out.exists()
    report = report_of(config)
    assert (report["complete"], report["num_passed"], report["num_open"]) == (False, 2, 1)
    assert sum(report["failures"].values()) == 1
    server.reply = one_beat
    server.asked.clear()
    run(config)
    assert len(server.asked) == 2
    assert len(read_plans(config.out)) == 6
    assert report_of(config)["num_requests"] == 8


def test_captions_that_were_refused_until_the_run_ended_are_asked_for_again(prepared, server, tmp_path):
    more = tmp_path / "more.jsonl"
    captions = [f"a person takes {k} steps" for k in range(20)]
    more.write_text(json.dumps({"captions": captions, "duration_s": 3.0}) + "\n", encoding="utf-8")
    config = config_of(prepared, server, more_captions=more, endpoint={"concurrency": 1})
    server.reply = lambda question: web.Response(status=400, text="max_tokens is not supported")
    with pytest.raises(ValueError, match=r"10 captions in a row .*HTTP 400.*run the same command"):
        run(config)
    report = report_of(config)
    assert (report["num_rejected"], report["num_open"], sum(report["failures"].values())) == (0, 23, 10)
    server.reply = one_beat
    server.asked.clear()
    run(config)
    assert len(server.asked) == 2 * 23
    assert {record.writer for record in read_plans(config.out)} == {"wise", "exact"}
    assert report_of(config)["num_requests"] == 10 + 2 * 23


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"plan": 5}, "plan: expected text, got 5"),
        ({"plan": "walk"}, "expected '1. what is done, 1.0 s', got 'walk'"),
        ({"caption": None}, "caption: expected text, got None"),
        ({"duration_s": "2"}, "duration_s: expected seconds, got '2'"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_no_plan_record_is_refused_with_its_line(tmp_path, fields, message):
    record = asdict(PlanRecord(None, "a dog barks", 1.5, "1. do as told, 1.6 s", "wise"))
    path = tmp_path / "plans.jsonl"
    path.write_text(f"{json.dumps(record)}\n{json.dumps(record | fields)}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"plans\.jsonl:2: not a plan record .*{message}.*; build the plans again"):
        read_plans(path)


def test_a_budget_counts_on_over_runs(prepared, server):
    config = config_of(prepared, server, endpoint={"max_requests": 4, "concurrency": 1})
    for _ in range(2):
        with pytest.raises(ValueError, match="budget of 4 requests is spent"):
            run(config)
        assert len(server.asked) == 4
    run(config_of(prepared, server, endpoint={"max_requests": 6}))
    assert len(server.asked) == 6


def test_a_run_of_another_model_does_not_mix_with_what_is_there(prepared, server):
    config = config_of(prepared, server)
    run(config)
    with pytest.raises(ValueError, match=r"holds plans of wise .* this run's are of other"):
        run(config_of(prepared, server, endpoint={"model": "other"}))


def test_a_line_that_a_kill_cut_off_is_asked_for_again(prepared, server):
    config = config_of(prepared, server)
    run(config)
    before = config.out.read_bytes()
    journal = config.out.with_suffix(".journal")
    journal.write_bytes(journal.read_bytes()[:-20])
    run(config)
    assert config.out.read_bytes() == before
    assert len(server.asked) == 8
    journal.write_bytes(b"nonsense\n" + journal.read_bytes())
    with pytest.raises(ValueError, match=r"plans\.journal:1: not a line of a journal"):
        run(config)


def test_a_killed_run_goes_on_and_gives_what_an_undisturbed_one_gives(prepared, server, tmp_path):
    more = tmp_path / "more.jsonl"
    captions = [f"a person takes {k} steps" for k in range(30)]
    more.write_text(json.dumps({"captions": captions, "duration_s": 3.0}) + "\n", encoding="utf-8")
    config = config_of(prepared, server, more_captions=more)
    run(config)
    expected = config.out.read_bytes()
    server.asked.clear()
    server.delay_s = 0.05
    out = tmp_path / "killed.jsonl"
    command = [sys.executable, "-m", "python_core", "build-reasoning", "tiny", "--writer", "endpoint"]
    command += ["--prepared", str(prepared), "--more-captions", str(more), "--out", str(out)]
    command += ["--endpoint.base-url", config.endpoint.base_url, "--endpoint.model", "wise"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    killed = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = out.with_suffix(".journal")
    while not (journal.is_file() and journal.read_bytes().count(b"\n") >= 6):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    num_lines = journal.read_bytes().count(b"\n")
    assert 6 <= num_lines < 33
    assert not out.exists()
    server.delay_s = 0.0
    server.asked.clear()
    run(replace(config, out=out))
    assert server.num_plans_asked == 33 - num_lines
    assert out.read_bytes() == expected


def test_a_corpus_without_captions_is_refused(tmp_path):
    clip = PreparedClip(
        clip_id="a", split="train", source="s", licence="l", take="", captions=(), plan=None, first_row=0, num_rows=9
    )
    rows = np.random.default_rng(1).normal(size=(1, 9, num_features(BODY_22))).astype(np.float32)
    write_prepared(tmp_path / "prepared", [clip], rows, 20.0)
    with pytest.raises(ValueError, match="no captions in split 'train'"):
        run(config_of(tmp_path / "prepared"))


@pytest.mark.parametrize(
    "line",
    [
        '{"captions": ["a"]}',
        '{"captions": ["a"], "duration_s": 0}',
        '{"captions": 3, "duration_s": 1}',
        "x",
        "[]",
        '{"captions": "a man walks", "duration_s": 1}',
        '{"captions": [3], "duration_s": 1}',
    ],
)
def test_captions_that_do_not_read_are_refused_with_their_line(prepared, tmp_path, line):
    more = tmp_path / "more.jsonl"
    more.write_text('{"captions": ["a dog barks"], "duration_s": 1.5}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"more\.jsonl:2: expected captions and duration_s"):
        run(config_of(prepared, more_captions=more))


def test_a_caption_without_words_is_refused_before_anything_is_asked(prepared, server, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text('{"captions": ["..."], "duration_s": 1.5}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="expected a caption with words"):
        run(config_of(prepared, server, more_captions=more))
    assert server.asked == []
