"""How fast the engine writes: python benchmarks/engine_speed.py WORK [--shapes 24m] [--rivals genai]

Makes language models of two shapes with random weights (24 M parameters, Llama-style; SmolLM2-135M) in WORK, once, and
lets each rival go on from the same prompts of 60 tokens, 1, 4, 16 and 64 at a time, on one thread:

    transformers      `generate`, torch float32, greedy
    genai             onnxruntime-genai, weights in 4 bits
    one level         the engine, weights in 4 bits, embedding and head in 8; a token is a position of its own, drawn
                      among 512 by temperature and top-p
    one level, int8   the same, layers as export --precision int8 writes them
    six levels        a code of six tokens is a position, and the depth head speaks five of them
    six levels, int8
    ..., words        one level while it reasons: a position is a word, the likeliest

The grammar says whether a word or motion comes next, and our engine computes that part of its head and no other, which
is why it is measured in both phases. Rivals compute all of it at each position: a `LogitsProcessor` comes after it.

Rivals take turns, round after round. Rates are positions for a second of this process's CPU time, so that other work on
the machine counts as little as it can; caches are shared with it all the same. Each round measures too how fast memory
is read. Prints, writes WORK/engine_speed.json: rates, the share of the memory bound, where a step's time goes, and the
gaps of 16 streams, alone and while others join, in turn as well.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import onnx
from random_weights import (
    DEPTH_HEAD_GRAPH,
    LANGUAGE_MODEL,
    LEVEL_SIZE,
    NUM_LEVELS,
    OURS,
    SHAPES,
    Shape,
    build,
)
from rich.console import Console
from rich.table import Table

from bridge.depth_head import DepthHead
from bridge.engine import Engine, Row, Step
from bridge.sampler import Sampler, draw
from python_core.contract.bundle import BundleError
from python_core.contract.vocabulary import Position, TokenLayout

PROMPT_TOKENS, NEW_TOKENS = 60, 40
BATCHES = (1, 4, 16, 64)
WORDS = {f"{way}, words": way for way, (num_levels, _) in OURS.items() if num_levels == 1}
"""What is measured while it reasons -> the way."""
LIKELIEST = Sampler(0, 0.0, 1.0)
"""Draws words. Random weights find all words alike, and to draw among these would sort them."""
MOST_AT_ONCE = {"genai": 32}
"""Where a rival has a limit of its own."""
MOST_GUESTS = 16
"""Who joins at once, beside those that run; more are refused, as a server that is full does."""


Drawn = TypeVar("Drawn")


@dataclass(frozen=True, eq=False)
class Writer:
    """The engine and its depth head, and how they write."""

    engine: Engine
    head: DepthHead | None
    layout: TokenLayout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rivals", nargs="*", default=["transformers", "genai"], choices=["transformers", "genai"])
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for name in arguments.shapes:
        folder = build(arguments.work / name, SHAPES[name])
        stacks = [*arguments.rivals, *OURS, *WORDS]
        measured, memory_gb_s = rates(folder, SHAPES[name], stacks, arguments.batches, arguments.rounds)
        word_gb = gb_of_a_word(folder / "one level" / LANGUAGE_MODEL, SHAPES[name])
        alone = measured["one level, words"].get(1)
        results[name] = {
            "positions_per_cpu_s": measured,
            "memory_gb_s": memory_gb_s,
            "word_gb": word_gb,
            "share_of_memory_bound": alone and alone * word_gb / memory_gb_s[1],
        }
        for way, (num_levels, precision) in OURS.items():
            writer = open_writer(folder / way, SHAPES[name], num_levels, precision)
            results[name][way] = {
                "overhead_at_16": overhead(writer, 16),
                "gaps_of_16": gaps(writer),
            }
        show(name, results[name])
        (arguments.work / "engine_speed.json").write_text(json.dumps(results, indent=2) + "\n")


def open_writer(folder: Path, shape: Shape, num_levels: int, precision: str, max_rows: int = 256) -> Writer:
    engine = Engine(folder, shape.graph(precision), "cpu", num_threads=1, max_rows=max_rows)
    layout = shape.layout(num_levels)
    if num_levels == 1:
        return Writer(engine, None, layout)
    head = DepthHead(folder, DEPTH_HEAD_GRAPH, layout.codebook, shape.hidden, "cpu", num_threads=1)
    return Writer(engine, head, layout)


def rates(
    folder: Path, shape: Shape, rivals: list[str], batches: list[int], rounds: int
) -> tuple[dict[str, dict[int, float]], dict[int, float]]:
    """Positions a second of decoding, for each rival and batch; GB of memory that one thread read a second, for each
    batch.
    """
    prompts = np.random.default_rng(0).integers(3, shape.vocabulary, (max(batches), PROMPT_TOKENS))
    makers: dict[str, Callable[[], Callable[[np.ndarray], float]]] = {
        "transformers": lambda: with_transformers(folder),
        "genai": lambda: with_genai(folder),
    }
    for way in OURS:
        makers[way] = partial(_open_ours, folder, shape, way, step_all)
    for name, way in WORDS.items():
        makers[name] = partial(_open_ours, folder, shape, way, step_words)
    runs = {name: makers[name]() for name in rivals}
    taken: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in batches} for name in rivals}
    memory: dict[int, list[float]] = {batch: [] for batch in batches}
    for batch in batches:
        for _ in range(rounds):
            memory[batch].append(read_memory())
            for name, run in runs.items():
                if batch <= MOST_AT_ONCE.get(name, batch):
                    taken[name][batch].append(run(prompts[:batch]))
                    print(f"{name}, {batch} at a time: {taken[name][batch][-1]:.0f} positions/s", flush=True)
    found = {name: {batch: median(values) for batch, values in taken[name].items() if values} for name in rivals}
    return found, {batch: median(values) for batch, values in memory.items()}


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
    begin = open_genai(folder)

    def run(prompts: np.ndarray) -> float:
        generator = begin(prompts, NEW_TOKENS + 1)
        generator.generate_next_token()
        began = time.process_time()
        for _ in range(NEW_TOKENS):
            generator.generate_next_token()
        return len(prompts) * NEW_TOKENS / (time.process_time() - began)

    return run


def open_genai(folder: Path) -> Callable[[np.ndarray, int], Any]:
    """Gives generators that have read prompts [B, L] and have room for so many tokens more."""
    # Its names come from a compiled module, which the type checker does not see.
    genai: Any = importlib.import_module("onnxruntime_genai")
    model = genai.Model(str(folder / "int4"))

    def begin(prompts: np.ndarray, num_tokens: int) -> Any:
        batch, length = prompts.shape
        most = length + num_tokens
        parameters = genai.GeneratorParams(model)
        parameters.set_search_options(max_length=most, min_length=most, batch_size=batch, do_sample=False)
        generator = genai.Generator(model, parameters)
        generator.append_tokens(prompts.astype(np.int32))
        return generator

    return begin


def _open_ours(
    folder: Path, shape: Shape, way: str, take_step: Callable[[Writer, dict[Row, Sampler]], None]
) -> Callable[[np.ndarray], float]:
    writer = open_writer(folder / way, shape, *OURS[way])

    def run(prompts: np.ndarray) -> float:
        rows = joined(writer, prompts)
        began = time.process_time()
        for _ in range(NEW_TOKENS):
            take_step(writer, rows)
        rate = len(prompts) * NEW_TOKENS / (time.process_time() - began)
        for row in rows:
            writer.engine.leave(row)
        return rate

    return run


def read(writer: Writer, prompt: np.ndarray) -> list[list[Position]]:
    """A prompt of words, in one segment."""
    return [writer.layout.fold((prompt % writer.layout.think_open).tolist())]


def joined(writer: Writer, prompts: np.ndarray) -> dict[Row, Sampler]:
    """Rows that have read their prompts and have a position each to go on with."""
    engine = writer.engine
    rows = {engine.join(read(writer, prompt)): Sampler(seed, 1.0, 0.95) for seed, prompt in enumerate(prompts)}
    for row in rows:
        row.pauses = True
    while any(row.num_pending > 1 for row in rows):
        engine.step()
    for row in rows:
        row.pauses = False
    return rows


def step_all(writer: Writer, rows: dict[Row, Sampler]) -> None:
    """A step of the engine, a token for each row that is ready, and the other levels of its code."""
    layout = writer.layout
    first_level = range(layout.first_code, layout.first_code + LEVEL_SIZE)
    step, firsts = _draw(writer, rows, first_level)
    samplers = [rows[row] for row in step.rows]
    if writer.head is None:
        positions = [(token_id,) for token_id in firsts]
    else:
        firsts = [token_id - layout.first_code for token_id in firsts]
        spoken = [good(entries) for entries in writer.head.speak(step.states, firsts, samplers)]
        positions = [tuple(layout.entry_ids([first, *others])) for first, others in zip(firsts, spoken, strict=True)]
    for row, position in zip(step.rows, positions, strict=True):
        row.feed([position])


def step_words(writer: Writer, rows: dict[Row, Sampler]) -> None:
    """A step of the engine, and the likeliest word for each row that is ready."""
    step, words = _draw(writer, dict.fromkeys(rows, LIKELIEST), range(3, writer.layout.think_open))
    for row, word in zip(step.rows, words, strict=True):
        row.feed(writer.layout.fold([word]))


def _draw(writer: Writer, rows: dict[Row, Sampler], allowed: range) -> tuple[Step, list[int]]:
    """A step, and a token for each row that is ready."""
    for row in rows:
        row.allowed = (allowed,)
    step = writer.engine.step()
    drawn = draw(step.logits, [row.allowed for row in step.rows], [rows[row] for row in step.rows])
    return step, [good(one) for one in drawn]


def good(drawn: Drawn | BundleError) -> Drawn:
    assert not isinstance(drawn, BundleError)
    return drawn


class TimedSession:
    """A session that counts the time of its runs."""

    def __init__(self, session: Any) -> None:
        self._session, self.seconds = session, 0.0

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run(self, *arguments: Any) -> Any:
        began = time.process_time()
        found = self._session.run(*arguments)
        self.seconds += time.process_time() - began
        return found

    def run_with_iobinding(self, binding: Any) -> None:
        began = time.process_time()
        self._session.run_with_iobinding(binding)
        self.seconds += time.process_time() - began


def overhead(writer: Writer, batch: int) -> dict[str, float]:
    """Milliseconds of a step that are spent in each graph and in neither."""
    rows = joined(writer, np.random.default_rng(1).integers(3, 5000, (batch, PROMPT_TOKENS)))
    opened = [part for part in (writer.engine, writer.head) if part is not None]
    sessions = [part._session for part in opened]
    timed = [TimedSession(session) for session in sessions]
    for part, session in zip(opened, timed, strict=True):
        part._session = session  # type: ignore[assignment]  # the calls that a step makes
    began = time.process_time()
    for _ in range(NEW_TOKENS):
        step_all(writer, rows)
    whole = time.process_time() - began
    for part, session in zip(opened, sessions, strict=True):
        part._session = session
    for row in rows:
        writer.engine.leave(row)
    seconds = [session.seconds for session in timed]
    names = ("language_model", "depth_head")
    found = {name: 1000 * of / NEW_TOKENS for name, of in zip(names, seconds, strict=False)}
    return found | {"neither": 1000 * (whole - sum(seconds)) / NEW_TOKENS}


def gaps(writer: Writer, joins_a_second: float = 10.0, rounds: int = 5, steps: int = 240) -> dict[str, float]:
    """Milliseconds between codes of 16 rows, alone and while rows of 60 tokens join and leave after 20 tokens: in turn,
    of the codes of all rounds.
    """
    random, engine = np.random.default_rng(2), writer.engine
    steps_a_code = NUM_LEVELS // engine.num_levels
    asked = {"alone": 0.0, "joined": joins_a_second}
    codes_s: dict[str, list[float]] = {name: [] for name in asked}
    for name, rate in [*asked.items()] * rounds:
        rows = joined(writer, random.integers(3, 5000, (16, PROMPT_TOKENS)))
        guests: set[Row] = set()
        began = last = time.process_time()
        taken, num_joined = [], 0
        for _ in range(steps):
            while num_joined < rate * (last - began):
                num_joined += 1
                if len(guests) < MOST_GUESTS:
                    guest = engine.join(read(writer, random.integers(3, 5000, PROMPT_TOKENS)))
                    rows[guest] = Sampler(num_joined, 1.0, 0.95)
                    guests.add(guest)
            step_all(writer, rows)
            now = time.process_time()
            taken.append(now - last)
            last = now
            for guest in [guest for guest in guests if guest.num_positions > PROMPT_TOKENS + 20]:
                engine.leave(guest)
                guests.remove(guest)
                del rows[guest]
        for row in rows:
            engine.leave(row)
        codes_s[name] += np.reshape(taken, (-1, steps_a_code)).sum(axis=1).tolist()
    found = {f"{name}_p99_ms": 1000 * float(np.quantile(of, 0.99)) for name, of in codes_s.items()}
    return found | {"codes": len(codes_s["alone"])}


def gb_of_a_word(graph: Path, shape: Shape) -> float:
    """Weights that a word needs: all but the head's rows of motion."""
    share_of_words = shape.layout(1).motion_close / shape.vocabulary
    num_bytes = 0.0
    for tensor in onnx.load(graph, load_external_data=False).graph.initializer:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        is_of_head = list(tensor.dims[:1]) == [shape.vocabulary]
        num_bytes += prod(tensor.dims) * itemsize * (share_of_words if is_of_head else 1)
    return num_bytes / 1e9


def read_memory() -> float:
    """GB that one thread reads a second."""
    numbers = np.ones(2**25)
    best = 0.0
    for _ in range(5):
        began = time.process_time()
        numbers.sum()
        best = max(best, numbers.nbytes / 1e9 / (time.process_time() - began))
    return best


def show(name: str, measured: dict[str, Any]) -> None:
    rates = measured["positions_per_cpu_s"]
    table = Table(title=f"{name}: positions a second of CPU time")
    table.add_column("streams")
    for rival in rates:
        table.add_column(rival, justify="right")
    for batch in rates["one level"]:
        table.add_row(
            str(batch), *(f"{of_rival[batch]:.0f}" if batch in of_rival else "" for of_rival in rates.values())
        )
    console = Console()
    console.print(table)
    console.print({key: value for key, value in measured.items() if key != "positions_per_cpu_s"})


if __name__ == "__main__":
    main()
