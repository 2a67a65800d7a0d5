import logging
import mmap
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import bridge.engine
from bridge.engine import MOST_BETWEEN, SLICE_POSITIONS, Engine, Row
from bridge.kv_cache import KvCache
from python_core.contract.bundle import BundleError, Manifest
from python_core.contract.vocabulary import Position

Logits = list[np.ndarray]


@pytest.fixture
def engine(tiny_bundle: Path, manifest: Manifest) -> Engine:
    return Engine(tiny_bundle, manifest.language_model, "cpu", num_threads=1)


def words(*token_ids: int) -> list[Position]:
    """Positions of tokens that are of no code."""
    return [(token_id, -1) for token_id in token_ids]


def run(engine: Engine, row: Row, fed: Sequence[Position]) -> Logits:
    """Step until a row has logits and states, after what it was given and after each position that it is fed."""
    logits: Logits = []
    while len(logits) <= len(fed):
        step = engine.step()
        assert not step.failed
        if row in step.rows:
            place = step.rows.index(row)
            logits.append(np.concatenate([step.logits[place], step.states[place]]))
            if len(logits) <= len(fed):
                row.feed([fed[len(logits) - 1]])
    return logits


def alone(
    tiny_bundle: Path, manifest: Manifest, segments: Sequence[Sequence[Position]], fed: Sequence[Position]
) -> Logits:
    engine = Engine(tiny_bundle, manifest.language_model, "cpu", num_threads=1)
    return run(engine, engine.join(segments), fed)


def test_a_row_has_the_same_logits_to_the_last_bit_alone_and_among_64_that_come_and_go(
    tiny_bundle: Path, manifest: Manifest, engine: Engine
):
    random = np.random.default_rng(0)

    def ids(size: int) -> list[Position]:
        layout = manifest.tokens
        texts = words(*random.integers(4, layout.first_code, size).tolist())
        codes = layout.fold(
            [ids for code in random.integers(layout.num_codes, size=size) for ids in layout.code_ids(code)]
        )
        return [one if random.random() < 0.5 else other for one, other in zip(texts, codes, strict=True)]

    beginning = ids(3)
    watched = [([beginning, ids(int(random.integers(1, 50)))], ids(12)) for _ in range(4)]
    expected = [alone(tiny_bundle, manifest, segments, fed) for segments, fed in watched]
    rows: dict[Row, int] = {}
    got: dict[int, Logits] = {number: [] for number in range(len(watched))}
    others: list[Row] = []
    rounds = 0
    while any(len(got[number]) <= len(fed) for number, (_, fed) in enumerate(watched)):
        rounds += 1
        if len(rows) < len(watched) and rounds % 9 == 1:
            rows[engine.join(watched[len(rows)][0])] = len(rows)
        if others and random.random() < 0.3:
            engine.leave(others.pop(int(random.integers(len(others)))))
        while len(others) < 60 and random.random() < 0.9:
            others.append(engine.join([beginning, ids(int(random.integers(1, 40)))]))
            edge = int(random.integers(1, engine.num_spoken))
            others[-1].allowed = (range(edge) if random.random() < 0.5 else range(edge, engine.num_spoken),)
        step = engine.step()
        for row, logits, states in zip(step.rows, step.logits, step.states, strict=True):
            if row not in rows:
                row.feed(ids(int(random.integers(1, 3))))
            else:
                heard, fed = got[rows[row]], watched[rows[row]][1]
                heard.append(np.concatenate([logits, states]))
                if len(heard) <= len(fed):
                    row.feed([fed[len(heard) - 1]])
    assert engine.num_rows > 32
    for number, wanted in enumerate(expected):
        assert np.array_equal(np.stack(got[number]), np.stack(wanted))


