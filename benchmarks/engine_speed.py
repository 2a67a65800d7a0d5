"""How fast the engine writes: python benchmarks/engine_speed.py WORK [--shapes 24m] [--rivals genai]

Makes language models of two shapes with random weights (24 M parameters, Llama-style; SmolLM2-135M) in WORK, once, and
lets each rival go on from the same prompts of 60 tokens, 1, 4, 16 and 64 at a time, on one thread:

    transformers      `generate`, torch float32, greedy
    genai             onnxruntime-genai, the int4 graph
    ours              the engine, int4: same graph, tokens drawn among 512 entries of a level by temperature and top-p

Rivals take turns, round after round. Rates are tokens for a second of this process's CPU time, so that other work on
the machine counts as little as it can; caches are shared with it all the same. Prints, writes WORK/engine_speed.json:
rates, the share of the memory bound, the engine's overhead, the gaps of 16 streams while others join, the motion
decoder, and characters in real time.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bridge.decoder import Decoder
from bridge.engine import Engine, Row
from bridge.sampler import Sampler, draw
from bridge.server import DEFAULT_BUNDLE
from python_core.contract.bundle import LanguageModelGraph, open_bundle

PROMPT_TOKENS, NEW_TOKENS = 60, 40
BATCHES = (1, 4, 16, 64)
MOST_AT_ONCE = {"genai": 32}
"""Where a rival has a limit of its own."""
LEVEL = range(3, 515)
"""Ids that may be drawn, as many as a level of codes has."""
CODES_A_SECOND = 5
MOST_TOKENS = 512


@dataclass(frozen=True)
class Shape:
    """A Llama-style model."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int


SHAPES = {
    "24m": Shape(512, 1408, 7, 8, 4, 6152),
    "smollm2": Shape(576, 1536, 30, 9, 3, 49152 + 3080),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rivals", nargs="*", default=["transformers", "genai"], choices=["transformers", "genai"])
    arguments = parser.parse_args()
    results: dict[str, Any] = {"memory_gb_s": memory_gb_s(), "decoder_ms": decoder_ms()}
    for name in arguments.shapes:
        folder = build(arguments.work / name, SHAPES[name])
        measured = rates(folder, SHAPES[name], [*arguments.rivals, "ours"], arguments.batches, arguments.rounds)
        engine = open_engine(folder, SHAPES[name])
        weights_gb = (folder / "int4" / "model.onnx.data").stat().st_size / 1e9
        alone = measured["ours"].get(1)
        results[name] = {
            "tokens_per_cpu_s": measured,
            "share_of_memory_bound": alone and alone * weights_gb / results["memory_gb_s"],
            "overhead_at_16": overhead(engine, 16),
            "gaps_of_16": gaps(engine),
            "real_time_characters": characters(measured["ours"], results["decoder_ms"]),
        }
        show(name, results[name])
        (arguments.work / "engine_speed.json").write_text(json.dumps(results, indent=2) + "\n")


def build(folder: Path, shape: Shape) -> Path:
    """Random weights for torch, and the int4 graph of the same weights, made once."""
    if (folder / "int4" / "genai_config.json").exists():
        return folder
    import torch
    from onnxruntime_genai.models.builder import create_model, parse_extra_options
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=MOST_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    source, built, cache = (str(folder / part) for part in ("torch", "int4", "cache"))
    LlamaForCausalLM(config).save_pretrained(source)
    (folder / "torch" / "tokenizer.json").write_bytes((DEFAULT_BUNDLE / "tokenizer.json").read_bytes())
    (folder / "torch" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    asked = ["prune_lm_head=true", "shared_embeddings=true", "int4_accuracy_level=4"]
    options = parse_extra_options("", source, built, "int4", "cpu", cache, asked)
    create_model("", source, built, "int4", "cpu", cache, **options)
    settings = json.loads((folder / "int4" / "genai_config.json").read_text())
    settings["model"]["decoder"]["session_options"] |= {"intra_op_num_threads": 1}
    (folder / "int4" / "genai_config.json").write_text(json.dumps(settings))
    return folder


def open_engine(folder: Path, shape: Shape, max_rows: int = 256) -> Engine:
    graph = LanguageModelGraph(
        file="model.onnx",
        num_layers=shape.layers,
        num_kv_heads=shape.kv_heads,
        head_dim=shape.hidden // shape.heads,
        max_tokens=MOST_TOKENS,
        precision="int4",
        weights="random",
        profiles=(),
    )
    return Engine(folder / "int4", graph, "cpu", num_threads=1, max_rows=max_rows)


def rates(
    folder: Path, shape: Shape, rivals: list[str], batches: list[int], rounds: int
) -> dict[str, dict[int, float]]:
    """Tokens a second of decoding, for each rival and batch."""
    prompts = np.random.default_rng(0).integers(3, shape.vocabulary, (max(batches), PROMPT_TOKENS))
    makers: dict[str, Callable[[], Callable[[np.ndarray], float]]] = {
        "transformers": lambda: with_transformers(folder),
        "genai": lambda: with_genai(folder),
        "ours": lambda: with_ours(open_engine(folder, shape)),
    }
    runs = {name: makers[name]() for name in rivals}
    taken: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in batches} for name in rivals}
    for batch in batches:
        for _ in range(rounds):
            for name, run in runs.items():
                if batch <= MOST_AT_ONCE.get(name, batch):
                    taken[name][batch].append(run(prompts[:batch]))
                    print(f"{name}, {batch} at a time: {taken[name][batch][-1]:.0f} tokens/s", flush=True)
    return {name: {batch: median(values) for batch, values in taken[name].items() if values} for name in rivals}


