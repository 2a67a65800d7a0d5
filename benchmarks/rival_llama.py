"""llama.cpp on the same weights: ENV/bin/python benchmarks/rival_llama.py WORK [--shapes 24m] [--batches 1 16]

Goes with engine_speed.py, which left the weights in WORK. In an environment of its own, since it brings other versions,
compiled here, since a package made for AVX2 would leave AVX-512 idle (a C++ compiler, 20 minutes of a core, once):

    python3 -m venv ENV                                                        as `make bench` does
    ENV/bin/pip install --no-binary llama-cpp-python llama-cpp-python gguf safetensors

Blocks in Q4_0, the embedding, which is the head as well, in Q8_0. Prompts of 60 tokens, 40 written, greedy, on one
thread, so many at a time in one batch. Tokens a second of this process's CPU time, without the reading; and, one at a
time, milliseconds of it for the first code, as first_frame.py counts them but without its frames, and the megabytes
that the process then holds. Prints, and writes WORK/rival_llama.json with what its build can use of this processor.
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
llama_cpp: Any = importlib.import_module("llama_cpp")

# As engine_speed.py and first_frame.py, whose imports this environment lacks.
PROMPT_TOKENS, NEW_TOKENS, NUM_LEVELS = 60, 40, 6
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
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-code", action="store_true", help="one process: only that, of the first of the shapes")
    arguments = parser.parse_args()
    if arguments.first_code:
        path, vocabulary = converted(arguments.work / arguments.shapes[0])
        print(json.dumps(first_code(path, vocabulary, arguments.rounds)))
        return
    results: dict[str, Any] = {"build": llama_cpp.llama_print_system_info().decode(), "first_code": {}}
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


class Writer:
    """llama.cpp with one model, for so many at a time: its C interface, whose batches hold several sequences."""

    def __init__(self, path: Path, vocabulary: int, batch: int) -> None:
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_seq_max, params.n_ctx = batch, batch * (PROMPT_TOKENS + PLANS[-1] + 28)
        params.n_batch = batch * PROMPT_TOKENS
        params.n_threads = params.n_threads_batch = 1
        self._context = llama_cpp.llama_init_from_model(model, params)
        assert self._context, f"llama.cpp cannot open {path}"
        self._given = llama_cpp.llama_batch_init(batch * PROMPT_TOKENS, 0, 1)
        self._vocabulary, self._batch = vocabulary, batch
        self._random = np.random.default_rng(0)

    def seconds(self, num_tokens: int) -> float:
        """Of CPU time, to read a prompt each and to write so many tokens each."""
        prompts = self._random.integers(3, self._vocabulary, (self._batch, PROMPT_TOKENS))
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        began = time.process_time()
        written = self._read(prompts, 0)
        for place in range(num_tokens - 1):
            written = self._read(written[:, None], PROMPT_TOKENS + place)
        return time.process_time() - began

    def _read(self, token_ids: np.ndarray, first: int) -> np.ndarray:
        """The likeliest tokens after [B, L], whose first ones are the rows' tokens number `first`, [B]."""
        given, (_, size) = self._given, token_ids.shape
        given.n_tokens = token_ids.size
        for place, token_id in enumerate(token_ids.ravel().tolist()):
            row, position = divmod(place, size)
            given.token[place], given.pos[place] = token_id, first + position
            given.n_seq_id[place], given.seq_id[place][0] = 1, row
            given.logits[place] = position == size - 1
        status = llama_cpp.llama_decode(self._context, given)
        assert status == 0, f"llama.cpp answers with {status}"
        ends = range(size - 1, token_ids.size, size)
        logits = [llama_cpp.llama_get_logits_ith(self._context, end) for end in ends]
        return np.array([np.ctypeslib.as_array(one, (self._vocabulary,)).argmax() for one in logits])


def rate(path: Path, vocabulary: int, batch: int, rounds: int) -> float:
    """Tokens written for a second of CPU time."""
    writer, taken = Writer(path, vocabulary, batch), []
    writer.seconds(2)
    for _ in range(rounds):
        taken.append(batch * NEW_TOKENS / (writer.seconds(NEW_TOKENS + 1) - writer.seconds(1)))
    return median(taken)


def first_code(path: Path, vocabulary: int, rounds: int) -> dict[str, Any]:
    """Milliseconds with a plan of so many tokens, and the memory of this process after them."""
    writer = Writer(path, vocabulary, 1)
    writer.seconds(2)
    taken = {plan: [writer.seconds(plan + NUM_LEVELS) for _ in range(rounds)] for plan in PLANS}
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    milliseconds = {plan: 1000 * median(seconds) for plan, seconds in taken.items()}
    return {"first_code_ms": milliseconds, "memory_mb": int(found[1]) / 1000}


if __name__ == "__main__":
    main()