def test_a_part_of_the_head_says_the_same_alone_and_beside_rows_that_need_the_other_part(
    tiny_bundle: Path, manifest: Manifest, engine: Engine
):
    words_or_motion = (range(manifest.tokens.motion_close), range(manifest.tokens.motion_close, engine.num_spoken))
    segments, fed = [words(5, 6, 7)], words(8, 9)
    expected = alone(tiny_bundle, manifest, segments, fed)
    rows = [engine.join(segments) for _ in range(7)]
    for number, row in enumerate(rows):
        row.allowed = words_or_motion[number % 2 :][:1] if number < 6 else words_or_motion
    for place, wanted in enumerate(expected):
        while rows[-1] not in (step := engine.step()).rows:
            pass
        for row, logits, states in zip(step.rows, step.logits, step.states, strict=True):
            for ids in row.allowed:
                assert np.array_equal(logits[ids.start : ids.stop], wanted[ids.start : ids.stop])
            assert np.array_equal(states, wanted[engine.num_spoken :])
            row.feed(fed[place : place + 1])
            # A row that has thought moves.
            row.allowed = words_or_motion[1:] if row is rows[0] else row.allowed


def test_a_prompt_is_read_in_slices_while_the_others_go_on(engine: Engine):
    first = engine.join([words(5, 6)])
    assert engine.step().rows == [first]
    first.feed(words(7))
    second = engine.join([words(*range(10, 10 + 2 * SLICE_POSITIONS + 3))])
    read = []
    while second.num_pending:
        step = engine.step()
        assert step.rows == ([first] if second.num_pending else [first, second])
        first.feed(words(8))
        read.append(second.num_positions)
    assert read == [SLICE_POSITIONS, 2 * SLICE_POSITIONS, 2 * SLICE_POSITIONS + 3]


def test_beginnings_that_others_have_read_are_not_read_again_and_give_the_same_logits(
    tiny_bundle: Path, manifest: Manifest, engine: Engine
):
    template, prompt, opening = words(5, 6, 7), words(*range(20, 60)), words(9)
    expected = alone(tiny_bundle, manifest, [template, prompt, opening], words(11))
    run(engine, engine.join([template, prompt, opening]), [])
    again = engine.join([template, prompt, opening])
    assert (again.num_positions, again.num_pending) == (43, 1)
    assert np.array_equal(np.stack(run(engine, again, words(11))), np.stack(expected))
    other = engine.join([template, words(40, 41, 42), opening])
    assert (other.num_positions, other.num_pending) == (3, 4)
    third = engine.join([template, prompt])
    assert third.num_positions == 3  # Its last token is to be read for its logits.


def test_a_row_that_leaves_makes_room_at_once_and_the_last_takes_its_place(tiny_bundle: Path, manifest: Manifest):
    engine = Engine(tiny_bundle, manifest.language_model, "cpu", max_rows=3)
    segments = [[words(5, 6, 7 + number)] for number in range(3)]
    rows = [engine.join(one) for one in segments]
    assert not engine.has_room
    logits = [run(engine, rows[2], words(12, 13))]
    engine.leave(rows[0])
    engine.leave(rows[0])
    assert (engine.num_rows, rows[2].place, engine.has_room) == (2, 0, True)
    rows[2].feed(words(14))
    logits.append(run(engine, rows[2], words(15)))
    expected = alone(tiny_bundle, manifest, segments[2], words(12, 13, 14, 15))
    assert np.array_equal(np.concatenate([np.stack(part) for part in logits]), np.stack(expected))
    for row in rows[1:]:
        engine.leave(row)
    assert engine.num_rows == 0


def test_rows_that_pause_are_not_computed_for_one_that_is_far_behind_them(
    tiny_bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
):
    engine = Engine(tiny_bundle, manifest.language_model, "cpu", num_threads=1)
    prompts = [words(5, 6, 7 + number) for number in range(20)]
    rows = [engine.join([prompt]) for prompt in prompts]
    while any(row.num_pending > 1 for row in rows):
        for row in rows:
            row.pauses = True
        engine.step()
    goes_on = [0, 1, 2 + MOST_BETWEEN, 19]
    for place in goes_on:
        rows[place].pauses = False
    runs: list[tuple[int, int]] = []
    inner = engine._run

    def counted(first: int, positions: np.ndarray, *others: Any) -> None:
        runs.append((first, len(positions)))
        inner(first, positions, *others)

    monkeypatch.setattr(engine, "_run", counted)
    step = engine.step()
    assert [rows.index(row) for row in step.rows] == goes_on
    assert runs == [(0, 3 + MOST_BETWEEN), (19, 1)]
    for place, logits, state in zip(goes_on, step.logits, step.states, strict=True):
        (expected,) = alone(tiny_bundle, manifest, [prompts[place]], [])
        assert np.array_equal(np.concatenate([logits, state]), expected)


