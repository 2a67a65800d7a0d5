"""How much streaming costs the motion decoder: python benchmarks/decoder_speed.py [--preset small] [--rounds 20]

Writes decoders of a preset's shape with random weights, opens them with ONNX Runtime on one thread, and prints JSON,
for each precision. Times are of the processor and for a code:

    whole_ms          a clip of 49 codes at once, over 49
    one_ms            one code of one stream
    batch_64_ms       one code of each of 64 streams, over 64
    one_ratio         one_ms over whole_ms
    batch_64_ratio    batch_64_ms over whole_ms
    shared_ratio      batch_64_ms over one_ms

Each is run a few times in a row, as a stream does, all of them in turn for some rounds, so that other work on the
machine hits all alike; the median counts, the first of each row not. Other work takes no time of this thread, but part
of the memory's.
"""

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
from random_weights import random_decoder

from bridge.providers import open_session
from export.config import DecoderPrecision
from export.motion_decoder_graph import FILE, write_motion_decoder_graph
from python_core.motion_decoder import MotionDecoder
from python_core.stages.train_vqvae import PRESETS

IN_A_ROW = 8
SIZES = {"whole_ms": (1, 49), "one_ms": (1, 1), "batch_64_ms": (64, 1)}
"""Streams, and codes of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--precision", choices=get_args(DecoderPrecision), nargs="+", default=["fp16", "int8"])
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    decoder = random_decoder(arguments.preset)
    with tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        runs = {precision: run_of(decoder, precision, Path(folder) / precision) for precision in arguments.precision}
        times_ms: dict[str, dict[str, list[float]]] = {precision: {name: [] for name in SIZES} for precision in runs}
        for _ in range(arguments.rounds):
            for precision, run in runs.items():
                for name, size in SIZES.items():
                    found = [run(*size) / (size[0] * size[1]) for _ in range(IN_A_ROW)]
                    times_ms[precision][name] += found[1:]
    print(
        json.dumps(
            {"width": decoder.vqvae.shape.width} | {name: report(found) for name, found in times_ms.items()}, indent=2
        )
    )


def run_of(decoder: MotionDecoder, precision: DecoderPrecision, folder: Path) -> Callable[[int, int], float]:
    """Milliseconds that a decoder of a precision takes for so many streams of so many codes each."""
    folder.mkdir()
    graph = write_motion_decoder_graph(decoder, precision, folder)
    session = open_session(folder / FILE, "cpu", 1)

    def run(streams: int, codes: int) -> float:
        num_codes = decoder.vqvae.shape.codebook.num_codes
        inputs = {
            "codes": np.random.default_rng(1).integers(num_codes, size=(streams, codes)),
            **{state.name: np.zeros((streams, *state.shape), np.float32) for state in graph.states},
        }
        started = time.thread_time()
        session.run(None, inputs)
        return 1000 * (time.thread_time() - started)

    return run


def report(times_ms: dict[str, list[float]]) -> dict[str, float]:
    """Medians, and what one is of another."""
    times = {name: median(found) for name, found in times_ms.items()}
    rounded = {name: round(value, 3) for name, value in times.items()}
    rounded |= {f"{name}_ratio": round(times[f"{name}_ms"] / times["whole_ms"], 2) for name in ("one", "batch_64")}
    return rounded | {"shared_ratio": round(times["batch_64_ms"] / times["one_ms"], 3)}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
