import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from python_core.clips.prepared import read_prepared
from python_core.evaluators.evaluator_checkpoint import load_evaluator
from python_core.evaluators.halves import EvaluatorKind
from python_core.evaluators.retrieval import measure_retrieval
from python_core.stages import train_evaluator
from python_core.stages.train_evaluator import PRESETS, TrainEvaluatorConfig

SHARES_HELD_OUT = {"judge": 0.0, "reward": 0.5}
"""The judge's only take is a squat; of the reward model's three, half the line holds out the walk and the wave."""


RECORDED = Path(__file__).parents[2] / "recorded" / "train_evaluator.json"
"""What the runs of `test_a_killed_run_goes_on_with_the_same_numbers` logged when they were recorded."""


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    # The judge is killed in the middle of each of its two parts; each also after its last step, before its weights.
    ("kind", "killed_after"),
    [("judge", 1), ("judge", 3), ("judge", 4), ("reward", 1), ("reward", 2)],
)
def test_a_killed_run_goes_on_with_the_same_numbers(
    tiny_evaluator: TrainEvaluatorConfig, tmp_path: Path, kind: EvaluatorKind, killed_after: int
):
    judge = replace(tiny_evaluator.judge, movement_steps=4, movement_batch=2)
    config = replace(
        tiny_evaluator, kind=kind, judge=judge, steps=4, save_every=2, held_out_share=SHARES_HELD_OUT[kind]
    )
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train_evaluator.run(replace(config, out=straight))
    original, saves = train_evaluator.save_training, 0

    def save_then_kill(path, state):
        nonlocal saves
        original(path, state)
        saves += 1
        if saves == killed_after:
            raise KeyboardInterrupt

    train_evaluator.save_training = save_then_kill
    try:
        with pytest.raises(KeyboardInterrupt):
            train_evaluator.run(replace(config, out=stopped))
    finally:
        train_evaluator.save_training = original
    train_evaluator.run(replace(config, out=stopped))
    expected, actual = (load_file(folder / "model.safetensors") for folder in (straight, stopped))
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name
    assert metrics(straight)[-1] == metrics(stopped)[-1]
    lines = [
        [{name: value for name, value in line.items() if name != "time_s"} for line in metrics(folder)[:-1]]
        for folder in (straight, stopped)
    ]
    assert lines[0] == lines[1]
    for line, recorded in zip(lines[0], json.loads(RECORDED.read_text())[kind], strict=True):
        assert line == pytest.approx(recorded, rel=0.001)


@pytest.mark.parametrize("kind", ["judge", "reward"])
def test_a_run_in_slices_ends_in_the_weights_of_one_in_one_go(
    tiny_evaluator: TrainEvaluatorConfig, tmp_path: Path, kind: EvaluatorKind
):
    judge = replace(tiny_evaluator.judge, movement_steps=1, movement_batch=2)
    steps = 1 if kind == "judge" else 3
    config = replace(
        tiny_evaluator, kind=kind, judge=judge, steps=steps, save_every=2, held_out_share=SHARES_HELD_OUT[kind]
    )
    train_evaluator.run(replace(config, out=tmp_path / "straight"))
    for step in (1, 2) if kind == "judge" else (1, 2, 3):
        # Each run is over after its first step.
        train_evaluator.run(replace(config, out=tmp_path / "slices", stop_after_s=0.0))
        assert torch.load(tmp_path / "slices" / "training.pt")["step"] == step
    expected, actual = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "slices"))
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name
    assert metrics(tmp_path / "straight")[-1] == metrics(tmp_path / "slices")[-1]


@pytest.mark.parametrize("kind", ["judge", "reward"])
def test_training_lowers_the_loss_and_the_checkpoint_reads_back(
    tiny_evaluator: TrainEvaluatorConfig, tmp_path: Path, kind: EvaluatorKind
):
    train_evaluator.run(replace(tiny_evaluator, kind=kind, out=tmp_path))
    lines = metrics(tmp_path)
    assert "retrieval" in lines[-1]["measures"]["val"]
    first, last = lines[0], lines[-2]
    if kind == "judge":
        assert set(first) == {"step", "movement_loss", "time_s"}
        assert last["pairs"] + last["others"] < 100
    else:
        assert last["matching"] < first["matching"]
    prepared = read_prepared(tiny_evaluator.prepared)
    loaded = load_evaluator(tmp_path)
    clips = [np.array(prepared.features(clip)) for clip in prepared.clips]
    distances = loaded.distances(
        loaded.evaluator.embed_texts([clip.captions[0] for clip in prepared.clips]),
        loaded.evaluator.embed_motions(clips),
    )
    assert distances.shape == (len(clips), len(clips))
    assert np.isfinite(distances).all()
    origin = json.loads((tmp_path / "checkpoint.json").read_text())
    assert (origin["kind"], origin["frame_rate_hz"], origin["training"]["seed"]) == (kind, 20.0, 1)


