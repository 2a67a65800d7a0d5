import asyncio
import math
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from bridge.decoder import join
from bridge.request import History, MotionRequest, RequestError
from bridge.stream import Chunk, Event, MotionModel, Planned, Stop, Summary
from export.depth_head_graph import write_depth_head
from python_core.checkpoint import load_language_model
from python_core.contract.bundle import BundleError, Manifest, sha256, write_manifest
from python_core.contract.plan import MOST_PLANS, Beat, Plan, PlanError, parse_plan
from python_core.contract.prompt import PromptError, PromptTemplate
from python_core.contract.quality import measure_quality
from python_core.contract.vocabulary import MAX_REASONING_TOKENS, PROMPT_TEMPLATE, CodebookSize, Place, ReplyParser
from python_core.depth_head import DepthHead, DepthHeadShape

PROMPT = "a person walks"
PLAN = "1. walk forward, 0.6 s 2. wave (right arm), 0.4 s"
AT_ONCE = MotionRequest(prompt=PROMPT, seed=5, reasoning=False, max_codes=8, temperature=1.0, top_p=0.95)
PLANNED = replace(AT_ONCE, reasoning=True, max_codes=50)

Write = Callable[[Sequence[int]], Path]
TextIds = Callable[[str], list[int]]


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Iterator[MotionModel]:
    model = MotionModel(tiny_bundle, "cpu", num_threads=1)
    yield model
    model.close()


def perform(model: MotionModel, request: MotionRequest) -> list[Event]:
    return collect(lambda: model.perform(request))


def collect(begin: Callable[[], AsyncGenerator[Event, None]]) -> list[Event]:
    async def read() -> list[Event]:
        return [event async for event in begin()]

    return asyncio.run(read())


def chunks(events: list[Event]) -> list[Chunk]:
    return [event for event in events if isinstance(event, Chunk)]


def test_frames_decoded_code_by_code_are_those_of_the_whole_clip_to_1e_5(model: MotionModel, manifest: Manifest):
    codes = np.random.default_rng(0).integers(manifest.tokens.num_codes, size=49).tolist()
    state, parts = model.decoder.start(), []
    for code in codes:
        part, state = model.decoder.decode([code], state)
        parts.append(part)
    streamed, whole = join(parts), model.decoder.decode_whole(codes)
    assert whole.num_frames == 49 * manifest.frames_per_code
    assert np.abs(streamed.root_positions_m - whole.root_positions_m).max() < 1e-5
    assert np.abs(streamed.joint_rotations - whole.joint_rotations).max() < 1e-5
    assert np.abs(streamed.joint_positions_m() - whole.joint_positions_m()).max() < 1e-5


def test_whatever_streams_run_together_each_gets_the_frames_that_it_gets_alone(model: MotionModel, manifest: Manifest):
    decoder = model.decoder
    codes = np.random.default_rng(1).integers(manifest.tokens.num_codes, size=(3, 6)).tolist()
    states, places = [decoder.start() for _ in codes], [0] * len(codes)
    for together in ([0, 1, 2], [0, 1, 2], [0, 1], [1, 0], [2], [2, 0, 1], [2, 1, 0]):
        given = [[codes[stream][places[stream]]] for stream in together]
        found = decoder.run(given, [states[stream] for stream in together])
        for stream, (frames, state) in zip(together, found, strict=True):
            alone, states[stream] = decoder.run([[codes[stream][places[stream]]]], [states[stream]])[0]
            assert np.array_equal(frames.root_positions_m, alone.root_positions_m)
            assert np.array_equal(frames.joint_rotations, alone.joint_rotations)
            for of_all, of_one in zip(state.states, states[stream].states, strict=True):
                assert np.array_equal(of_all[state.row], of_one[0])
            states[stream] = state
            places[stream] += 1