def with_transformers(folder: Path) -> Callable[[np.ndarray], float]:
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(folder / "torch").eval()

    def seconds(prompts: np.ndarray, num_tokens: int) -> float:
        began = time.process_time()
        ids = torch.from_numpy(prompts)
        model.generate(
            ids, attention_mask=torch.ones_like(ids), min_new_tokens=num_tokens, max_new_tokens=num_tokens,
            do_sample=False, pad_token_id=0,
        )  # fmt: skip
        return time.process_time() - began

    def run(prompts: np.ndarray) -> float:
        return len(prompts) * NEW_TOKENS / (seconds(prompts, NEW_TOKENS + 1) - seconds(prompts, 1))

    return run


def with_genai(folder: Path) -> Callable[[np.ndarray], float]:
    # Its names come from a compiled module, which the type checker does not see.
    genai: Any = importlib.import_module("onnxruntime_genai")
    model = genai.Model(str(folder / "int4"))

    def run(prompts: np.ndarray) -> float:
        parameters = genai.GeneratorParams(model)
        parameters.set_search_options(
            max_length=PROMPT_TOKENS + NEW_TOKENS + 1, min_length=PROMPT_TOKENS + NEW_TOKENS + 1,
            batch_size=len(prompts), do_sample=False,
        )  # fmt: skip
        generator = genai.Generator(model, parameters)
        generator.append_tokens(prompts.astype(np.int32))
        generator.generate_next_token()
        began = time.process_time()
        for _ in range(NEW_TOKENS):
            generator.generate_next_token()
        return len(prompts) * NEW_TOKENS / (time.process_time() - began)

    return run


def with_ours(engine: Engine) -> Callable[[np.ndarray], float]:
    def run(prompts: np.ndarray) -> float:
        rows = joined(engine, prompts)
        began = time.process_time()
        for _ in range(NEW_TOKENS):
            step_all(engine, rows)
        rate = len(prompts) * NEW_TOKENS / (time.process_time() - began)
        for row in rows:
            engine.leave(row)
        return rate

    return run


def joined(engine: Engine, prompts: np.ndarray) -> dict[Row, Sampler]:
    """Rows that have read their prompts and have a token each to go on with."""
    rows = {engine.join([prompt.tolist()]): Sampler(seed, 1.0, 0.95) for seed, prompt in enumerate(prompts)}
    for row in rows:
        row.pauses = True
    while any(row.num_pending > 1 for row in rows):
        engine.step()
    for row in rows:
        row.pauses = False
    return rows


def step_all(engine: Engine, rows: dict[Row, Sampler]) -> None:
    step = engine.step()
    samplers = [rows[row] for row in step.rows]
    for row, token_id in zip(step.rows, draw(step.logits, [(LEVEL,)] * len(samplers), samplers), strict=True):
        assert isinstance(token_id, int)
        row.feed([token_id])