def test_given_word_vectors_are_kept_as_they_are(tiny_evaluator: TrainEvaluatorConfig, tmp_path: Path):
    path = tmp_path / "vectors.txt"
    numbers = [" ".join(str(0.1 * (place + row)) for place in range(24)) for row in range(3)]
    path.write_text("".join(f"{word} {row}\n" for word, row in zip(("walk", "person", "unk"), numbers, strict=True)))
    judge = replace(tiny_evaluator.judge, movement_steps=1, movement_batch=2)
    train_evaluator.run(replace(tiny_evaluator, judge=judge, steps=2, word_vectors=path, out=tmp_path / "judge"))
    weights = load_file(tmp_path / "judge" / "model.safetensors")["words.weight"]
    assert json.loads((tmp_path / "judge" / "words.json").read_text()) == ["unk", "sos", "eos", "person", "walk"]
    np.testing.assert_allclose(weights[4], 0.1 * np.arange(24), atol=1e-6)
    np.testing.assert_array_equal(weights[1:3], 0)
    path.write_text("zebra 1 2 3\n")
    with pytest.raises(ValueError, match=r"vectors\.txt: has none of the \d+ words"):
        train_evaluator.run(replace(tiny_evaluator, judge=judge, word_vectors=path, out=tmp_path / "other"))


def test_what_is_missing_is_named(tiny_evaluator: TrainEvaluatorConfig, tmp_path: Path):
    with pytest.raises(ValueError, match=r"model\.safetensors: missing; a text encoder comes from .* text-encoder"):
        train_evaluator.run(replace(tiny_evaluator, kind="reward", text_encoder=tmp_path, out=tmp_path / "run"))
    with pytest.raises(ValueError, match=r"glove\.txt: missing"):
        train_evaluator.run(replace(tiny_evaluator, word_vectors=tmp_path / "glove.txt", out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_saved_weights_are_those_that_did_best_on_held_out_takes(
    tiny_evaluator: TrainEvaluatorConfig, tmp_path: Path
):
    # A rate at which weights get worse at once.
    reward = replace(tiny_evaluator.reward, learning_rate=0.3, warm_up_steps=0)
    config = replace(
        tiny_evaluator, kind="reward", reward=reward, steps=6, save_every=1, held_out_share=0.5, out=tmp_path
    )
    train_evaluator.run(config)
    *lines, last = metrics(tmp_path)
    scores = {line["step"]: (line["held_out_r_at_3"], -line["held_out_pair_distance"]) for line in lines}
    assert len(scores) == 6
    assert scores[last["best_step"]] == max(scores.values())
    prepared = read_prepared(tiny_evaluator.prepared)
    _, held_out = train_evaluator._hold_out(prepared, config)
    saved = measure_retrieval(load_evaluator(tmp_path), prepared, held_out, config.seed)
    assert saved is not None
    assert saved.pair_distance == pytest.approx(-scores[last["best_step"]][1], abs=1e-4)
    # Given again, a finished run has nothing to add.
    train_evaluator.run(config)
    assert metrics(tmp_path) == [*lines, last]


def test_a_share_that_holds_out_all_takes_is_an_error(tiny_evaluator: TrainEvaluatorConfig, tmp_path: Path):
    with pytest.raises(ValueError, match=r"held_out_share 0\.9: all takes of the judge are held out"):
        train_evaluator.run(replace(tiny_evaluator, held_out_share=0.9, out=tmp_path))


def test_only_the_published_recipe_changes_no_motions():
    assert all((PRESETS[name].judge.speed, PRESETS[name].judge.dropout) == (0.1, 0.2) for name in ("small", "nano"))
    judge = PRESETS["base"].judge
    assert (judge.speed, judge.noise, judge.dropout) == (0, 0, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"held_out_share": 1.0}, "held_out_share goes from 0 to below 1, got 1.0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["tiny"], **fields)


def test_training_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"movement_rows must be a multiple of the 4 rows of a movement, .* got 42"):
        replace(PRESETS["tiny"].judge, movement_rows=42)
    with pytest.raises(ValueError, match="warm_up_steps must be at least 0, got -1"):
        replace(PRESETS["tiny"].reward, warm_up_steps=-1)
