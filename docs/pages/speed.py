"""docs/benchmarks.md, from what benchmarks/ measured: python docs/pages/speed.py WORK

WORK holds what the scripts of MADE_BY write, as `make bench` leaves it.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prompts import DOCS

from bridge.server import DEFAULT_BUNDLE
from python_core.contract.bundle import open_bundle

CODES_A_SECOND = 5
LEVELS = 6
"""Tokens of a code, each a position of its own for who has no depth head."""
OURS = "six levels"
PACKAGES = ("torch", "transformers", "optimum-onnx", "onnxruntime", "onnxruntime-genai", "numpy")
WHAT = (
    "Positions for a second of CPU time, 60 read, 40 written, random weights of this shape: float32 in transformers,\n"
    "4 bits in onnxruntime-genai and ours. Ours write codes; *words* are the same engine while it reasons. The\n"
    "grammar says which of them comes next, and our engine computes only that part of the head, and none of it while\n"
    "it reads a prompt. The rivals compute the whole head for each position: a `LogitsProcessor` of transformers sees\n"
    "logits that are computed already."
)
CROWD = (
    "Characters kept moving for {seconds} seconds by the wall clock, no code late, without plans, with a motion\n"
    "decoder of width 256 in float16, random weights too, a process a core:"
)
MEASURES = (
    "Memory GB/s: how fast one thread sums an array of 268 MB, in the rounds of so many streams. Word GB: the weights\n"
    "that a word reads, all but the head's rows of motion. Share of the memory bound: what the words of one stream\n"
    "read a second, of these GB/s. Overhead at 16: milliseconds of CPU time of a step of 16 streams in the language\n"
    "model, in the depth head and in neither, which is Python and copies. Gaps of 16: from code to code of 16\n"
    "streams, alone and while 10 requests a second join, in turn; p99 of so many codes of each."
)
MADE_BY = {
    "engine_speed.json": "benchmarks/engine_speed.py WORK",
    "rival_stacks.json": "benchmarks/rival_stacks.py WORK",
    "rival_llama.json": "benchmarks/rival_llama.py WORK, in an environment of its own",
    "first_frame.json": "benchmarks/first_frame.py WORK",
    "crowd_speed.json": "benchmarks/crowd_speed.py WORK",
    "decoder_speed.json": "benchmarks/decoder_speed.py > WORK/decoder_speed.json",
    "serve_cost.json": "benchmarks/serve_cost.py --work WORK > WORK/serve_cost.json",
    "bridge.json": "-m bridge bench --json WORK/bridge.json",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, default=DOCS / "benchmarks.md")
    parser.add_argument("--beside", default="nothing that was started for it", help="what else ran on the machine")
    options = parser.parse_args()
    if missing := [name for name in MADE_BY if not (options.work / name).is_file()]:
        raise ValueError(f"{options.work} lacks {missing[0]}; run: python {MADE_BY[missing[0]]}")
    measured = {name: json.loads((options.work / name).read_text()) for name in MADE_BY}
    bundle = open_bundle(DEFAULT_BUNDLE)
    written = page(measured, asdict(bundle.manifest), bundle.revision, options.beside)
    options.out.write_text(written, encoding="utf-8")
    return 0


def page(measured: dict[str, Any], manifest: dict[str, Any], revision: str, beside: str) -> str:
    """The whole page; manifest and revision are the default bundle's."""
    engine, stacks = measured["engine_speed.json"], measured["rival_stacks.json"]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# Benchmarks",
        "",
        "Our runtime beside what a user would otherwise run, on the same weights, prompts and machine. `make bench`",
        "measures and writes this page; ratios within a table hold, times are of this machine.",
        "",
        f"{machine()}, one thread, {datetime.now(UTC):%Y-%m-%d}; beside it ran {beside}. Python",
        f"{platform.python_version()}, {versions}. No GPU: CUDA and TensorRT are in `benchmarks/gpu_check.py`.",
    ]
    lines += ["", "## In short", ""]
    lines += table(("", *engine), in_short(engine, measured["rival_llama.json"], measured["crowd_speed.json"]))
    for name in engine:
        found, others = rates(engine[name]), rates(stacks.get(name, {}))
        lines += ["", f"## Language model, {name}", "", WHAT, ""]
        lines += batch_table(found)
        if others:
            lines += [
                "",
                "The same for greedy `generate` of transformers and of optimum, in a run of its own, float32:",
                "",
            ]
            lines += batch_table(others)
        if llama := measured["rival_llama.json"].get(name):
            lines += [
                "",
                "llama.cpp, Q4_0 with the embedding in Q8_0, in a run of its own, compiled on this machine; it uses:",
                f"`{measured['rival_llama.json']['build'].strip(' |')}`",
                "",
                *batch_table({"llama.cpp": llama}),
            ]
        if first := measured["first_frame.json"].get(name):
            lines += [
                "",
                "The first four frames: milliseconds of CPU time to read 60 tokens, write a plan of so many and a\n"
                "code of six levels, and make its frames (llama.cpp: without them); memory of the process, MB:",
                "",
                *first_frame_table(first, measured["rival_llama.json"]["first_code"].get(name)),
            ]
        rows = characters(found, others, stacks["decoder_ms"])
        lines += [
            "",
            "A character takes 5 codes of 6 levels a second. By these rates, and the motion decoder of the\n"
            "section after this, one core moves at once, 16 at a time, without plans:",
            "",
        ]
        lines += table(("stack", "positions a code", "characters"), rows)
        if crowd := measured["crowd_speed.json"].get(name):
            lines += ["", CROWD.format(seconds=measured["crowd_speed.json"]["seconds"]), "", *crowd_table(crowd)]
            lines += ["", "Milliseconds of CPU time for a code of one character among so many:", ""]
            lines += batch_table({way: of["growth_ms"] for way, of in crowd.items()}, digits=2)
        rest = {key: value for key, value in engine[name].items() if not key.endswith("_per_cpu_s")}
        lines += ["", MEASURES, "", *table(("measure", "value"), flat(rest))]
    decoder = measured["decoder_speed.json"]
    lines += [
        "",
        "## Motion decoder",
        "",
        "Milliseconds of CPU time for a code of one stream among so many, random weights, width 512,\n"
        "float32 in torch, float16 weights in our graph:",
        "",
    ]
    lines += batch_table(stacks["decoder_ms"], digits=2)
    lines += [
        "",
        "Streaming against a whole clip (`benchmarks/decoder_speed.py`):",
        "",
        *table(("", ""), flat(decoder)),
    ]
    about = f"the default bundle, {manifest['model_id']}, revision `{revision[:12]}`"
    lines += ["", "## A server", "", f"`python -m bridge bench` of {about}:", ""]
    lines += server_table(measured["bridge.json"])
    lines += ["", "What the bridge itself costs (`benchmarks/serve_cost.py`):", ""]
    lines += table(("", ""), flat(measured["serve_cost.json"]))
    lines += [
        "",
        "## Quality",
        "",
        f"What the weights of {about}, lose against the\ncheckpoint's own, on tokens that it wrote:",
        "",
    ]
    lines += table(("", ""), flat(manifest["parity"]))
    return "\n".join(lines) + "\n"


