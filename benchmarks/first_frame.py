"""The first four frames, and memory: python benchmarks/first_frame.py WORK [--shapes 24m] [--rounds 5]

Goes with engine_speed.py, on the same weights in WORK. Each stack is a process of its own, on one thread, with one
stream:

    transformers    `generate` in torch float32, and the motion decoder in torch
    optimum         `ORTModelForCausalLM.generate`, ONNX Runtime float32, and our motion decoder
    genai           onnxruntime-genai, 4 bits, and our motion decoder
    ours            the engine, 4 bits, its depth head, and our motion decoder

Milliseconds of CPU time for reading 60 tokens, writing a plan of 0, 40 or 80, and one code with its frames. The code is
six tokens for the others, and one position and five runs of the depth head for us. Then the memory that the process
holds, in megabytes, the libraries' own with it. The motion decoder is that of rival_stacks.py. Prints, writes
WORK/first_frame.json.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from engine_speed import PROMPT_TOKENS, joined, open_genai, open_writer, step_all, step_words
from random_weights import NUM_LEVELS, OURS, SHAPES, build
from serve_cost import resident_mb

from bridge.providers import open_session

Run = Callable[[np.ndarray, int], None]
"""Reads a prompt, writes so many tokens of a plan, and a code with its frames."""
PLANS = (0, 40, 80)
WAY = "six levels"
DECODER, GRAPH, STATES = "motion_decoder", "motion_decoder.onnx", "states.npz"
"""In WORK: a folder with our graph, and what it remembers before the first code."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stack", choices=STACKS, help="one process: a stack with the first of the shapes")
    arguments = parser.parse_args()
    if arguments.stack:
        print(json.dumps(measure(arguments.work, arguments.shapes[0], arguments.stack, arguments.rounds)))
        return
    write_motion_decoder(arguments.work / DECODER)
    results: dict[str, dict[str, Any]] = {}
    for name in arguments.shapes:
        build(arguments.work / name, SHAPES[name])
        results[name] = {}
        for stack in STACKS:
            command = [sys.executable, __file__, str(arguments.work), "--shapes", name, "--stack", stack]
            command += ["--rounds", str(arguments.rounds)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results[name][stack] = json.loads(answer)
            print(name, stack, results[name][stack], flush=True)
    (arguments.work / "first_frame.json").write_text(json.dumps(results, indent=2) + "\n")


def measure(work: Path, shape: str, stack: str, rounds: int) -> dict[str, Any]:
    """Of one stack, in this process."""
    run = STACKS[stack](work, shape)
    taken: dict[int, list[float]] = {plan: [] for plan in PLANS}
    random = np.random.default_rng(0)
    for _ in range(rounds + 1):
        for plan, of_plan in taken.items():
            prompt = random.integers(3, SHAPES[shape].text - 4, PROMPT_TOKENS)
            began = time.process_time()
            run(prompt, plan)
            of_plan.append(1000 * (time.process_time() - began))
    # The first round makes room for what the others use again.
    first_frame_ms = {plan: median(of_plan[1:]) for plan, of_plan in taken.items()}
    return {"first_frame_ms": first_frame_ms, "memory_mb": resident_mb(os.getpid())}


def write_motion_decoder(folder: Path) -> None:
    """The graph that all but transformers use, once."""
    from rival_stacks import motion_decoder

    from export.motion_decoder_graph import write_motion_decoder_graph

    if (folder / STATES).exists():
        return
    folder.mkdir(exist_ok=True)
    decoder = motion_decoder()
    graph = write_motion_decoder_graph(decoder, "fp16", folder)
    assert (folder / GRAPH).is_file()
    arrays: dict[str, Any] = {state.name: np.zeros((1, *state.shape), np.float32) for state in graph.states}
    np.savez(folder / STATES, **arrays)


def open_motion_decoder(folder: Path) -> Callable[[], None]:
    """Makes the frames of a code."""
    session = open_session(folder / GRAPH, "cpu", 1)
    inputs = {"codes": np.array([[1]]), **np.load(folder / STATES)}

    def run() -> None:
        session.run(None, inputs)

    return run


def with_transformers(work: Path, shape: str) -> Run:
    import torch
    from rival_stacks import motion_decoder, with_transformers

    torch.set_num_threads(1)
    generate, decoder = with_transformers(work / shape), motion_decoder()
    inputs = (torch.tensor([[1]]), *decoder.zero_states(1))

    def run(prompt: np.ndarray, num_planned: int) -> None:
        generate(torch.from_numpy(prompt[None]), num_planned + NUM_LEVELS)
        with torch.inference_mode():
            decoder(*inputs)

    return run


def with_optimum(work: Path, shape: str) -> Run:
    import torch
    from rival_stacks import with_optimum

    torch.set_num_threads(1)
    generate, decode = with_optimum(work / shape), open_motion_decoder(work / DECODER)

    def run(prompt: np.ndarray, num_planned: int) -> None:
        generate(torch.from_numpy(prompt[None]), num_planned + NUM_LEVELS)
        decode()

    return run


def with_genai(work: Path, shape: str) -> Run:
    begin, decode = open_genai(work / shape), open_motion_decoder(work / DECODER)

    def run(prompt: np.ndarray, num_planned: int) -> None:
        generator = begin(prompt[None], num_planned + NUM_LEVELS)
        for _ in range(num_planned + NUM_LEVELS):
            generator.generate_next_token()
        decode()

    return run


def with_ours(work: Path, shape: str) -> Run:
    writer, decode = open_writer(work / shape / WAY, SHAPES[shape], *OURS[WAY]), open_motion_decoder(work / DECODER)

    def run(prompt: np.ndarray, num_planned: int) -> None:
        rows = joined(writer, prompt[None])
        for _ in range(num_planned):
            step_words(writer, rows)
        step_all(writer, rows)
        decode()
        for row in rows:
            writer.engine.leave(row)

    return run


STACKS = {
    "transformers": with_transformers,
    "optimum": with_optimum,
    "genai": with_genai,
    "ours": with_ours,
}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    main()