def test_few_runs_stay_bound_and_one_that_does_not_is_bound_again(
    tiny_bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bridge.engine, "MOST_BINDINGS", 2)
    engine = Engine(tiny_bundle, manifest.language_model, "cpu", num_threads=1)
    rows = [engine.join([words(5, 6, 7 + number)]) for number in range(4)]
    said: list[tuple[int, np.ndarray]] = []
    for _ in range(40):
        step = engine.step()
        assert len(engine._bindings) <= 2
        said += [(rows.index(row), logits) for row, logits in zip(step.rows, step.logits, strict=True)]
    assert {place for place, _ in said} == {0, 1, 2, 3}
    for place, logits in said:
        (expected,) = alone(tiny_bundle, manifest, [words(5, 6, 7 + place)], [])
        assert np.array_equal(logits, expected[: len(logits)])


def test_the_cache_grows_with_its_rows_and_forgets_nothing(tiny_bundle: Path, manifest: Manifest):
    engine = Engine(tiny_bundle, manifest.language_model, "cpu")
    rows, before = [], []
    for number in range(3):
        rows.append(engine.join([words(5, 6, 7 + number)], most_positions=20))
        before.append(run(engine, rows[-1], words(12)))
    many = [engine.join([words(4, 4)], most_positions=manifest.language_model.max_positions) for _ in range(20)]
    assert all(row.place == place for place, row in enumerate([*rows, *many]))
    for number, row in enumerate(rows):
        row.feed(words(13))
        logits = before[number] + run(engine, row, [])
        assert np.array_equal(
            np.stack(logits), np.stack(alone(tiny_bundle, manifest, [words(5, 6, 7 + number)], words(12, 13)))
        )