def machine() -> str:
    """The processor and its cores."""
    found = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{found[0] if found else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def rates(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of each rival and batch; empty where there are none."""
    return next((value for key, value in found.items() if key.endswith("_per_cpu_s")), {})


def in_short(engine: dict[str, dict[str, Any]], llama: dict[str, Any], crowd: dict[str, Any]) -> list[Sequence[str]]:
    """What is promised, a column for each shape; weights in 4 bits and codes unless a row says something else."""

    def ratio(name: str, rival: str, batch: str, ours: str = "one level") -> str:
        found = rates(engine[name])
        of = llama.get(name, {}) if rival == "llama.cpp" else found.get(rival, {})
        return f"{found[ours][batch] / of[batch]:.2f}" if batch in of and batch in found.get(ours, {}) else "-"

    def overhead(of: dict[str, Any]) -> str:
        return f"{of['overhead_at_16']['neither'] / sum(of['overhead_at_16'].values()):.1%}"

    def gaps(of: dict[str, Any]) -> str:
        return f"{of['gaps_of_16']['joined_p99_ms'] / of['gaps_of_16']['alone_p99_ms']:.2f}"

    shapes = engine.values()
    compared = [("transformers", "1"), ("llama.cpp", "1"), ("llama.cpp", "16"), ("genai", "1"), ("genai", "16")]
    rows: list[Sequence[str]] = [
        (f"ours / {rival}, {batch} at a time", *(ratio(name, rival, batch) for name in engine))
        for rival, batch in compared
    ]
    for rival, batch in (("transformers", "1"), ("genai", "16")):
        in_words = (ratio(name, rival, batch, "one level, words") for name in engine)
        rows.append((f"ours, in words / {rival}, {batch} at a time", *in_words))
    in_int8 = (ratio(name, "genai", "16", "one level, int8") for name in engine)
    rows.append(("ours in int8 / genai, 16 at a time", *in_int8))
    bound = (f"{of['share_of_memory_bound']:.2f}" for of in shapes)
    rows.append(("in words: share of the memory bound, 1 at a time", *bound))
    for ours in ("one level", OURS):
        rows.append((f"{ours}: what is not ONNX Runtime, of a step of 16", *(overhead(of[ours]) for of in shapes)))
        rows.append((f"{ours}: p99 gap of 16 while 10 a second join / alone", *(gaps(of[ours]) for of in shapes)))
    for ours in (OURS, f"{OURS}, int8"):
        # Whoever measured on other cores, or other shapes, has none.
        held = (crowd.get(name, {}).get(ours, {}).get("characters", {}).get("1", "-") for name in engine)
        rows.append((f"{ours}: characters in real time on a core", *map(str, held)))
    return rows


def characters(
    found: dict[str, dict[str, float]], others: dict[str, dict[str, float]], decoder_ms: dict[str, dict[str, float]]
) -> list[Sequence[str]]:
    """Characters that one core moves, by stack, from rates at 16 streams."""
    stacks = {
        "transformers, torch decoder": (found.get("transformers"), LEVELS, "torch"),
        "optimum, our decoder": (others.get("optimum"), LEVELS, "graph"),
        "onnxruntime-genai, our decoder": (found.get("genai"), LEVELS, "graph"),
        "our engine, a level a position": (found.get("one level"), LEVELS, "graph"),
        "our engine with depth head": (found.get(OURS), 1, "graph"),
        "our engine with depth head, int8": (found.get("six levels, int8"), 1, "graph"),
    }
    rows = []
    for name, (of, positions, decoder) in stacks.items():
        if of is not None and "16" in of and "16" in decoder_ms[decoder]:
            code_s = positions / of["16"] + decoder_ms[decoder]["16"] / 1000
            rows.append((name, str(positions), f"{1 / (CODES_A_SECOND * code_s):.1f}"))
    return rows


def first_frame_table(stacks: dict[str, Any], llama: dict[str, Any] | None) -> list[str]:
    """A row for each stack: milliseconds by the length of the plan, and memory."""
    times = {name: of["first_frame_ms"] for name, of in stacks.items()}
    memory = {name: of["memory_mb"] for name, of in stacks.items()}
    if llama:
        times["llama.cpp"], memory["llama.cpp"] = llama["first_code_ms"], llama["memory_mb"]
    plans = next(iter(times.values()))
    rows = [(name, *(f"{of[plan]:.0f}" for plan in plans), f"{memory[name]:.0f}") for name, of in times.items()]
    return table(("stack", *(f"plan of {plan}" if plan != "0" else "no plan" for plan in plans), "memory"), rows)


def crowd_table(ways: dict[str, Any]) -> list[str]:
    """A row for each way of ours, a column for each number of cores."""
    cores = next(iter(ways.values()))["characters"]
    rows = [(way, *(str(of["characters"][count]) for count in cores)) for way, of in ways.items()]
    return table(("", *(f"{count} core{'s' if count != '1' else ''}" for count in cores)), rows)


def batch_table(of: dict[str, dict[str, float]], digits: int = 0) -> list[str]:
    """A column for each rival, a row for each number of streams; a rival that refuses has no number."""
    batches = dict.fromkeys(batch for found in of.values() for batch in found)
    rows = [(batch, *(f"{f[batch]:.{digits}f}" if batch in f else "-" for f in of.values())) for batch in batches]
    return table(("streams", *of), rows)


def server_table(bench: dict[str, Any]) -> list[str]:
    rows = []
    for level in bench["levels"]:
        values = [level[name] or {} for name in ("first_frame_ms", "chunk_gap_ms", "frames_per_s")]
        numbers = [f"{found['p50']:.0f}, {found['p99']:.0f}" if found else "-" for found in values]
        rows.append((str(level["streams"]), *numbers, f"{100 * level['in_real_time']:.0f} %"))
    heads = ("first frame ms, p50, p99", "gap ms, p50, p99", "frames/s, p50, p99", "in real time")
    return table(("streams", *heads), rows)


def flat(found: Any, name: str = "") -> list[Sequence[str]]:
    """Names and values of nested fields."""
    if not isinstance(found, dict):
        return [(name.replace("_", " "), f"{found:.4g}" if isinstance(found, float) else str(found))]
    return [row for key, value in found.items() for row in flat(value, f"{name}, {key}" if name else key)]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"error: {error}")