class TimedSession:
    """A session that counts the time of its runs."""

    def __init__(self, session: Any) -> None:
        self._session, self.seconds = session, 0.0

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any) -> None:
        began = time.process_time()
        self._session.run_with_iobinding(binding)
        self.seconds += time.process_time() - began


def overhead(engine: Engine, batch: int) -> float:
    """The part of a step that is not spent in the session."""
    prompts = np.random.default_rng(1).integers(3, 5000, (batch, PROMPT_TOKENS))
    rows = joined(engine, prompts)
    session = engine._session
    timed = TimedSession(session)
    engine._session = timed  # type: ignore[assignment]  # the two calls that a step makes
    began = time.process_time()
    for _ in range(NEW_TOKENS):
        step_all(engine, rows)
    whole = time.process_time() - began
    engine._session = session
    for row in rows:
        engine.leave(row)
    return (whole - timed.seconds) / whole


def gaps(engine: Engine, joins_a_second: float = 10.0, steps: int = 200) -> dict[str, float]:
    """Seconds between tokens of 16 rows, alone and while rows of 60 tokens join and leave after 20 tokens."""
    random = np.random.default_rng(2)
    found: dict[str, float] = {}
    for name, rate in (("alone", 0.0), ("joined", joins_a_second)):
        rows = joined(engine, random.integers(3, 5000, (16, PROMPT_TOKENS)))
        guests: dict[Row, int] = {}
        began = last = time.process_time()
        taken, num_joined = [], 0
        for _ in range(steps):
            while num_joined < rate * (last - began):
                guest = engine.join([random.integers(3, 5000, PROMPT_TOKENS).tolist()])
                guests[guest], rows[guest] = 0, Sampler(num_joined, 1.0, 0.95)
                num_joined += 1
            step_all(engine, rows)
            now = time.process_time()
            taken.append(now - last)
            last = now
            for guest in [guest for guest in guests if guest.num_tokens > PROMPT_TOKENS + 20]:
                engine.leave(guest)
                del guests[guest], rows[guest]
        for row in rows:
            engine.leave(row)
        for levels in (1, 6):
            codes = np.add.reduceat(taken, range(0, len(taken) - levels + 1, levels))[: len(taken) // levels]
            found[f"{name}_p99_ms_{levels}_tokens_a_code"] = 1000 * float(np.quantile(codes, 0.99))
    return found


def decoder_ms() -> dict[int, float]:
    """The default bundle's motion decoder: milliseconds for a code of one stream among so many."""
    decoder = Decoder(DEFAULT_BUNDLE, open_bundle(DEFAULT_BUNDLE).manifest, "cpu", num_threads=1)
    found = {}
    for streams in (1, 16, 64):
        states = [decoder.start()] * streams
        taken = []
        for _ in range(12):
            began = time.process_time()
            states = [state for _, state in decoder.run([[1]] * streams, states)]
            taken.append(time.process_time() - began)
        found[streams] = 1000 * median(taken[2:]) / streams
    return found


def characters(ours: dict[int, float], decoder: dict[int, float]) -> dict[str, float]:
    """Characters a core can move at once by these rates, without plans; 20 frames a second, 5 codes."""
    rate = ours[max(ours)]
    return {f"{levels}_tokens_a_code": 1 / (CODES_A_SECOND * (levels / rate + decoder[64] / 1000)) for levels in (1, 6)}


def memory_gb_s() -> float:
    """How fast one thread reads memory."""
    numbers = np.ones(2**25)
    best = 0.0
    for _ in range(5):
        began = time.process_time()
        numbers.sum()
        best = max(best, numbers.nbytes / 1e9 / (time.process_time() - began))
    return best


def show(name: str, measured: dict[str, Any]) -> None:
    rates = measured["tokens_per_cpu_s"]
    table = Table(title=f"{name}: tokens a second of CPU time")
    table.add_column("streams")
    for rival in rates:
        table.add_column(rival, justify="right")
    for batch in rates["ours"]:
        table.add_row(
            str(batch), *(f"{of_rival[batch]:.0f}" if batch in of_rival else "" for of_rival in rates.values())
        )
    console = Console()
    console.print(table)
    console.print({key: value for key, value in measured.items() if key != "tokens_per_cpu_s"})


if __name__ == "__main__":
    main()
