"""llama.cpp on the same weights: ENV/bin/python benchmarks/rival_llama.py WORK [--shapes 24m] [--batches 1 16]

Goes with engine_speed.py, which left the weights in WORK. In an environment of its own, since it brings other versions:

    python3 -m venv ENV && ENV/bin/pip install xllamacpp gguf safetensors      as `make bench` does

Blocks in Q4_0, the embedding, which is the head as well, in Q8_0. Prompts of 60 tokens, 40 written, greedy, on one
thread, so many at a time in one batch. Tokens a second of this process's CPU time, without the reading; and, one at a
time, milliseconds of it for the first code, as first_frame.py counts them but without its frames, and the megabytes
that the process then holds. Prints, and writes WORK/rival_llama.json with what its build can use of this processor: a
package made for AVX2 leaves AVX-512 idle, and llama.cpp compiled on the machine would be faster.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from safetensors.numpy import load_file

# The checker's own environment has neither.
gguf: Any = importlib.import_module("gguf")
xllamacpp: Any = importlib.import_module("xllamacpp")

# As engine_speed.py and first_frame.py, whose imports this environment lacks.
PROMPT_TOKENS, NEW_TOKENS, NUM_LEVELS = 60, 40, 6
BATCHES = (1, 4, 16, 64)
PLANS = (0, 40, 80)
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shapes", nargs="+", default=["24m", "smollm2"])
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-code", action="store_true", help="one process: only that, of the first of the shapes")
    arguments = parser.parse_args()
    if arguments.first_code:
        path, vocabulary = converted(arguments.work / arguments.shapes[0])
        print(json.dumps(first_code(path, vocabulary, arguments.rounds)))
        return
    results: dict[str, Any] = {"build": xllamacpp.get_system_info(), "first_code": {}}
    for name in arguments.shapes:
        path, vocabulary = converted(arguments.work / name)
        results[name] = {batch: rate(path, vocabulary, batch, arguments.rounds) for batch in arguments.batches}
        command = [sys.executable, __file__, str(arguments.work), "--shapes", name, "--first-code"]
        command += ["--rounds", str(arguments.rounds)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results["first_code"][name] = json.loads(answer.splitlines()[-1])
    (arguments.work / "rival_llama.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def converted(folder: Path) -> tuple[Path, int]:
    """The weights as llama.cpp reads them, made once, and the size of the vocabulary."""
    config = json.loads((folder / "torch" / "config.json").read_text())
    path, vocabulary = folder / "q4_0.gguf", config["vocab_size"]
    if path.exists():
        return path, vocabulary
    writer = gguf.GGUFWriter(path, "llama")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_vocab_size(vocabulary)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"<{token_id}>" for token_id in range(vocabulary)])
    writer.add_token_types([gguf.TokenType.NORMAL] * vocabulary)
    writer.add_token_merges(["< 0"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, weight in load_file(folder / "torch" / "model.safetensors").items():
        kind = gguf.GGMLQuantizationType.Q4_0
        if name.startswith("model.layers."):
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            target = f"blk.{layer}.{NAMES[part]}.weight"
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                weight = turned(weight, heads if part == "self_attn.q_proj" else kv_heads)
        else:
            target = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]
            kind = gguf.GGMLQuantizationType.Q8_0
        weight = weight.astype(np.float32)
        if weight.ndim == 1:
            writer.add_tensor(target, weight)
        else:
            writer.add_tensor(target, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, vocabulary


def turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of llama.cpp, which turns neighbours where transformers turns halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


class Server:
    """llama.cpp with one model, for so many at a time."""

    def __init__(self, path: Path, vocabulary: int, batch: int) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel, params.n_ctx = batch, batch * (PROMPT_TOKENS + PLANS[-1] + 28)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.cpuparams.poll = params.cpuparams_batch.poll = 0
        params.cache_prompt, params.verbosity = False, -1
        self._server = xllamacpp.Server(params)
        self._vocabulary, self._batch = vocabulary, batch
        self._random = np.random.default_rng(0)

    def seconds(self, num_tokens: int) -> float:
        """Of CPU time, to read a prompt each and to write so many tokens each."""
        prompts = self._random.integers(3, self._vocabulary, (self._batch, PROMPT_TOKENS)).tolist()
        asked = [
            {"prompt": prompt, "n_predict": num_tokens, "temperature": 0.0, "ignore_eos": True, "cache_prompt": False}
            for prompt in prompts
        ]
        began = time.process_time()
        with ThreadPoolExecutor(self._batch) as clients:
            answers = list(clients.map(self._server.handle_completions, asked))
        took = time.process_time() - began
        assert all(answer["usage"]["completion_tokens"] == num_tokens for answer in answers), answers[0]
        return took


def rate(path: Path, vocabulary: int, batch: int, rounds: int) -> float:
    """Tokens written for a second of CPU time."""
    server, taken = Server(path, vocabulary, batch), []
    server.seconds(2)
    for _ in range(rounds):
        taken.append(batch * NEW_TOKENS / (server.seconds(NEW_TOKENS + 1) - server.seconds(1)))
    return median(taken)


def first_code(path: Path, vocabulary: int, rounds: int) -> dict[str, Any]:
    """Milliseconds with a plan of so many tokens, and the memory of this process after them."""
    server = Server(path, vocabulary, 1)
    server.seconds(2)
    taken = {plan: [server.seconds(plan + NUM_LEVELS) for _ in range(rounds)] for plan in PLANS}
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    milliseconds = {plan: 1000 * median(seconds) for plan, seconds in taken.items()}
    return {"first_code_ms": milliseconds, "memory_mb": int(found[1]) / 1000}


if __name__ == "__main__":
    main()