def test_chunks_follow_each_other_without_gaps_and_the_summary_counts_them(model: MotionModel):
    events = perform(model, AT_ONCE)
    streamed, summary = chunks(events), events[-1]
    assert [chunk.first_frame for chunk in streamed] == list(range(0, 4 * len(streamed), 4))
    assert isinstance(summary, Summary)
    assert (summary.num_codes, summary.num_frames) == (len(streamed), 4 * len(streamed))
    assert summary.duration_s == pytest.approx(0.2 * len(streamed))
    assert summary.quality == measure_quality(join([chunk.motion for chunk in streamed]))
    whole = measure_quality(model.decoder.decode_whole([chunk.code for chunk in streamed]))
    assert vars(summary.quality) == pytest.approx(vars(whole), rel=1e-3, abs=1e-5)


def test_the_same_seed_gives_the_same_codes_twice_and_other_seeds_others(model: MotionModel):
    def codes(seed: int) -> tuple[int, ...]:
        request = replace(AT_ONCE, seed=seed, temperature=2.0, top_p=1.0, max_codes=30)
        return tuple(chunk.code for chunk in chunks(perform(model, request)))

    assert codes(5) == codes(5)
    assert len({codes(seed) for seed in range(6)}) > 1


def test_a_request_is_no_longer_than_it_asks(model: MotionModel):
    summary = perform(model, replace(AT_ONCE, max_codes=1))[-1]
    assert isinstance(summary, Summary)
    assert (summary.num_codes, summary.stop) == (1, Stop.MAX_DURATION)


def test_the_plan_comes_before_the_frames_and_gives_their_number(
    scripted_bundle: Write, manifest: Manifest, text_ids: TextIds
):
    reasoning_ids = text_ids(PLAN)
    reply = manifest.tokens.reply_ids(reasoning_ids, [3] * 20)
    events = perform(MotionModel(scripted_bundle(reply), "cpu"), PLANNED)
    planned, summary = events[0], events[-1]
    assert isinstance(planned, Planned)
    assert planned.text == PLAN
    assert [beat.duration_s for beat in planned.plan.beats] == [0.6, 0.4]
    assert [chunk.code for chunk in chunks(events)] == [3] * 5
    assert isinstance(summary, Summary)
    assert (summary.stop, summary.num_reasoning_tokens) == (Stop.PLAN_DURATION, len(reasoning_ids))


def test_a_request_shorter_than_the_plan_ends_at_its_own_length(
    scripted_bundle: Write, manifest: Manifest, text_ids: TextIds
):
    reply = manifest.tokens.reply_ids(text_ids(PLAN), [3] * 20)
    summary = perform(MotionModel(scripted_bundle(reply), "cpu"), replace(PLANNED, max_codes=2))[-1]
    assert isinstance(summary, Summary)
    assert (summary.num_codes, summary.stop) == (2, Stop.MAX_DURATION)


def test_a_plan_shorter_than_a_code_still_moves(scripted_bundle: Write, manifest: Manifest, text_ids: TextIds):
    reply = manifest.tokens.reply_ids(text_ids("1. nod (head), 0.1 s"), [3] * 20)
    summary = perform(MotionModel(scripted_bundle(reply), "cpu"), PLANNED)[-1]
    assert isinstance(summary, Summary)
    assert summary.num_codes == 1


def test_a_motion_is_at_most_a_code_shorter_than_its_plan(
    scripted_bundle: Write, manifest: Manifest, text_ids: TextIds
):
    layout = manifest.tokens
    # After three codes of five the model wants to close, and nothing else.
    reply = layout.reply_ids(text_ids(PLAN), [1, 2, 3])
    reply += [layout.motion_close] * 2
    events = perform(MotionModel(scripted_bundle(reply), "cpu"), PLANNED)
    summary = events[-1]
    assert [chunk.code for chunk in chunks(events)][:3] == [1, 2, 3]
    assert isinstance(summary, Summary)
    assert (summary.num_codes, summary.stop) == (4, Stop.MODEL)


