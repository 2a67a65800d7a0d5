"""llama.cpp on the same weights: ENV/bin/python benchmarks/rival_llama.py WORK [--shapes 24m] [--batches 1 16]

Goes with engine_speed.py, which left the weights in WORK. In an environment of its own, since it brings other versions:

    python3 -m venv ENV && ENV/bin/pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36 gguf safetensors

as `make bench` does, which compiles llama.cpp for the processor at hand, in some minutes; it takes a C++ compiler.

Blocks in Q4_0, the embedding, which is the head as well, in Q8_0. Prompts of 60 tokens, 40 written, greedy, on one
thread, so many at a time in one batch. Tokens a second of this process's CPU time, without the reading; and, one at a
time, milliseconds of it for the first code, as first_frame.py counts them but without its frames, and the megabytes
that the process then holds. Prints, and writes WORK/rival_llama.json with what its build uses of this processor.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from safetensors.numpy import load_file

# The checker's own environment has neither.
gguf: Any = importlib.import_module("gguf")
llama: Any = importlib.import_module("llama_cpp")

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
    results: dict[str, Any] = {"build": llama.llama_print_system_info().decode(), "first_code": {}}
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


class Model:
    """llama.cpp with one model, for so many at a time."""

    def __init__(self, path: Path, vocabulary: int, batch: int) -> None:
        llama.llama_backend_init()
        self._model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        params = llama.llama_context_default_params()
        params.n_seq_max, params.n_ctx = batch, batch * (PROMPT_TOKENS + PLANS[-1] + 28)
        params.n_batch = batch * PROMPT_TOKENS
        params.n_threads = params.n_threads_batch = 1
        self._context = self._model and llama.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp cannot open {path}; remove it, it is made again")
        self._tokens = llama.llama_batch_init(batch * PROMPT_TOKENS, 0, 1)
        self._vocabulary, self._batch = vocabulary, batch
        self._random = np.random.default_rng(0)

    def seconds(self, num_tokens: int) -> float:
        """Of CPU time, to read a prompt each and to write so many tokens each, the likeliest."""
        prompts = self._random.integers(3, self._vocabulary, (self._batch, PROMPT_TOKENS)).tolist()
        llama.llama_memory_clear(llama.llama_get_memory(self._context), False)
        began = time.process_time()
        written = self._decode(prompts, 0)
        for place in range(PROMPT_TOKENS, PROMPT_TOKENS + num_tokens - 1):
            written = self._decode([[token_id] for token_id in written], place)
        return time.process_time() - began

    def _decode(self, rows: list[list[int]], place: int) -> list[int]:
        """Read a row of each stream, which begins at a place, and say what comes after it."""
        tokens, num, lasts = self._tokens, 0, []
        for stream, row in enumerate(rows):
            for offset, token_id in enumerate(row):
                tokens.token[num], tokens.pos[num] = token_id, place + offset
                tokens.n_seq_id[num], tokens.seq_id[num][0] = 1, stream
                tokens.logits[num] = offset == len(row) - 1
                num += 1
            lasts.append(num - 1)
        tokens.n_tokens = num
        if status := llama.llama_decode(self._context, tokens):
            raise RuntimeError(f"llama_decode of {num} tokens: {status}")
        logits = (llama.llama_get_logits_ith(self._context, last) for last in lasts)
        return [int(np.ctypeslib.as_array(of_last, (self._vocabulary,)).argmax()) for of_last in logits]


def rate(path: Path, vocabulary: int, batch: int, rounds: int) -> float:
    """Tokens written for a second of CPU time."""
    model, taken = Model(path, vocabulary, batch), []
    model.seconds(2)
    for _ in range(rounds):
        taken.append(batch * NEW_TOKENS / (model.seconds(NEW_TOKENS + 1) - model.seconds(1)))
    return median(taken)


def first_code(path: Path, vocabulary: int, rounds: int) -> dict[str, Any]:
    """Milliseconds with a plan of so many tokens, and the memory of this process after them."""
    model = Model(path, vocabulary, 1)
    model.seconds(2)
    taken = {plan: [model.seconds(plan + NUM_LEVELS) for _ in range(rounds)] for plan in PLANS}
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    milliseconds = {plan: 1000 * median(seconds) for plan, seconds in taken.items()}
    return {"first_code_ms": milliseconds, "memory_mb": int(found[1]) / 1000}


if __name__ == "__main__":
    main()
