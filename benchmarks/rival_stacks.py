"""What a user would run otherwise: python benchmarks/rival_stacks.py WORK [--shapes 24m] [--batches 1 16]

Goes with engine_speed.py, on the same weights in WORK, prompts and thread, rivals in turn, for a second of CPU time:

    transformers      `generate`, torch float32, greedy
    optimum           `ORTModelForCausalLM.generate`, ONNX Runtime float32, greedy; has to write the same tokens
    torch, graph      the motion decoder of the `small` preset's shape with random weights, in torch and as our graph:
                      milliseconds for a code of one stream among so many

Prints, writes WORK/rival_stacks.json.
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
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from engine_speed import BATCHES, NEW_TOKENS, PROMPT_TOKENS
from random_weights import SHAPES, Shape, build

from bridge.providers import open_session
from export.motion_decoder_graph import FILE, write_motion_decoder_graph
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, num_features
from python_core.motion_decoder import MotionDecoder
from python_core.stages.train_vqvae import PRESETS
from python_core.vqvae import Vqvae

Generate = Callable[[torch.Tensor, int], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"decoder_ms": decoder_ms(arguments.batches, arguments.rounds)}
    for name in arguments.shapes:
        folder = build(arguments.work / name, SHAPES[name])
        results[name] = {"positions_per_cpu_s": rates(folder, SHAPES[name], arguments.batches, arguments.rounds)}
    (arguments.work / "rival_stacks.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def rates(folder: Path, shape: Shape, batches: list[int], rounds: int) -> dict[str, dict[int, float]]:
    """Positions a second of decoding."""
    rivals = {"transformers": with_transformers(folder), "optimum": with_optimum(folder)}
    random = np.random.default_rng(0)
    prompts = torch.from_numpy(random.integers(3, shape.vocabulary, (max(batches), PROMPT_TOKENS)))
    taken: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in batches} for name in rivals}
    for batch in batches:
        for _ in range(rounds):
            written = []
            for name, generate in rivals.items():
                seconds = []
                for num_tokens in (1, NEW_TOKENS + 1):
                    began = time.process_time()
                    replies = generate(prompts[:batch], num_tokens)
                    seconds.append(time.process_time() - began)
                written.append(replies)
                taken[name][batch].append(batch * NEW_TOKENS / (seconds[1] - seconds[0]))
            assert torch.equal(*written), "the rivals do not write the same tokens"
    return {name: {batch: median(values) for batch, values in of.items()} for name, of in taken.items()}


def with_transformers(folder: Path) -> Generate:
    from transformers import LlamaForCausalLM

    return _greedy(LlamaForCausalLM.from_pretrained(folder / "torch").eval())


def with_optimum(folder: Path) -> Generate:
    from optimum.exporters.onnx import main_export
    from optimum.onnxruntime import ORTModelForCausalLM

    built = folder / "optimum"
    if not (built / "model.onnx").exists():
        main_export(
            str(folder / "torch"),
            built,
            task="text-generation-with-past",
            opset=18,
            dtype="fp32",
            do_validation=False,
            no_post_process=True,
            local_files_only=True,
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return _greedy(ORTModelForCausalLM.from_pretrained(built, session_options=options))


def _greedy(model: Any) -> Generate:
    def generate(prompts: torch.Tensor, num_tokens: int) -> torch.Tensor:
        mask = torch.ones_like(prompts)
        return model.generate(
            prompts, attention_mask=mask, min_new_tokens=num_tokens, max_new_tokens=num_tokens, do_sample=False,
            pad_token_id=0,
        )  # fmt: skip

    return generate


def motion_decoder() -> MotionDecoder:
    """Of the `small` preset's shape, with random weights."""
    torch.manual_seed(0)
    model = Vqvae(PRESETS["small"].shape).eval()
    for level in model.levels:
        level.get_buffer("vectors").normal_()
    width = num_features(BODY_22)
    normalizer = Normalizer(np.zeros(width, np.float32), np.full(width, 0.1, np.float32))
    return MotionDecoder(model, normalizer).eval()


def decoder_ms(batches: list[int], rounds: int) -> dict[str, dict[int, float]]:
    """Milliseconds for a code of one stream among so many, in torch and by our graph with float16 weights."""
    decoder, num_codes = motion_decoder(), PRESETS["small"].shape.codebook.num_codes
    taken: dict[str, dict[int, list[float]]] = {"torch": {}, "graph": {}}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        graph = write_motion_decoder_graph(decoder, "fp16", Path(folder))
        session = open_session(Path(folder) / FILE, "cpu", 1)
        for batch in batches:
            codes = torch.from_numpy(np.random.default_rng(1).integers(num_codes, size=(batch, 1)))
            inputs = (codes, *decoder.zero_states(batch))
            names = ("codes", *(state.name for state in graph.states))
            arrays = {name: array.numpy() for name, array in zip(names, inputs, strict=True)}
            runs = {
                "torch": lambda inputs=inputs: decoder(*inputs),
                "graph": lambda arrays=arrays: session.run(None, arrays),
            }
            for _ in range(5 * rounds):
                for name, run in runs.items():
                    began = time.process_time()
                    run()
                    taken[name].setdefault(batch, []).append(1000 * (time.process_time() - began) / batch)
    # The first run of each makes room for what the others use again.
    return {name: {batch: median(values[1:]) for batch, values in of.items()} for name, of in taken.items()}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    main()
