import json
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel

from python_core.checkpoint import load_language_model, save_language_model, save_vqvae, start_run
from python_core.clips.prepared import read_prepared
from python_core.evaluators.evaluator import Judge, JudgeShape, judge_normalizer
from python_core.evaluators.evaluator_checkpoint import load_evaluator, load_reward_model, save_judge, save_reward_model
from python_core.evaluators.reward_model import RewardModel, RewardShape
from python_core.evaluators.token_states import load_token_states
from python_core.grpo.rewards import RewardError
from python_core.language_model import LoraShape, new_language_model, token_layout, train_text_tokenizer
from python_core.motion_tokenizer import MotionTokenizer
from python_core.stages import train_grpo, train_sft, train_vqvae
from python_core.stages.build_reasoning import read_plans
from python_core.stages.train_grpo import PRESETS, TrainGrpoConfig
from python_core.vqvae import Vqvae
from tests.conftest import MOVES, moved, write_clips
from tests.python_core.stages.conftest import start

PROCESS = Path(__file__).with_name("grpo_process.py")
RECORDED = Path(__file__).parents[2] / "recorded" / "train_grpo.json"
"""What the run of `test_a_run_in_slices_has_the_recorded_rewards` logged when it was recorded, in one go."""
TINY_JUDGE = JudgeShape(movement_width=16, motion_width=16, text_width=16, embedding_width=16, word_width=16)
TINY_REWARD = RewardShape(width=16, num_heads=2, text_layers=1, motion_layers=1, embedding_width=16)


