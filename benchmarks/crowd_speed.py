"""What a crowd costs: python benchmarks/crowd_speed.py WORK [--shapes 24m] [--cores 1 2] [--seconds 60]

Goes with engine_speed.py, on its weights in WORK: the engine with its depth head, a code of six tokens at a position,
and a motion decoder for codes of six levels, width 256, in the form that export writes, with random weights as well.

    growth        milliseconds of CPU time that a code of one character takes, among 1 to 256 on one thread
    characters    the most that so many cores keep moving for `--seconds`: every code is there when its 0.2 s begin, and
                  none is made more than LEAD_S before, by the wall clock. They have read 60 tokens each, have no plan,
                  and their codes fall due together. Several cores have a process each, with its share.

Prints, writes WORK/crowd_speed.json. Nothing else should run.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from engine_speed import PROMPT_TOKENS, Writer, joined, open_writer, step_all
from random_weights import MOST_TOKENS, NUM_LEVELS, OURS, SHAPES, build, build_decoder, open_decoder

from bridge.engine import Row
from bridge.sampler import Sampler

STREAMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CODES_A_SECOND = 5
DECODER = "decoder"
"""Folder in WORK."""
LEAD_S = 1.0
"""`max_lead_s` of the bridge, as long as nobody asks for another."""
STEP = 1.05
"""The search ends where so many times as many characters are late as are in time."""
LONGEST_S = (MOST_TOKENS - PROMPT_TOKENS - 1) // CODES_A_SECOND
"""For which a character's codes have room beside its prompt and the one that is not timed."""
WAYS = [way for way, (num_levels, _) in OURS.items() if num_levels == NUM_LEVELS]


class Crowd:
    """Characters that get their codes together.

    Args:
        work: Where the weights are.
        shape: Name of the language model's.
        way: Of OURS.
        count: Characters.
    """

    def __init__(self, work: Path, shape: str, way: str, count: int) -> None:
        self.writer: Writer = open_writer(work / shape / way, SHAPES[shape], *OURS[way], max_rows=count)
        self.decoder = open_decoder(work / DECODER)
        prompts = np.random.default_rng(0).integers(3, SHAPES[shape].vocabulary, (count, PROMPT_TOKENS))
        self.rows: dict[Row, Sampler] = joined(self.writer, prompts)
        self.states = [self.decoder.start()] * count

    def speak(self) -> None:
        """A code of each, and its frames."""
        step_all(self.writer, self.rows)
        # Which code it is makes no difference to the time.
        self.states = [state for _, state in self.decoder.run([[1]] * len(self.states), self.states)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument(
        "--held", nargs=2, metavar=("WAY", "COUNT"), help="one process of `characters`: was it in time?"
    )
    arguments = parser.parse_args()
    if not 0 < arguments.seconds <= LONGEST_S:
        parser.error(f"--seconds must be 1 to {LONGEST_S}, got {arguments.seconds}")
    if min(arguments.cores) < 1:
        parser.error(f"--cores must be 1 or more, got {min(arguments.cores)}")
    if arguments.held:
        way, count = arguments.held
        print(json.dumps(in_time(arguments.work, arguments.shapes[0], way, int(count), arguments.seconds)))
        return
    build_decoder(arguments.work / DECODER)
    results: dict[str, Any] = {"seconds": arguments.seconds}
    for name in arguments.shapes:
        build(arguments.work / name, SHAPES[name])
        results[name] = {}
        for way in WAYS:
            cost = growth(arguments.work, name, way)
            guess = max(1000 / (CODES_A_SECOND * ms) for ms in cost.values())
            held = {cores: characters(arguments, name, way, cores, guess) for cores in arguments.cores}
            results[name][way] = {"growth_ms": cost, "characters": held}
            print(name, way, results[name][way], flush=True)
        (arguments.work / "crowd_speed.json").write_text(json.dumps(results, indent=2) + "\n")


def growth(work: Path, shape: str, way: str) -> dict[int, float]:
    """Milliseconds for a code of one among so many."""
    found = {}
    for count in STREAMS:
        crowd, taken = Crowd(work, shape, way, count), []
        for _ in range(12):
            began = time.process_time()
            crowd.speak()
            taken.append(time.process_time() - began)
        found[count] = 1000 * median(taken[2:]) / count
    return found


def characters(arguments: argparse.Namespace, shape: str, way: str, cores: int, guess: float) -> int:
    """The most that were in time, a process a core: up from the guess until some are late, then halfway between."""
    most, late, count = 0, 0, math.ceil(guess)
    while not late or late > max(most + 1, STEP * most):
        command = [sys.executable, __file__, str(arguments.work), "--shapes", shape]
        command += ["--seconds", str(arguments.seconds), "--held", way, str(count)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(cores)]
        answers = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            raise RuntimeError(f"a process of {count} characters failed; what it said is above")
        if all(map(json.loads, answers)):
            most = count
        else:
            late = count
        count = (most + late) // 2 if late else max(most + 1, math.floor(STEP * most))
    return cores * most


def in_time(work: Path, shape: str, way: str, count: int, seconds: int) -> bool:
    """Whether every code was there when its time began."""
    crowd = Crowd(work, shape, way, count)
    crowd.speak()
    began = time.perf_counter()
    for code in range(CODES_A_SECOND * seconds):
        due_s = began + LEAD_S + code / CODES_A_SECOND
        time.sleep(max(0.0, due_s - LEAD_S - time.perf_counter()))
        crowd.speak()
        if time.perf_counter() > due_s:
            return False
    return True


if __name__ == "__main__":
    main()