def test_without_a_plan_the_model_may_close_the_motion_when_it_will(scripted_bundle: Write, manifest: Manifest):
    reply = manifest.tokens.reply_ids(None, [1, 2, 0])
    events = perform(MotionModel(scripted_bundle(reply), "cpu"), AT_ONCE)
    summary = events[-1]
    assert [chunk.code for chunk in chunks(events)] == [1, 2, 0]
    assert isinstance(summary, Summary)
    assert summary.stop is Stop.MODEL


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        ("walk forward", "expected '1. what is done, 1.0 s', got 'walk forward'"),
        ("1. walk, 1.0 s 3. sit, 1.0 s", "expected beat 2, got beat 3"),
        ("1. wave (tail), 1.0 s", "unknown body parts"),
        ("", "got no reasoning"),
    ],
)
def test_reasoning_that_is_no_plan_is_an_error_that_says_what_came(
    scripted_bundle: Write, manifest: Manifest, text_ids: TextIds, reasoning: str, expected: str
):
    reply = manifest.tokens.reply_ids(text_ids(reasoning), [3] * 20)
    events = MotionModel(scripted_bundle(reply), "cpu").perform(PLANNED)
    with pytest.raises(PlanError) as caught:
        asyncio.run(anext(events))  # type: ignore[arg-type]  # a coroutine, though typeshed says awaitable
    assert expected in str(caught.value)


@pytest.mark.parametrize(("temperature", "num_drawn"), [(1.0, MOST_PLANS), (0.0, 1)])
def test_a_plan_that_is_none_is_drawn_again_where_another_can_come(
    scripted_bundle: Write,
    manifest: Manifest,
    text_ids: TextIds,
    monkeypatch: pytest.MonkeyPatch,
    temperature: float,
    num_drawn: int,
):
    model = MotionModel(scripted_bundle(manifest.tokens.reply_ids(text_ids("walk forward"), [3] * 20)), "cpu")
    joined: list[object] = []
    join = model.engine.join
    monkeypatch.setattr(model.engine, "join", lambda *asked: (joined.append(asked), join(*asked))[1])
    with pytest.raises(PlanError, match="got 'walk forward'"):
        perform(model, replace(PLANNED, temperature=temperature))
    assert len(joined) == num_drawn
    assert model.engine.num_rows == 0


def test_reasoning_without_end_is_cut_and_is_an_error(scripted_bundle: Write, manifest: Manifest, text_ids: TextIds):
    word = text_ids("a")
    reply = [manifest.tokens.think_open, *word * (2 * MAX_REASONING_TOKENS)]
    with pytest.raises(PlanError, match=r"expected '1\. what is done"):
        perform(MotionModel(scripted_bundle(reply), "cpu"), PLANNED)


def test_tokens_that_cannot_come_are_not_drawn_though_the_model_wants_nothing_else(
    scripted_bundle: Write, manifest: Manifest
):
    layout = manifest.tokens
    wanted = [layout.motion_open, layout.motion_close, layout.think_open, layout.turn_end, layout.motion_open]
    codes = [chunk.code for chunk in chunks(perform(MotionModel(scripted_bundle(wanted), "cpu"), AT_ONCE))]
    assert 1 <= len(codes) <= 8
    assert all(0 <= code < layout.num_codes for code in codes)


def test_logits_that_are_not_finite_are_an_error_and_no_motion(
    scripted_bundle: Callable[..., Path], manifest: Manifest
):
    reply = manifest.tokens.reply_ids(None, [1, 2, 3])
    folder = scripted_bundle(reply, logit=np.nan)
    with pytest.raises(BundleError, match="not finite"):
        perform(MotionModel(folder, "cpu"), AT_ONCE)


def test_a_prompt_that_leaves_no_room_for_a_reply_is_refused_before_anything_runs(
    model: MotionModel, manifest: Manifest
):
    words = "walk " * manifest.language_model.max_positions
    with pytest.raises(PromptError, match=r"leaves no room .* shorten the prompt"):
        model.perform(replace(AT_ONCE, prompt=words))


