"""How much streaming costs the motion decoder: python benchmarks/decoder_speed.py [--preset small] [--precision fp16]

Writes a decoder of a preset's shape with random weights, opens it with ONNX Runtime on one thread, and prints JSON.
Times are of the processor and for a code:

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
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
import torch

from bridge.providers import open_session
from export.config import DecoderPrecision
from export.motion_decoder_graph import FILE, write_motion_decoder_graph
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, num_features
from python_core.motion_decoder import MotionDecoder
from python_core.stages.train_vqvae import PRESETS
from python_core.steady_twist import MEMORY_FRAMES
from python_core.vqvae import Vqvae

CLIP_CODES = 49
STREAMS = 64
IN_A_ROW = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--precision", choices=get_args(DecoderPrecision), default="fp16")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    shape = PRESETS[arguments.preset].shape
    model = Vqvae(shape).eval()
    for level in model.levels:
        level.get_buffer("vectors").normal_()
    width = num_features(BODY_22)
    normalizer = Normalizer(np.zeros(width, np.float32), np.full(width, 0.1, np.float32))
    with tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        graph = write_motion_decoder_graph(MotionDecoder(model, normalizer).eval(), arguments.precision, Path(folder))
        session = open_session(Path(folder) / FILE, "cpu", 1)

        def run(streams: int, codes: int) -> float:
            inputs = {
                "codes": np.random.default_rng(1).integers(shape.codebook.num_codes, size=(streams, codes)),
                "conv_state": np.zeros((streams, graph.conv_state_size), np.float32),
                "root_state": np.zeros((streams, 3), np.float32),
                "past_joints_m": np.zeros((streams, MEMORY_FRAMES, BODY_22.num_joints, 3), np.float32),
            }
            started = time.thread_time()
            session.run(None, inputs)
            return 1000 * (time.thread_time() - started)

        sizes = {"whole_ms": (1, CLIP_CODES), "one_ms": (1, 1), "batch_64_ms": (STREAMS, 1)}
        times_ms: dict[str, list[float]] = {name: [] for name in sizes}
        for _ in range(arguments.rounds):
            for name, size in sizes.items():
                times_ms[name] += [run(*size) / (size[0] * size[1]) for _ in range(IN_A_ROW)][1:]
    times = {name: median(times_ms[name]) for name in sizes}
    report = {name: round(value, 3) for name, value in times.items()}
    report |= {f"{name}_ratio": round(times[f"{name}_ms"] / times["whole_ms"], 2) for name in ("one", "batch_64")}
    report["shared_ratio"] = round(times["batch_64_ms"] / times["one_ms"], 3)
    print(json.dumps({"width": shape.width, "precision": arguments.precision} | report, indent=2))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