@pytest.mark.skipif(sys.platform != "linux", reason="others keep what they have given")
def test_the_caches_memory_goes_back_when_the_last_row_leaves(tiny_bundle: Path, manifest: Manifest):
    def resident_bytes() -> int:
        """Of memory that processes may share, as the cache is."""
        found = re.search(r"RssShmem:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return 1024 * int(found[1])

    engine = Engine(tiny_bundle, manifest.language_model, "cpu", num_threads=1)
    before = resident_bytes()
    rows = [engine.join([words(*range(4, 24))]) for _ in range(2)]
    first = [run(engine, row, words(5)) for row in rows]
    held = resident_bytes() - before
    # Keys and values of each layer and head: a page each at least, of both rows.
    assert held >= 2 * 2 * manifest.language_model.num_layers * manifest.language_model.num_kv_heads * mmap.PAGESIZE
    engine.leave(rows[0])
    assert resident_bytes() - before == held
    engine.leave(rows[1])
    assert resident_bytes() == before
    again = run(engine, engine.join([words(*range(4, 24))]), words(5))
    assert all(np.array_equal(one, other) for one, other in zip(first[0], again, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux only")
def test_a_system_that_takes_no_memory_back_is_told_of_once_and_the_rows_go_on(
    engine: Engine, caplog: pytest.LogCaptureFixture
):
    class Pages:
        def madvise(self, _: int) -> None:
            raise OSError(22, "Invalid argument")

    first = run(engine, engine.join([words(*range(4, 24))]), words(5))
    engine._cache._pages = Pages()  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING):
        for row in engine.rows:
            engine.leave(row)
        for _ in range(2):
            row = engine.join([words(*range(4, 24))])
            again = run(engine, row, words(5))
            engine.leave(row)
            assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert caplog.text.count("does not take back memory") == 1


def test_a_cache_on_a_device_begins_with_zeros(monkeypatch: pytest.MonkeyPatch):
    """Not with what was there: NaN times a weight of zero is NaN."""
    on_cpu = ort.OrtValue.ortvalue_from_numpy
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", lambda values, *_: on_cpu(values))
    monkeypatch.setattr(
        ort.OrtValue, "ortvalue_from_shape_and_type", lambda shape, dtype, *_: on_cpu(np.full(shape, np.nan, dtype))
    )
    names = ["past_key_values.0.key", "past_key_values.0.value"]
    cache = KvCache(names, 2, 4, np.float16, "cuda", max_rows=3, max_positions=5)
    assert cache._on_device is not None
    held = cache._on_device.numpy()
    assert (held.shape, held.dtype) == ((2, 3, 2, 5, 4), np.float16)
    assert np.array_equal(held, np.zeros_like(held))


def test_a_token_that_the_model_does_not_know_fails_its_row_and_no_other(engine: Engine, manifest: Manifest):
    good, bad = engine.join([words(5, 6)]), engine.join([words(5, 6)])
    for _ in range(3):
        for row in engine.step().rows:
            row.feed(words(7 if row is good else 10**6))
        if bad.segments and bad.segments[-1] == words(10**6):
            break
    step = engine.step()
    assert step.rows == [good]
    assert [row for row, _ in step.failed] == [bad]
    assert isinstance(step.failed[0][1], BundleError)
    assert engine.num_rows == 1
    good.feed(words(8))
    assert engine.step().rows == [good]
    worse = engine.join([words(10**6, 5, 6)])
    failed = []
    while not failed:
        failed = engine.step().failed
    assert [row for row, _ in failed] == [worse]


def test_a_row_that_fails_before_others_leaves_them_as_they_were(engine: Engine, tiny_bundle: Path, manifest: Manifest):
    bad, middle, good = (engine.join([words(5, number)]) for number in (6, 7, 8))
    logits: dict[Row, Logits] = {middle: [], good: []}
    fed = words(9, 10, 11)
    while min(map(len, logits.values())) <= len(fed):
        step = engine.step()
        for place, row in enumerate(step.rows):
            if row is bad:
                row.feed(words(10**6))
                continue
            logits[row].append(np.concatenate([step.logits[place], step.states[place]]))
            if len(logits[row]) <= len(fed):
                row.feed([fed[len(logits[row]) - 1]])
    assert engine.num_rows == 2
    for row, second in ((middle, 7), (good, 8)):
        assert np.array_equal(np.stack(logits[row]), np.stack(alone(tiny_bundle, manifest, [words(5, second)], fed)))


def test_generation_stops_when_the_models_positions_are_full(engine: Engine, manifest: Manifest):
    prompt = words(1) * (manifest.language_model.max_positions - 5)
    assert len(list(engine.generate(prompt, lambda *_: (1, -1)))) == 5
    assert engine.num_rows == 0


def test_a_graph_with_other_inputs_is_refused(tiny_bundle: Path, manifest: Manifest):
    fewer = replace(manifest.language_model, num_layers=manifest.language_model.num_layers - 1)
    with pytest.raises(BundleError, match=r"language_model\.onnx: inputs differ from the manifest"):
        Engine(tiny_bundle, fewer, "cpu")


def test_a_script_is_read_in_order(scripted_bundle: Callable[[Sequence[int]], Path], manifest: Manifest):
    reply = manifest.tokens.reply_ids(None, [1, 2, 3])
    folder = scripted_bundle(reply)
    graph = replace(manifest.language_model, num_layers=1, num_kv_heads=1, head_dim=1, max_positions=100)
    engine = Engine(folder, graph, "cpu")
    positions = manifest.tokens.fold(reply)
    starts = manifest.tokens.first_code + manifest.tokens.level_size

    def choose(logits: np.ndarray, state: np.ndarray) -> Position:
        first = int(logits.argmax())
        return (first, starts + int(state[0]) if manifest.tokens.is_of_code(first) else -1)

    written = engine.generate([*words(*range(10, 50)), positions[0]], choose)
    assert [next(written) for _ in positions[1:]] == positions[1:]
