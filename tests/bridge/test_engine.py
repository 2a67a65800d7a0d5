from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge.engine import SLICE_TOKENS, Engine, Row
from python_core.contract.bundle import BundleError, Manifest

Logits = list[np.ndarray]


@pytest.fixture
def engine(tiny_bundle: Path, manifest: Manifest) -> Engine:
    return Engine(tiny_bundle, manifest.language_model, "cpu", num_threads=1)


def run(engine: Engine, row: Row, fed: Sequence[int]) -> Logits:
    """Step until a row has logits, after what it was given and after each token that it is fed."""
    logits: Logits = []
    while len(logits) <= len(fed):
        step = engine.step()
        assert not step.failed
        if row in step.rows:
            logits.append(step.logits[step.rows.index(row)].copy())
            if len(logits) <= len(fed):
                row.feed([fed[len(logits) - 1]])
    return logits


def alone(tiny_bundle: Path, manifest: Manifest, segments: Sequence[Sequence[int]], fed: Sequence[int]) -> Logits:
    engine = Engine(tiny_bundle, manifest.language_model, "cpu", num_threads=1)
    return run(engine, engine.join(segments), fed)


def test_a_row_has_the_same_logits_to_the_last_bit_alone_and_among_64_that_come_and_go(
    tiny_bundle: Path, manifest: Manifest, engine: Engine
):
    random = np.random.default_rng(0)

    def ids(size: int) -> list[int]:
        return random.integers(4, manifest.tokens.vocabulary_size, size).tolist()

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
        step = engine.step()
        for row, logits in zip(step.rows, step.logits, strict=True):
            if row not in rows:
                row.feed(ids(int(random.integers(1, 3))))
            else:
                heard, fed = got[rows[row]], watched[rows[row]][1]
                heard.append(logits.copy())
                if len(heard) <= len(fed):
                    row.feed([fed[len(heard) - 1]])
    assert engine.num_rows > 32
    for number, wanted in enumerate(expected):
        assert np.array_equal(np.stack(got[number]), np.stack(wanted))


def test_a_prompt_is_read_in_slices_while_the_others_go_on(engine: Engine):
    first = engine.join([[5, 6]])
    assert engine.step().rows == [first]
    first.feed([7])
    second = engine.join([list(range(10, 10 + 2 * SLICE_TOKENS + 3))])
    read = []
    while second.num_pending:
        step = engine.step()
        assert step.rows == ([first] if second.num_pending else [first, second])
        first.feed([8])
        read.append(second.num_tokens)
    assert read == [SLICE_TOKENS, 2 * SLICE_TOKENS, 2 * SLICE_TOKENS + 3]


def test_beginnings_that_others_have_read_are_not_read_again_and_give_the_same_logits(
    tiny_bundle: Path, manifest: Manifest, engine: Engine
):
    template, prompt, opening = [5, 6, 7], list(range(20, 60)), [9]
    expected = alone(tiny_bundle, manifest, [template, prompt, opening], [11])
    run(engine, engine.join([template, prompt, opening]), [])
    again = engine.join([template, prompt, opening])
    assert (again.num_tokens, again.num_pending) == (43, 1)
    assert np.array_equal(np.stack(run(engine, again, [11])), np.stack(expected))
    other = engine.join([template, [40, 41, 42], opening])
    assert (other.num_tokens, other.num_pending) == (3, 4)
    third = engine.join([template, prompt])
    assert third.num_tokens == 3  # Its last token is to be read for its logits.


def test_a_row_that_leaves_makes_room_at_once_and_the_last_takes_its_place(tiny_bundle: Path, manifest: Manifest):
    engine = Engine(tiny_bundle, manifest.language_model, "cpu", max_rows=3)
    segments = [[[5, 6, 7 + number]] for number in range(3)]
    rows = [engine.join(one) for one in segments]
    assert not engine.has_room
    logits = [run(engine, rows[2], [12, 13])]
    engine.leave(rows[0])
    engine.leave(rows[0])
    assert (engine.num_rows, rows[2].place, engine.has_room) == (2, 0, True)
    rows[2].feed([14])
    logits.append(run(engine, rows[2], [15]))
    expected = alone(tiny_bundle, manifest, segments[2], [12, 13, 14, 15])
    assert np.array_equal(np.concatenate([np.stack(part) for part in logits]), np.stack(expected))
    for row in rows[1:]:
        engine.leave(row)
    assert engine.num_rows == 0


def test_the_cache_grows_with_its_rows_and_forgets_nothing(tiny_bundle: Path, manifest: Manifest):
    engine = Engine(tiny_bundle, manifest.language_model, "cpu")
    rows, before = [], []
    for number in range(3):
        rows.append(engine.join([[5, 6, 7 + number]], most_tokens=20))
        before.append(run(engine, rows[-1], [12]))
    many = [engine.join([[4, 4]], most_tokens=manifest.language_model.max_tokens) for _ in range(20)]
    assert all(row.place == place for place, row in enumerate([*rows, *many]))
    for number, row in enumerate(rows):
        row.feed([13])
        logits = before[number] + run(engine, row, [])
        assert np.array_equal(np.stack(logits), np.stack(alone(tiny_bundle, manifest, [[5, 6, 7 + number]], [12, 13])))


def test_a_token_that_the_model_does_not_know_fails_its_row_and_no_other(engine: Engine, manifest: Manifest):
    good, bad = engine.join([[5, 6]]), engine.join([[5, 6]])
    for _ in range(3):
        for row in engine.step().rows:
            row.feed([7] if row is good else [10**6])
        if bad.segments and bad.segments[-1][0] == 10**6:
            break
    step = engine.step()
    assert step.rows == [good]
    assert [row for row, _ in step.failed] == [bad]
    assert isinstance(step.failed[0][1], BundleError)
    assert engine.num_rows == 1
    good.feed([8])
    assert engine.step().rows == [good]
    worse = engine.join([[10**6, 5, 6]])
    failed = []
    while not failed:
        failed = engine.step().failed
    assert [row for row, _ in failed] == [worse]


def test_generation_stops_when_the_models_tokens_are_full(engine: Engine, manifest: Manifest):
    prompt = [1] * (manifest.language_model.max_tokens - 5)
    assert len(list(engine.generate(prompt, lambda _: 1))) == 5
    assert engine.num_rows == 0


def test_a_graph_with_other_inputs_is_refused(tiny_bundle: Path, manifest: Manifest):
    fewer = replace(manifest.language_model, num_layers=manifest.language_model.num_layers - 1)
    with pytest.raises(BundleError, match=r"language_model\.onnx: inputs differ from the manifest"):
        Engine(tiny_bundle, fewer, "cpu")


def test_a_script_is_read_in_order(scripted_bundle: Callable[[Sequence[int]], Path], manifest: Manifest):
    reply = manifest.tokens.reply_ids(None, [1, 2, 3])
    folder = scripted_bundle(reply)
    graph = replace(manifest.language_model, num_layers=1, num_kv_heads=1, head_dim=1, max_tokens=100)
    engine = Engine(folder, graph, "cpu")
    tokens = engine.generate([*range(10, 50), reply[0]], lambda logits: int(logits.argmax()))
    assert [next(tokens) for _ in reply[1:]] == reply[1:]
