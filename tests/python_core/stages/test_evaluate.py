import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from python_core.checkpoint import save_language_model, save_vqvae
from python_core.clips.prepared import PreparedClip, read_prepared, write_prepared
from python_core.contract.motion import Motion
from python_core.depth_head import DepthHeadShape
from python_core.evaluation.generation import Sampling
from python_core.evaluators.evaluator import Judge, JudgeShape, judge_normalizer
from python_core.evaluators.evaluator_checkpoint import save_judge
from python_core.features import Normalizer, canonical_joints, exact_features
from python_core.language_model import LanguageModelShape, new_language_model, token_layout, train_text_tokenizer
from python_core.stages.evaluate import PRESETS, EvaluateConfig, judge_it, run
from python_core.vqvae import Vqvae, VqvaeShape
from tests.python_core.stages.conftest import start_stage

NUM_VAL = 40
SHAPE = LanguageModelShape(text_tokens=300, width=32, layers=1, heads=2, feed_forward=32, max_tokens=256)
DEPTH = DepthHeadShape(width=16, layers=1, feed_forward=16)


class KnownJudge:
    """Embeds a motion by the mean of its features, and the text of a trick by that of its clip."""

    def __init__(self, prepared_folder: Path) -> None:
        prepared = read_prepared(prepared_folder)
        self.scale = prepared.normalizer
        self.projection = np.random.default_rng(1).normal(size=(263, 8)) / 8
        self.texts = {
            int(clip.clip_id): self.embed_motions([np.array(prepared.features(clip))])[0] for clip in prepared.clips
        }

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self.texts[int(caption.split()[-1])] for caption in captions])

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        means = np.stack([self.scale.normalize(rows).mean(axis=0) for rows in clips])
        return (means @ self.projection).astype(np.float32)