@pytest.fixture(scope="module")
def clips(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny train split, and val clips that begin and end at rest, so that they can be composed."""
    tiny = read_prepared(prepared_folder)
    made = [(np.array(tiny.features(clip)), dict(vars(clip))) for clip in tiny.split("train")]
    for number, (move, caption) in enumerate(MOVES.items()):
        fields = {"clip_id": f"val{number}", "captions": (caption,)}
        made.append((moved(*move, 36 + 2 * number), fields))
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, made)
    return folder


@pytest.fixture(scope="module")
def config(
    clips: Path, tiny_checkpoint: Path, tiny_plans: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainGrpoConfig:
    """The tiny preset with two evaluators that have learned nothing."""
    folder = tmp_path_factory.mktemp("evaluators")
    prepared = read_prepared(clips)
    torch.manual_seed(4)
    words = ["[UNK]", *sorted({word for clip in prepared.clips for text in clip.captions for word in text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    (folder / "text").mkdir()
    tokenizer.save(str(folder / "text" / "tokenizer.json"))
    size = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(size).save_pretrained(folder / "text")
    states = load_token_states(folder / "text", torch.device("cpu"))
    reward_model = RewardModel(TINY_REWARD, states, prepared.normalizer)
    save_reward_model(folder / "reward", reward_model, folder / "text", prepared.frame_rate_hz, {})
    judge = Judge(TINY_JUDGE, ("unk", "sos", "eos"), judge_normalizer(prepared.normalizer))
    save_judge(folder / "judge", judge, prepared.frame_rate_hz, {})
    return replace(
        PRESETS["tiny"],
        prepared=clips,
        sft=tiny_checkpoint,
        plans=tiny_plans,
        compositions=folder / "val_composed",
        reward_model=folder / "reward",
        judge=folder / "judge",
    )


@pytest.fixture(scope="module")
def undisturbed(config: TrainGrpoConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in a folder in which another was killed while it kept its best weights."""
    out = tmp_path_factory.mktemp("grpo")
    for name, text in (("best-2", None), ("best-7", None), ("best-9", '{"step": 9, "r_a'), ("best-4.partial", "{}")):
        (out / name).mkdir()
        if text is not None:
            (out / name / "judge.json").write_text(text)
    train_grpo.run(replace(config, out=out))
    return out


@pytest.fixture(scope="module")
def unlearned(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights. A training before would end in other weights on another processor, and so would
    all replies.
    """
    folder = tmp_path_factory.mktemp("unlearned")
    prepared, sft = read_prepared(clips), train_sft.PRESETS["tiny"]
    torch.manual_seed(6)
    vqvae = Vqvae(train_vqvae.PRESETS["tiny"].shape)
    for level in vqvae.levels:
        torch.nn.init.normal_(level.vectors)  # type: ignore[arg-type]  # a buffer of ours
    save_vqvae(folder / "vqvae", vqvae, prepared.normalizer, prepared.frame_rate_hz, {})
    captions = [caption for clip in prepared.clips for caption in clip.captions]
    tokenizer = train_text_tokenizer(captions, sft.shape.text_tokens, vqvae.shape.codebook)
    model = new_language_model(sft.shape, sft.depth, token_layout(tokenizer, vqvae.shape.codebook))
    save_language_model(folder, model, tokenizer, vqvae.shape.codebook, "unlearned", "made: 8 clips; CC0-1.0", {})
    return folder


def measures(folder: Path) -> list[dict[str, float]]:
    """What a run logged, without times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {
            name: value
            for name, value in line.items()
            if "time" not in name and "per_second" not in name and "runtime" not in name
        }
        for line in lines
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_language_model(folder).model.state_dict()


def test_a_run_logs_what_is_watched_and_ends_in_a_checkpoint_that_export_can_read(
    undisturbed: Path, config: TrainGrpoConfig
):
    lines = [line for line in measures(undisturbed) if "entropy" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    shares = ("groups_without_variance", "groups_of_mixed_format")
    for name in (*shares, "kl", "completions/clipped_ratio", "frac_reward_zero_std"):
        assert all(name in line for line in lines), name
    # The first step's replies are those of the model that the divergence is from.
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert lines[-1]["kl"] > 1e-6
    assert any("plan/tokens" in line for line in lines)
    for name in vars(config.weights):
        values = [line[f"rewards/{name}/mean"] for line in lines]
        assert all(value is None or 0 <= value <= 1 for value in values), name
    before, after = weights(config.sft), weights(undisturbed)
    assert before.keys() == after.keys()
    # The weights that were chosen may be those of the start.
    trained = load_file(undisturbed / "training" / "checkpoint-4" / "model.safetensors")
    assert any(not torch.equal(before[name], value) for name, value in trained.items())
    MotionTokenizer.load(undisturbed / "vqvae")


def test_the_best_checkpoint_is_the_one_that_the_judge_likes_not_the_one_with_most_reward(undisturbed: Path):
    judged = [line for line in measures(undisturbed) if "judge/fid" in line]
    assert [line["step"] for line in judged] == [0, 2, 4]
    for name in ("r_at_3", "mm_dist", "kid", "fid", "diversity_over_real"):
        assert all(np.isfinite(line[f"judge/{name}"]) for line in judged), name
    start = judged[0]
    kept = [line for line in judged if line["judge/kid"] <= start["judge/kid"] + start["judge/kid_spread"]]
    wanted = max(kept, key=lambda line: (line["judge/r_at_3"], -line["judge/mm_dist"]))
    (best,) = undisturbed.glob("best-*")
    assert best.name == f"best-{wanted['step']}"
    chosen = load_language_model(undisturbed).model.state_dict()
    kept = load_file(best / "model.safetensors")
    for name, value in kept.items():
        assert torch.equal(chosen[name], value), name


def test_the_start_is_kept_until_something_is_better(config: TrainGrpoConfig, tmp_path: Path):
    # Nothing is learned, so that no step is better.
    train_grpo.run(replace(config, out=tmp_path, steps=2, learning_rate=0.0))
    (best,) = tmp_path.glob("best-*")
    assert best.name == "best-0"
    judged = [line for line in measures(tmp_path) if "judge/fid" in line]
    assert judged[0] | {"step": 2} == judged[1]
    assert [line["kl"] for line in measures(tmp_path) if "kl" in line] == pytest.approx([0.0, 0.0], abs=1e-6)
    for name, value in weights(config.sft).items():
        assert torch.equal(weights(tmp_path)[name], value), name


def test_a_run_is_of_its_evaluators_and_motion_tokenizer_too(config: TrainGrpoConfig, tmp_path: Path):
    files = train_grpo.read_files(config)
    assert {"clips", "plans", "language_model/model.safetensors", "motion_tokenizer/model.safetensors"} <= files.keys()
    assert {"reward_model/model.safetensors", "judge/model.safetensors"} <= files.keys()
    assert all(path.is_file() for path in files.values())
    assert not any(name.startswith("judge/") for name in train_grpo.read_files(replace(config, judge=None)))
    # What an adapter was merged into has other last bits on another machine.
    adapted = shutil.copytree(config.sft, tmp_path / "adapted")
    adapter = adapted / "training" / "checkpoint-8" / "adapter_model.safetensors"
    adapter.parent.mkdir(parents=True)
    adapter.touch()
    found = train_grpo.read_files(replace(config, sft=adapted))
    assert found["adapter/checkpoint-8"] == adapter
    assert not any(name.startswith("language_model/") for name in found)
    start_run(tmp_path, config, files)
    with pytest.raises(ValueError, match=r"holds a run with another judge/model\.safetensors;"):
        start_run(tmp_path, config, files | {"judge/model.safetensors": files["reward_model/model.safetensors"]})


def test_what_cannot_begin_leaves_no_run_behind(config: TrainGrpoConfig, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"nowhere: no checkpoint\.json"):
        train_grpo.run(replace(config, sft=tmp_path / "nowhere", out=out))
    for levels in (0, 3):
        with pytest.raises(ValueError, match=f"learned_levels: expected 1 to 2, .* got {levels}"):
            train_grpo.run(replace(config, learned_levels=levels, out=out))
    with pytest.raises(ValueError, match=r"vllm: it has no depth head, and codes of .* have 2 levels"):
        train_grpo.run(replace(config, vllm=True, out=out))
    for name, path in (
        ("reward_model", "checkpoint.json"),
        ("judge", "checkpoint.json"),
        ("sft", "vqvae/checkpoint.json"),
    ):
        copy = shutil.copytree(getattr(config, name), tmp_path / name)
        fields = json.loads((copy / path).read_text())
        (copy / path).write_text(json.dumps(fields | {"frame_rate_hz": 30.0}))
        with pytest.raises(ValueError, match=rf"clips of 20 frames a second, the .+{name} is for 30; prepare them"):
            train_grpo.run(replace(config, out=out, **{name: copy}))
    assert not out.exists()


def test_each_caption_is_one_prompt_of_its_first_clip_with_the_beats_of_its_plan(clips: Path, tiny_plans: Path):
    prepared, plans = read_prepared(clips), read_plans(tiny_plans)
    rows = train_grpo.read_prompts(prepared, plans, 16)
    captions = [caption for clip in prepared.split("train") for caption in clip.captions]
    assert [row["prompt"] for row in rows] == list(dict.fromkeys(captions))
    again = [replace(clip, clip_id=f"{clip.clip_id} again") for clip in prepared.split("train")]
    exact = replace(again[0], captions=("a person dances.",), plan="1. hop, 1.0 s 2. spin, 1.0 s 3. bow, 1.0 s")
    more = replace(prepared, clips=(*prepared.clips, *again, exact))
    assert train_grpo.read_prompts(more, plans, 16) == [
        *rows,
        {"prompt": "a person dances.", "clip_id": exact.clip_id, "num_beats": 3},
    ]
    with pytest.raises(ValueError, match=r"no plan for 'a person dances\.'; run build-reasoning again"):
        train_grpo.read_prompts(replace(more, clips=(*prepared.clips, replace(exact, plan=None))), plans, 16)
    # A clip that train-sft leaves out is not asked for either.
    long = replace(exact, num_rows=17 * 4)
    assert train_grpo.read_prompts(replace(prepared, clips=(*prepared.clips, long)), plans, 16) == rows
    silent = replace(prepared, clips=tuple(replace(clip, captions=()) for clip in prepared.clips))
    with pytest.raises(ValueError, match="no clip of split 'train' with 1 to 16 codes has a caption"):
        train_grpo.read_prompts(silent, plans, 16)


def test_codes_that_sft_found_serve_again_where_the_clips_are_the_same(config: TrainGrpoConfig, prepared_folder: Path):
    prepared = read_prepared(prepared_folder)
    codes = train_grpo.read_known_codes(replace(config, prepared=prepared_folder))
    assert {name: len(found) for name, found in codes.items()} == {
        clip.clip_id: clip.num_rows // 4 for clip in prepared.split("train")
    }
    # The others have val clips as well.
    assert train_grpo.read_known_codes(config) == {}
    assert "codes" in train_grpo.read_files(config)


def test_replies_that_are_learned_from_twice_end_before_a_checkpoint(config: TrainGrpoConfig):
    with pytest.raises(ValueError, match=r"divide steps \(4\) and save_every \(3\)"):
        replace(config, iterations=2, save_every=3)


@pytest.mark.parametrize(
    ("lora", "iterations"), [(None, 1), pytest.param(LoraShape(rank=2), 2, marks=pytest.mark.slow)]
)
def test_a_killed_run_goes_on_with_the_same_numbers(
    lora: LoraShape | None, iterations: int, config: TrainGrpoConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = 2 + iterations
    config = replace(config, lora=lora, save_every=iterations, steps=steps, judge_every=steps, iterations=iterations)
    if lora is not None:
        config = replace(config, judge=None)
    train_grpo.run(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patch:
        patch.setattr(train_grpo.MetricsFile, "on_save", _kill_at_step_2, raising=False)
        with pytest.raises(KeyboardInterrupt):
            train_grpo.run(replace(config, out=tmp_path / "stopped"))
    # As if the kill had come while the next checkpoint was written.
    (tmp_path / "stopped" / "training" / f"checkpoint-{steps}").mkdir()
    train_grpo.run(replace(config, out=tmp_path / "stopped"))
    expected, actual = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name
    wanted, found = (
        [line for line in measures(tmp_path / name) if "train_loss" not in line] for name in ("straight", "stopped")
    )
    assert wanted == found
    model = load_language_model(tmp_path / "stopped").model
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert head is not None
    assert embeddings.weight is head.weight


def test_a_run_in_slices_has_the_recorded_rewards(config: TrainGrpoConfig, unlearned: Path, tmp_path: Path):
    # Motions alone: what has learned nothing writes no plan. Each run is over after its first step.
    config = replace(config, sft=unlearned, out=tmp_path, reasoning_share=0.0, constrained_share=1.0)
    config = replace(config, steps=3, judge_every=3, learning_rate=1e-3, mask_cut_off=False, stop_after_s=0.0)
    for steps in (1, 2, 3):
        assert not (tmp_path / "checkpoint.json").exists()
        train_grpo.run(config)
        assert [path.name for path in (tmp_path / "training").glob("checkpoint-*")] == [f"checkpoint-{steps}"]
    assert load_language_model(tmp_path).model_id == config.model_id
    # Given again, it takes no further step.
    train_grpo.run(config)
    recorded = json.loads(RECORDED.read_text())
    lines = [line for line in measures(tmp_path) if "train_loss" not in line]
    found = [{name: line[name] for name in wanted} for line, wanted in zip(lines, recorded, strict=True)]
    for line, wanted in zip(found, recorded, strict=True):
        assert line == pytest.approx(wanted, rel=0.002, abs=1e-5)


def _kill_at_step_2(self: object, args: object, state: object, control: object, **_: object) -> None:
    if state.global_step == 2:  # type: ignore[attr-defined]
        raise KeyboardInterrupt


class _Broken:
    """A reward model whose motions are no numbers once a file is there."""

    def __init__(self, inner: RewardModel, broken_by: Path) -> None:
        self.inner, self.broken_by = inner, broken_by

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        return self.inner.embed_texts(captions)

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return self.inner.embed_motions(clips) * np.float32(np.nan if self.broken_by.is_file() else 1)


def test_a_reward_that_is_no_number_stops_the_run_and_leaves_its_last_checkpoint_to_go_on_from(
    config: TrainGrpoConfig, undisturbed: Path, tmp_path: Path
):
    config = replace(config, out=tmp_path)
    reward_model, judge = load_reward_model(config.reward_model), load_evaluator(config.judge or Path()).evaluator
    saved = tmp_path / "training" / "checkpoint-2" / "trainer_state.json"
    with pytest.raises(RewardError, match=r"step [23]: \w+ of a reply to '.+' is nan"):
        train_grpo.train(config, _Broken(reward_model, saved), judge)
    assert saved.is_file()
    train_grpo.run(config)
    assert weights(tmp_path).keys() == weights(undisturbed).keys()
    for name, value in weights(undisturbed).items():
        assert torch.equal(value, weights(tmp_path)[name]), name


def test_the_papers_run_has_its_three_rewards_and_asks_every_prompt_to_reason(config: TrainGrpoConfig, tmp_path: Path):
    config = replace(config, paper=True, steps=1, judge=None, out=tmp_path)
    trainer, _ = train_grpo.make_trainer(config, load_reward_model(config.reward_model), None)
    assert trainer.reward_func_names == ["format", "motion_similarity", "semantic_similarity"]
    assert trainer.reward_weights.tolist() == [1.0, 2.0, 2.0]
    assert trainer.multi_objective_aggregation == "sum_then_normalize"
    found = trainer.rollout_func(["a person walks forward."] * 4, trainer)
    assert found["reasoning_asked"] == [True] * 4
    assert found["constrained"] == [False] * 4


@pytest.mark.parametrize(
    ("left_out", "names"),
    [
        (("motion-similarity",), ["format", "semantic_similarity"]),
        (("semantic-similarity",), ["format", "motion_similarity"]),
        ((), ["format", "motion_similarity", "semantic_similarity"]),
    ],
)
def test_each_row_of_the_ablation_is_said_by_flags(
    left_out: Sequence[str], names: list[str], config: TrainGrpoConfig, tmp_path: Path
):
    ours = ("plan-agreement", "duration", "physical-quality")
    flags = [word for name in (*left_out, *ours) for word in (f"--weights.{name}", "0")]
    asked = tyro.cli(TrainGrpoConfig, default=replace(config, judge=None, out=tmp_path), args=flags)
    trainer, _ = train_grpo.make_trainer(asked, load_reward_model(config.reward_model), None)
    assert trainer.reward_func_names == names
    assert trainer.multi_objective_aggregation == "normalize_then_sum"


def test_only_levels_that_learn_are_scored(config: TrainGrpoConfig, tmp_path: Path):
    config, reward_model = replace(config, judge=None, out=tmp_path), load_reward_model(config.reward_model)
    (whole, layout), (first, _) = (
        train_grpo.make_trainer(replace(config, learned_levels=levels), reward_model, None) for levels in (None, 1)
    )
    reply = layout.reply_ids(None, [3, 200, 77])
    token_ids = torch.tensor([[5, 6, *reply]])
    every, firsts = (
        trainer._get_per_token_logps_and_entropies(trainer.model, token_ids, torch.ones_like(token_ids), len(reply))[
            0
        ].detach()
        for trainer in (whole, first)
    )
    later = token_ids[:, 2:] >= layout.first_code + layout.level_size
    assert later.sum() == 3
    assert (every[later] < 0).all()
    assert (firsts[later] == 0).all()
    assert firsts[~later].tolist() == pytest.approx(every[~later].tolist())
    learns = {name: parameter.requires_grad for name, parameter in first.model.named_parameters()}
    assert all(is_learned == ("depth_head" not in name) for name, is_learned in learns.items())


def test_a_motion_that_the_model_has_no_room_for_is_refused(config: TrainGrpoConfig, tmp_path: Path):
    with pytest.raises(ValueError, match="do not fit a model of 256; lower max_codes, now 200"):
        train_grpo.make_trainer(
            replace(config, max_codes=200, out=tmp_path), load_reward_model(config.reward_model), None
        )


def write_config(config: TrainGrpoConfig, path: Path, **changed: object) -> Path:
    names = ("prepared", "sft", "plans", "compositions", "reward_model", "judge")
    fields = {name: str(getattr(config, name)) for name in names}
    path.write_text(json.dumps(fields | changed))
    return path


@pytest.mark.slow
def test_two_processes_get_the_advantages_of_one_from_the_same_replies(config: TrainGrpoConfig, tmp_path: Path):
    results = []
    for processes in (1, 2):
        changed = {"steps": 1, "batch": 16 // processes, "out": str(tmp_path / f"out{processes}"), "save_every": 5}
        path = write_config(config, tmp_path / f"config{processes}.json", **changed)
        result = tmp_path / f"result{processes}.json"
        assert start([PROCESS, path, "fixed", result], processes).wait() == 0
        results.append(json.loads(result.read_text()))
    one, two = results
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["prompts"] == two["prompts"]
    assert len(one["advantages"]) == 16
    assert np.ptp(one["advantages"]) > 1
    np.testing.assert_allclose(one["advantages"], two["advantages"], atol=1e-5)
    assert one["rewards"].keys() == two["rewards"].keys()
    for name, values in one["rewards"].items():
        np.testing.assert_allclose(values, two["rewards"][name], atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_sampled_run_on_two_processes_completes(config: TrainGrpoConfig, tmp_path: Path):
    # An odd number of captions for the judge does not come out even.
    changed = {"steps": 2, "batch": 4, "judge_replies": 7, "out": str(tmp_path / "out")}
    path = write_config(config, tmp_path / "config.json", **changed)
    assert start([PROCESS, path, "run"], 2).wait() == 0
    # Each process has a random state of its own, and one of them writes what is measured.
    assert len(list((tmp_path / "out" / "training" / "checkpoint-2").glob("rng_state_*.pth"))) == 2
    assert [line["step"] for line in measures(tmp_path / "out") if "entropy" in line] == [1, 2]
    assert weights(tmp_path / "out").keys() == weights(config.sft).keys()


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_numbers(
    config: TrainGrpoConfig, undisturbed: Path, tmp_path: Path
):
    path = write_config(config, tmp_path / "config.json", out=str(tmp_path / "out"))
    metrics = tmp_path / "out" / "metrics.jsonl"
    for lines in (1, 3):
        process = start([PROCESS, path, "run"])
        while process.poll() is None:
            if metrics.is_file() and len(metrics.read_text().splitlines()) >= lines:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.01)
    assert start([PROCESS, path, "run"]).wait() == 0
    wanted, found = (
        [line for line in measures(folder) if "train_loss" not in line] for folder in (undisturbed, tmp_path / "out")
    )
    assert wanted == found
    for name, value in weights(undisturbed).items():
        assert torch.equal(value, weights(tmp_path / "out")[name]), name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"judge_every": 0}, "judge_every must be at least 1, got 0"),
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"group": 1}, "group must be at least 2, since replies are compared in it, got 1"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["tiny"], **fields)