def test_a_plan_that_is_given_is_followed_and_nothing_is_reasoned(
    scripted_bundle: Callable[..., Path], manifest: Manifest, text_ids: TextIds
):
    plan = parse_plan("1. sit down, 0.6 s 2. nod (head), 0.2 s")
    reply = manifest.tokens.reply_ids(text_ids("1. sit down, 0.6 s 2. nod (head), 0.2 s"), [3] * 20)
    model = MotionModel(scripted_bundle(reply, given=reply.index(manifest.tokens.motion_open) + 1), "cpu")
    for reasoning in (True, False):
        planned, *streamed, summary = perform(model, replace(PLANNED, beats=plan, reasoning=reasoning))
        assert isinstance(planned, Planned)
        assert (planned.plan, planned.text) == (plan, "1. sit down, 0.6 s 2. nod (head), 0.2 s")
        assert [event.code for event in streamed if isinstance(event, Chunk)] == [3] * 4
        assert isinstance(summary, Summary)
        assert (summary.stop, summary.num_reasoning_tokens) == (Stop.PLAN_DURATION, 0)


def test_a_motion_goes_on_from_its_history_at_the_place_where_that_ended(model: MotionModel):
    whole = chunks(collect(lambda: model.decode([3, 1, 2, 0, 1, 3])))
    roots_m = join([chunk.motion for chunk in whole[3:]]).root_positions_m
    rotations = join([chunk.motion for chunk in whole[3:]]).joint_rotations
    here = whole[2].next_root
    for turned in (False, True):
        # A quarter turn to the left: +Z becomes +X, and +X becomes -Z.
        place = (here.z_m, -here.x_m, here.yaw_rad + math.pi / 2) if turned else (here.x_m, here.z_m, here.yaw_rad)
        *rest, summary = collect(lambda place=place: model.decode([0, 1, 3], History((3, 1, 2), *place)))
        assert isinstance(summary, Summary)
        assert (summary.num_codes, summary.num_frames, summary.stop) == (3, 12, Stop.GIVEN_CODES)
        motion = join([chunk.motion for chunk in chunks(rest)])
        expected_m = roots_m[:, [2, 1, 0]] * np.array([1, 1, -1]) if turned else roots_m
        assert np.abs(motion.root_positions_m - expected_m).max() < 1e-5
        assert np.abs(motion.joint_rotations[:, 1:] - rotations[:, 1:]).max() < 1e-5
        assert summary.quality == measure_quality(motion)
        assert [chunk.first_frame for chunk in chunks(rest)] == [0, 4, 8]


def test_the_model_reads_the_history_after_the_plan_and_before_its_own_codes(
    scripted_bundle: Write, manifest: Manifest, text_ids: TextIds
):
    reply = manifest.tokens.reply_ids(text_ids(PLAN), [1, 2, *[3] * 20])
    model, history = MotionModel(scripted_bundle(reply), "cpu"), History((1, 2), root_z_m=1.0)
    events = perform(model, replace(PLANNED, history=history))
    assert isinstance(events[0], Planned)
    assert [chunk.code for chunk in chunks(events)] == [3] * 5
    again = collect(lambda: model.decode([3] * 5, history))
    assert np.array_equal(
        join([chunk.motion for chunk in chunks(events)]).root_positions_m,
        join([chunk.motion for chunk in chunks(again)]).root_positions_m,
    )


def test_a_plan_or_a_history_that_the_model_cannot_be_given_is_refused_at_once(model: MotionModel, manifest: Manifest):
    long = Plan((Beat(" ".join(["walk"] * 100), 1.0),))
    with pytest.raises(RequestError, match=r"beats: must be at most 96 tokens, got 1\d\d"):
        model.perform(replace(AT_ONCE, beats=long))
    unknown = History((0, manifest.tokens.num_codes))
    with pytest.raises(RequestError, match=r"history.codes: codes go from 0 to \d+, got \d+ at place 1"):
        model.perform(replace(AT_ONCE, history=unknown))
    with pytest.raises(RequestError, match=r"^codes: must be 1 or more, got 0"):
        model.decode([])
    with pytest.raises(ValueError, match="at most 64 codes, got 65; give the last"):
        History((0,) * 65)
    with pytest.raises(ValueError, match="yaw_rad of a history must be -10000 to 10000, got nan"):
        History((0,), yaw_rad=math.nan)


def test_a_plan_alone_is_the_plan_with_which_the_stream_begins(
    scripted_bundle: Write, manifest: Manifest, text_ids: TextIds
):
    model = MotionModel(scripted_bundle(manifest.tokens.reply_ids(text_ids(PLAN), [3] * 20)), "cpu")
    planned = asyncio.run(model.plan(PLANNED))
    assert planned == perform(model, PLANNED)[0]
    with pytest.raises(ValueError, match="reasoning=True"):
        asyncio.run(model.plan(AT_ONCE))