@pytest.fixture(scope="module")
def clips(posed: Callable[[NDArray[np.float64]], Motion], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Motions that hardly resemble each other: 8 to train on, 40 to evaluate."""
    random = np.random.default_rng(2)
    time_s = np.arange(61)[:, None, None] / 20
    found, records, first = [], [], 0
    for number in range(8 + NUM_VAL):
        middle, hz, phase = (random.uniform(low, high, (22, 3)) for low, high in ((0.2, 0.8), (0.1, 0.6), (0.0, 6.3)))
        motion = posed(middle + 0.2 * np.sin(2 * np.pi * hz * time_s + phase))
        rows = exact_features(canonical_joints(motion.joint_positions_m()), 20.0)
        records.append(
            PreparedClip(
                clip_id=f"{number:03}",
                split="train" if number < 8 else "val",
                source="made",
                licence="CC0-1.0",
                take="",
                captions=(f"a person does trick {number}",),
                plan=f"1. do trick {number}, 3.0 s",
                first_row=first,
                num_rows=len(rows),
            )
        )
        first += len(rows)
        found.append(rows)
    folder = tmp_path_factory.mktemp("clips")
    write_prepared(folder, records, found, 20.0)
    return folder


@pytest.fixture(scope="module")
def checkpoint(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model and a motion tokenizer that have learned nothing."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(1)
    vqvae = Vqvae(VqvaeShape(width=16, code_width=8, level_size=8, num_levels=2))
    for level in vqvae.levels:
        torch.nn.init.normal_(level.vectors)  # type: ignore[arg-type]  # a buffer of ours
    statistics = read_prepared(clips).normalizer
    save_vqvae(folder / "vqvae", vqvae, Normalizer(statistics.mean, statistics.std), 20.0, {})
    codebook = vqvae.shape.codebook
    tokenizer = train_text_tokenizer(["a person does trick 1"], SHAPE.text_tokens, codebook)
    model = new_language_model(SHAPE, DEPTH, token_layout(tokenizer, codebook))
    save_language_model(folder, model, tokenizer, codebook, "nothing", "made", {})
    return folder


@pytest.fixture
def config(clips: Path, checkpoint: Path, tmp_path: Path) -> EvaluateConfig:
    # A model that has learned nothing writes no plan.
    sampling = Sampling(constrained=True, reasoning=False, max_codes=8)
    return replace(
        PRESETS["tiny"],
        checkpoint=checkpoint,
        judge=tmp_path / "judge",
        prepared=clips,
        out=tmp_path / "out",
        protocol="humanml3d",
        split="val",
        sampling=sampling,
        plans=8,
    )


def test_real_motions_come_first_and_a_model_that_has_learned_nothing_last(config: EvaluateConfig, clips: Path):
    judgement = judge_it(config, KnownJudge(clips))
    real, nearest, ours = judgement.rows
    assert [row.name for row in judgement.rows] == ["real", "nearest caption", "ours"]
    assert real.scores["r_at_1"].value > 0.9
    assert nearest.scores["r_at_3"].value < 0.5
    assert ours.scores["r_at_3"].value < 0.5
    assert ours.scores["fid"].value > 10 * real.scores["fid"].value
    assert ours.well_formed == 1
    assert ours.multimodality is not None
    assert real.plans is not None
    assert ours.plans is not None
    assert real.plans.recovered > ours.plans.recovered
    assert real.quality is not None
    written = json.loads((config.out / "judgement.json").read_text())
    assert written["rows"][0]["scores"]["r_at_1"]["value"] == real.scores["r_at_1"].value
    table = (config.out / "judgement.md").read_text()
    assert "| real | 0.9" in table or "| real | 1.0" in table
    assert "as the bridge draws them, without reasoning, at temperature 1, 1 times that for" in table
    assert table.index("| real |") < table.index("| nearest caption |") < table.index("| ours |")


def test_a_killed_run_goes_on_and_ends_in_the_same_numbers(config: EvaluateConfig, clips: Path):
    judge = KnownJudge(clips)
    whole = judge_it(config, judge)
    path = config.out / "replies" / "repeat-00.jsonl"
    written = path.read_text()
    path.write_text(written[: len(written) // 2])
    (config.out / "judgement.json").unlink()
    assert judge_it(config, judge) == whole
    assert path.read_text() == written
    with pytest.raises(ValueError, match="holds a run with another seed"):
        judge_it(replace(config, seed=2), judge)


def test_malformed_replies_are_counted_and_make_no_motion(config: EvaluateConfig, clips: Path):
    free = replace(config, sampling=Sampling(max_codes=8), varied_texts=0)
    ours = judge_it(free, KnownJudge(clips)).rows[-1]
    assert ours.well_formed is not None
    assert ours.well_formed < 0.1
    assert ours.scores["r_at_3"].value < 0.1


def test_real_motions_can_be_judged_without_a_model(config: EvaluateConfig, clips: Path):
    judgement = judge_it(replace(config, checkpoint=None), KnownJudge(clips))
    assert [row.name for row in judgement.rows] == ["real", "nearest caption"]


def test_clips_are_judged_by_the_protocol_of_kit(config: EvaluateConfig, clips: Path):
    judgement = judge_it(replace(config, protocol="kit", varied_texts=0), KnownJudge(clips))
    real, _, ours = judgement.rows
    assert (judgement.protocol, judgement.num_texts) == ("kit", NUM_VAL)
    assert real.scores["r_at_1"].value > 0.9
    assert ours.scores["r_at_3"].value < 0.5
    assert real.scores["fid"].value < ours.scores["fid"].value
    assert "# kit, judged by" in (config.out / "judgement.md").read_text()


def test_sequences_have_segments_and_transitions(config: EvaluateConfig, clips: Path):
    judgement = judge_it(replace(config, protocol="babel", segments=4, history=3), KnownJudge(clips))
    real, _, ours = judgement.rows
    assert real.scores["r_at_1"].value > 0.9
    assert real.transitions is not None
    assert ours.transitions is not None
    assert real.transitions.num == NUM_VAL
    assert 0 < ours.transitions.num <= 3 * NUM_VAL // 4
    assert ours.transitions.area_under_jerk_m > real.transitions.area_under_jerk_m
    assert "Transitions" in (config.out / "judgement.md").read_text()
    # Of segments, drawn by the seed, for every row.
    assert [row.quality and row.quality.num_motions for row in judgement.rows] == [4, 4, 4]
    assert real.quality is not None
    assert ours.quality is not None
    assert real.quality.report.jerk_m_s3 != ours.quality.report.jerk_m_s3
    lines = (config.out / "replies" / "repeat-00" / "segment-01.jsonl").read_text().splitlines()
    assert all(1 <= len(json.loads(line)["history"]) <= 3 for line in lines)


def test_motions_to_measure_and_texts_to_vary_are_drawn_by_the_seed_and_not_the_first_of_the_file(
    config: EvaluateConfig, clips: Path
):
    judge_it(config, KnownJudge(clips))
    lines = (config.out / "replies" / "varied.jsonl").read_text().splitlines()
    tricks = [int(json.loads(line)["prompt"].split()[-1]) for line in lines]
    assert len(tricks) == 6
    assert {*tricks} != {8, 9}
    sizes = {}
    for seed in (1, 2):
        other = replace(config, out=config.out.parent / f"seed {seed}", seed=seed, checkpoint=None)
        real = judge_it(other, KnownJudge(clips)).rows[0].quality
        assert real is not None
        assert real.num_motions == 4
        sizes[seed] = real.report
    assert sizes[1] != sizes[2]


def test_real_motions_are_held_against_plans_of_others_too(config: EvaluateConfig, clips: Path):
    judgement = judge_it(replace(config, checkpoint=None), KnownJudge(clips))
    by_chance, real = judgement.plans_by_chance, judgement.rows[0].plans
    assert by_chance is not None
    assert real is not None
    assert by_chance.num_plans == real.num_plans == 8
    assert by_chance.recovered < 0.5 < real.recovered
    assert "| real, plans of others | 8 |" in (config.out / "judgement.md").read_text()


@pytest.mark.parametrize("name", ["glove/our_vab_data.npy", "glove/our_vab_words.pkl", "text_mot_match/finest.tar"])
def test_a_run_does_not_go_on_with_another_file_of_the_judge(config: EvaluateConfig, clips: Path, name: str):
    path = config.judge / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1")
    judge_it(replace(config, checkpoint=None), KnownJudge(clips))
    path.write_bytes(b"2")
    with pytest.raises(ValueError, match="holds a run with another judge_files"):
        judge_it(replace(config, checkpoint=None), KnownJudge(clips))


def test_a_checkpoint_below_a_folder_named_training_is_told_from_another(
    config: EvaluateConfig, clips: Path, checkpoint: Path, tmp_path: Path
):
    copy = tmp_path / "training" / "sft"
    shutil.copytree(checkpoint, copy)
    asked = replace(config, checkpoint=copy, varied_texts=0, plans=0, quality_motions=0)
    judge_it(asked, KnownJudge(clips))
    path = copy / "language_model" / "model.safetensors"
    save_file({name: value * 1.5 for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="holds a run with another model_files"):
        judge_it(asked, KnownJudge(clips))


def test_a_run_does_not_go_on_with_other_features(config: EvaluateConfig, clips: Path, tmp_path: Path):
    copy = tmp_path / "clips"
    shutil.copytree(clips, copy)
    judge_it(replace(config, checkpoint=None, prepared=copy), KnownJudge(clips))
    rows = np.load(copy / "features.npy")
    np.save(copy / "features.npy", rows * 1.5)
    with pytest.raises(ValueError, match=r"holds a run with another features\.npy"):
        judge_it(replace(config, checkpoint=None, prepared=copy), KnownJudge(clips))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("repeats", 0, "repeats must be at least 1, got 0"),
        ("split", "train", "a pool takes 32 texts"),
        ("split", "test", "no clips in split 'test'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(config: EvaluateConfig, clips: Path, field: str, value: object, message):
    with pytest.raises(ValueError, match=message):
        judge_it(replace(config, **{field: value}), KnownJudge(clips))


def test_clips_of_another_frame_rate_than_the_model_or_the_judge_are_refused(
    config: EvaluateConfig, clips: Path, checkpoint: Path, tmp_path: Path
):
    copy = shutil.copytree(checkpoint, tmp_path / "sft")
    fields = json.loads((copy / "vqvae" / "checkpoint.json").read_text())
    (copy / "vqvae" / "checkpoint.json").write_text(json.dumps(fields | {"frame_rate_hz": 30.0}))
    with pytest.raises(
        ValueError, match=r"clips of 20 frames a second, the motion tokenizer in .+sft is for 30; prepare"
    ):
        judge_it(replace(config, checkpoint=copy), KnownJudge(clips))
    shape = JudgeShape(movement_width=8, motion_width=8, text_width=8, embedding_width=8, word_width=8)
    judge = Judge(shape, ("unk", "sos", "eos"), judge_normalizer(read_prepared(clips).normalizer))
    save_judge(config.judge, judge, 30.0, {})
    with pytest.raises(ValueError, match=r"clips of 20 frames a second, the judge in .+judge is for 30; prepare them"):
        run(config)
    assert not config.out.exists()


def test_a_folder_without_a_judge_is_refused(config: EvaluateConfig):
    with pytest.raises(ValueError, match="judge"):
        run(config)


@pytest.mark.slow
def test_two_processes_draw_the_replies_of_one_and_judge_them_alike(
    config: EvaluateConfig, clips: Path, tmp_path: Path
):
    shape = JudgeShape(movement_width=8, motion_width=8, text_width=8, embedding_width=8, word_width=8)
    judge = Judge(shape, ("unk", "sos", "eos"), judge_normalizer(read_prepared(clips).normalizer))
    save_judge(config.judge, judge, 20.0, {})
    fields = ["--checkpoint", config.checkpoint, "--judge", config.judge, "--prepared", clips, "--split", "val"]
    # 40 prompts in batches of 16 do not come out even.
    fields += ["--sampling.constrained", "--sampling.no-reasoning", "--sampling.max-codes", "8", "--segments", "4"]
    for protocol in ("humanml3d", "babel"):
        for count in (1, 2):
            out = tmp_path / f"{protocol}-{count}"
            run_fields = ("--protocol", protocol, "--out", out)
            assert start_stage("evaluate", "tiny", *fields, *run_fields, processes=count).wait() == 0
        one, two = (tmp_path / f"{protocol}-{count}" for count in (1, 2))
        replies = sorted(path.relative_to(one) for path in one.glob("replies/**/*.jsonl"))
        assert len(replies) > 1
        for path in (*replies, Path("judgement.json")):
            assert (two / path).read_text() == (one / path).read_text(), path
