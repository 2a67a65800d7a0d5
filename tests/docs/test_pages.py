"""Pages that are written from numbers: judgements, speed, model card."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import designer_prompts
import model_card
import numpy as np
import pytest
import speed
from designer_prompts import Judged, Judgement
from prompts import DOCS
from safetensors.numpy import save_file


def judgement(judged_by: str = "") -> Judgement:
    def judged(number: int, prompt: str, **said: Any) -> Judged:
        return Judged(number=number, kind="plain", prompt=prompt, plan="", verdict="good", sheet="plain_1.png", **said)

    prompts = [
        judged(1, "walk", recognised=True),
        judged(2, "turn left", named="left", recognised=True, sides=False, note="turns right"),
        judged(3, "run"),
    ]
    return Judgement(model_id="m", revision="abc", seed=0, judged_by=judged_by, prompts=prompts)


def test_shares_count_what_was_judged():
    assert designer_prompts.shares(judgement()) == [
        ("plain prompts that are recognised", "plain", "100 % (2 of 2), 1 not judged"),
        ("the same, but on the other side is not", "plain", "50 % (1 of 2), 1 not judged"),
        ("prompts of several beats that are", "multi_beat", "not judged yet"),
        ("left and right correct", "sides", "0 % (0 of 1)"),
    ]
    page = designer_prompts.page(judgement())
    assert "| 2 | turn left |  | good | yes | **no** | turns right |" in page
    assert "![plain 1](plain_1.png)" in page


def test_a_judgement_is_read_back_and_kept_for_the_same_bundle(tmp_path: Path):
    file = tmp_path / "judgement.json"
    file.write_text(json.dumps(asdict(judgement(judged_by="one of us"))))
    old = designer_prompts.read_judgement(file)
    assert old == judgement(judged_by="one of us")
    new = judgement()
    for found in new.prompts:
        found.recognised, found.sides, found.note = None, None, ""
    assert designer_prompts.keep(old, new) == old


@pytest.mark.parametrize(
    ("place", "change", "told"),
    [
        (0, {"recognised": "yes"}, "recognised of prompt 1 must be true, false or null"),
        (0, {"sides": True}, "prompt 1 names no side"),
        (2, {"seen": True}, "seen"),
    ],
)
def test_a_judgement_that_is_wrong_is_refused(tmp_path: Path, place: int, change: dict, told: str):
    fields = asdict(judgement())
    fields["prompts"][place] |= change
    (tmp_path / "judgement.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=told):
        designer_prompts.read_judgement(tmp_path / "judgement.json")


def test_characters_follow_from_positions_a_second_and_the_decoder():
    found = {"transformers": {"16": 300.0}, "six levels": {"16": 100.0}, "genai": {"1": 9.0}}
    rows = speed.characters(found, {}, {"torch": {"16": 20.0}, "graph": {"16": 10.0}})
    # A code takes 6 / 300 s and 20 ms, or 1 / 100 s and 10 ms; five of them are a second.
    assert rows == [("transformers, torch decoder", "6", "5.0"), ("our engine with depth head", "1", "10.0")]


def test_the_page_of_speed_says_which_measurement_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["speed.py", str(tmp_path)])
    with pytest.raises(ValueError, match=r"lacks engine_speed.json; run: python benchmarks/engine_speed.py"):
        speed.main()


def test_the_page_of_speed_has_a_table_for_each_shape():
    rates = {
        "transformers": {"1": 40.0, "16": 300.0},
        "genai": {"1": 350.0, "16": 800.0},
        "one level": {"1": 280.0, "16": 900.0},
        "one level, int8": {"1": 220.0, "16": 1000.0},
        "six levels": {"1": 170.0, "16": 640.0},
        "one level, words": {"1": 260.0, "16": 840.0},
    }
    of_ours = {
        "overhead_at_16": {"language_model": 8.0, "depth_head": 1.0, "neither": 1.0},
        "gaps_of_16": {"alone_p99_ms": 20.0, "joined_p99_ms": 33.25, "codes": 200},
    }
    shape = {"positions_per_cpu_s": rates, "memory_gb_s": {"1": 9.5}, "word_gb": 0.0125, "share_of_memory_bound": 0.5}
    shape |= dict.fromkeys(("one level", "six levels", "six levels, int8"), of_ours)
    level = {"streams": 4, "first_frame_ms": {"p50": 30.0, "p99": 50.0}, "chunk_gap_ms": None, "frames_per_s": None}
    measured = {
        "engine_speed.json": {"24m": shape},
        "rival_stacks.json": {"decoder_ms": {"torch": {"16": 9.0}, "graph": {"16": 3.0}}},
        "rival_llama.json": {
            "build": "AVX2 = 1 | ",
            "24m": {"1": 310.0},
            "first_code": {"24m": {"first_code_ms": {"0": 70.0, "40": 190.0}, "memory_mb": 99.9}},
        },
        "first_frame.json": {"24m": {"ours": {"first_frame_ms": {"0": 62.4, "40": 218.6}, "memory_mb": 194.1}}},
        "crowd_speed.json": {
            "seconds": 45,
            "24m": {
                "six levels": {"growth_ms": {"1": 6.0, "256": 2.25}, "characters": {"1": 70, "2": 130}},
                "six levels, int8": {"growth_ms": {"1": 7.0, "256": 1.5}, "characters": {"1": 90, "2": 160}},
            },
        },
        "decoder_speed.json": {"width": 512, "fp16": {"one_ratio": 5.8}},
        "serve_cost.json": {"first_frame": {"ratio": 1.125}},
        "bridge.json": {"levels": [level | {"in_real_time": 1.0}]},
    }
    manifest = {"model_id": "m", "parity": {"judge": None}}
    page = speed.page(measured, manifest, "0123456789abcdef", "a test")
    for line in (
        "| ours / transformers, 1 at a time | 7.00 |",
        "| ours / llama.cpp, 1 at a time | 0.90 |",
        "| ours / llama.cpp, 16 at a time | - |",
        "| ours / genai, 16 at a time | 1.12 |",
        "| ours in int8 / genai, 16 at a time | 1.25 |",
        "| ours, in words / transformers, 1 at a time | 6.50 |",
        "| ours, in words / genai, 16 at a time | 1.05 |",
        "| in words: share of the memory bound, 1 at a time | 0.50 |",
        "| six levels: what is not ONNX Runtime, of a step of 16 | 10.0% |",
        "| one level: p99 gap of 16 while 10 a second join / alone | 1.66 |",
        "| six levels, int8: characters in real time on a core | 90 |",
        "| 16 | 300 | 800 | 900 | 1000 | 640 | 840 |",
        "| 1 | 310 |",
        "| memory gb s, 1 | 9.5 |",
        "| word gb | 0.0125 |",
        "| six levels, gaps of 16, joined p99 ms | 33.25 |",
        "| six levels, gaps of 16, codes | 200 |",
        "| stack | no plan | plan of 40 | memory |",
        "| ours | 62 | 219 | 194 |",
        "| llama.cpp | 70 | 190 | 100 |",
        "Characters kept moving for 45 seconds by the wall clock",
        "|  | 1 core | 2 cores |",
        "| six levels, int8 | 90 | 160 |",
        "| 256 | 2.25 | 1.50 |",
        "`python -m bridge bench` of the default bundle, m, revision `0123456789ab`:",
        "What the weights of the default bundle, m, revision `0123456789ab`, lose against the",
        "| 4 | 30, 50 | - | - | 100 % |",
        "| fp16, one ratio | 5.8 |",
        "| first frame, ratio | 1.125 |",
    ):
        assert line in page
    measured["crowd_speed.json"]["24m"]["six levels"]["characters"] = {"2": 130}
    page = speed.page(measured, manifest, "0123456789abcdef", "a test")
    assert "| six levels: characters in real time on a core | - |" in page


def test_the_card_names_what_is_open_and_the_template_has_a_place_for_every_field(tmp_path: Path):
    card, missing = model_card.fill("{a} {b}", {"a": "said", "b": ""})
    assert (card, missing) == ("said **not filled in**", ["b"])
    with pytest.raises(ValueError, match="no place for c"):
        model_card.fill("{a}", {"c": "said"})


def test_parameters_are_counted_from_the_header_of_the_weights(tmp_path: Path):
    file = tmp_path / "model.safetensors"
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float16)}, file, metadata={"format": "pt"})
    assert model_card.num_parameters(file) == 17
    assert model_card.num_parameters(tmp_path / "none") is None


def test_the_tokenizer_is_told_with_its_goals_and_its_entries():
    found = {"num_clips": 34, "mpjpe_mm": 32.6, "global_mpjpe_mm": None, "contact_speed_ratio": 1.35, "jerk_ratio": 0.9}
    told = model_card.tokenizer({"measures": {"all": found}, "entries_in_use": [0.957, 0.9434]})
    assert "joints, root in place, mm (goal 35)" in told
    assert "| all | 34 | 32.6 | - | 1.35 | 0.9 |" in told
    assert told.endswith("Entries in use, by level, % (goal 95): 95.7, 94.3.")


def test_energy_is_time_cores_and_watts():
    stages = [{"command": "train", "hours": 2.0, "cores": 2}, {"command": "export", "hours": "", "cores": 1}]
    written = model_card.stages({"watts_a_core": 10.0, "stages": stages})
    assert "| `train` | 2.00 h, 2 cores | 0.040 kWh |" in written
    assert f"| `export` | {model_card.OPEN} | {model_card.OPEN} |" in written


def test_the_card_can_be_written_before_anything_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "card.md"
    none = str(tmp_path)
    arguments = ["--checkpoint", none, "--vqvae", none, "--prepared", none, "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["model_card.py", *arguments])
    assert model_card.main() == 1
    card = out.read_text()
    assert card.startswith("# motion-r1")
    assert not [line for line in card.splitlines() if line.startswith("{")]
    assert (DOCS / "model_card" / "facts.toml").is_file()