def test_a_manifest_that_names_other_token_ids_is_refused(tiny_bundle: Path, manifest: Manifest, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "shifted"))
    shifted = replace(manifest.tokens, think_open=manifest.tokens.think_close)
    write_manifest(folder, replace(manifest, tokens=shifted))
    with pytest.raises(BundleError, match=r"tokenizer\.json: <think> is \d+, the manifest says \d+"):
        MotionModel(folder, "cpu")


def test_a_graph_whose_logits_are_too_few_is_refused_before_serving(
    tiny_bundle: Path, manifest: Manifest, tmp_path: Path
):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "short"))
    path = folder / manifest.language_model.file
    model, num_spoken = onnx.load(path), manifest.tokens.num_spoken
    head = next(node for node in model.graph.node if "motion_logits" in node.output)
    # The head is the embedding: its part is cut from that as a session loads.
    cut = next(node for node in model.graph.node if node.output[0] == head.input[1])
    end = next(tensor for tensor in model.graph.initializer if tensor.name == cut.input[2])
    end.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(end) - 1, end.name))
    next(value for value in model.graph.output if value.name == "motion_logits").type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    write_manifest(folder, replace(manifest, files=manifest.files | {path.name: sha256(path)}))
    expected = rf"language_model\.onnx: expected .* logits of {num_spoken} tokens, got 2 and {num_spoken - 1}"
    with pytest.raises(BundleError, match=expected):
        MotionModel(folder, "cpu")


@pytest.mark.parametrize(
    ("width", "num_levels", "level_size", "expected"),
    [(32, 0, 0, "states are"), (64, 1, 0, "given are"), (64, 0, 1, "logits are")],
)
def test_a_depth_head_of_another_model_is_refused_and_one_that_is_missing_too(
    tiny_bundle: Path,
    manifest: Manifest,
    tmp_path: Path,
    width: int,
    num_levels: int,
    level_size: int,
    expected: str,
):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "foreign"))
    layout = manifest.tokens
    codebook = CodebookSize(level_size=layout.level_size + level_size, num_levels=layout.num_levels + num_levels)
    path = folder / write_depth_head(DepthHead(width, codebook, DepthHeadShape()), "fp32", folder).file
    write_manifest(folder, replace(manifest, files=manifest.files | {path.name: sha256(path)}))
    with pytest.raises(BundleError, match=rf"depth_head\.onnx: {expected} .*export the bundle again"):
        MotionModel(folder, "cpu")
    path.unlink()
    with pytest.raises(BundleError, match=r"depth_head\.onnx: missing"):
        MotionModel(folder, "cpu")


def test_the_likeliest_codes_after_a_history_are_those_of_torch(
    tiny_checkpoint: Path, model: MotionModel, manifest: Manifest
):
    layout, history = manifest.tokens, (3, 1, 2, 30)
    request = replace(AT_ONCE, temperature=0.0, history=History(history, 0.0, 0.0, 0.0))
    found = [chunk.code for chunk in chunks(perform(model, request))]
    reference = load_language_model(tiny_checkpoint)
    prompt = PromptTemplate(reference.tokenizer, PROMPT_TEMPLATE, layout).ids(PROMPT)
    given = layout.reply_ids(None, history)[:-1]
    parser, token_ids = ReplyParser(layout), [*prompt, *given]
    for token_id in given:
        parser.feed(token_id)
    while len(parser.codes) < len(history) + AT_ONCE.max_codes and parser.place is Place.MOTION:
        with torch.no_grad():
            logits = reference.model(torch.tensor([token_ids])).logits[0, -1]
        allowed = parser.allowed()
        if len(parser.codes) == len(history):
            allowed[layout.motion_close] = False
        token_ids.append(int(logits.masked_fill(torch.from_numpy(~allowed), -np.inf).argmax()))
        parser.feed(token_ids[-1])
    assert found == parser.codes[len(history) :]
    assert len(found) >= 2
