"""Language models and a motion decoder with random weights, as graphs and as a bundle: what the benchmarks run."""

import dataclasses
import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bridge.decoder import Decoder
from bridge.providers import session_options
from bridge.server import DEFAULT_BUNDLE
from python_core.contract.bundle import (
    TOKENIZER,
    DepthHeadGraph,
    GraphState,
    LanguageModelGraph,
    MotionDecoderGraph,
    open_bundle,
    sha256,
    write_manifest,
)
from python_core.contract.vocabulary import CodebookSize, TokenLayout

if TYPE_CHECKING:
    from python_core.motion_decoder import MotionDecoder

NUM_LEVELS, LEVEL_SIZE = 6, 512
OURS = {
    "one level": (1, "int4"),
    "one level, int8": (1, "int8"),
    "six levels": (NUM_LEVELS, "int4"),
    "six levels, int8": (NUM_LEVELS, "int8"),
}
"""Our ways: levels of a position, and precision."""
MOST_TOKENS = 512
BUNDLE_WAY = "six levels"
"""Of OURS, in a bundle."""
LANGUAGE_MODEL, DEPTH_HEAD = "language_model.onnx", "depth_head.onnx"
DECODER_PRESET, DECODER_PRECISION = "nano", "fp16"
"""Of train-vqvae: what goes with a model of 24 M parameters. Codes have NUM_LEVELS levels."""
DECODER = "motion_decoder.json"
"""What a manifest would say of the decoder."""


@dataclass(frozen=True)
class Shape:
    """A Llama-style model."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    text: int
    """Tokens that are of no code."""

    @property
    def vocabulary(self) -> int:
        return self.text + NUM_LEVELS * LEVEL_SIZE

    def layout(self, num_levels: int) -> TokenLayout:
        """Codes of so many levels, with as many tokens in all."""
        return TokenLayout(
            think_open=self.text - 4,
            think_close=self.text - 3,
            motion_open=self.text - 2,
            motion_close=self.text - 1,
            first_code=self.text,
            level_size=NUM_LEVELS * LEVEL_SIZE // num_levels,
            num_levels=num_levels,
            turn_end=1,
            vocabulary_size=self.vocabulary,
        )

    def graph(self, precision: str) -> LanguageModelGraph:
        """What a manifest would say of the language model."""
        return LanguageModelGraph(
            file=LANGUAGE_MODEL,
            num_layers=self.layers,
            num_kv_heads=self.kv_heads,
            head_dim=self.hidden // self.heads,
            max_positions=MOST_TOKENS,
            precision=precision,
            weights="random",
            profiles=(),
        )


DEPTH_HEAD_GRAPH = DepthHeadGraph(file=DEPTH_HEAD, precision="int8", weights="random", temperature=1.0)
"""What a manifest would say of a depth head."""
SHAPES = {
    "24m": Shape(512, 1408, 7, 8, 4, 3080),
    "smollm2": Shape(576, 1536, 30, 9, 3, 49160),
}


def build(folder: Path, shape: Shape) -> Path:
    """Random weights for torch, and graphs of the same weights, made once."""
    # Who only measures holds no torch in memory.
    import onnx
    import torch
    from onnxruntime_genai.models.builder import create_model, parse_extra_options
    from transformers import LlamaConfig, LlamaForCausalLM

    from export.depth_head_graph import write_depth_head
    from export.folded_graph import read_positions, speak_in_parts, write_states
    from export.graph_file import write_graph
    from export.quantized_cache import quantize_cache
    from export.quantized_graph import PER_OUTPUT, matrices, quantize_graph
    from export.quantized_weights import BLOCK_SIZES, Scheme
    from python_core.depth_head import DepthHead, DepthHeadShape

    if all((folder / way / LANGUAGE_MODEL).exists() for way in OURS):
        return folder
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
    model = LlamaForCausalLM(config)
    model.save_pretrained(source)
    (folder / "torch" / "tokenizer.json").write_bytes((DEFAULT_BUNDLE / "tokenizer.json").read_bytes())
    (folder / "torch" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    asked = ["prune_lm_head=true", "shared_embeddings=true", "int4_accuracy_level=4"]
    options = parse_extra_options("", source, built, "int4", "cpu", cache, asked)
    create_model("", source, built, "int4", "cpu", cache, **options)
    settings = json.loads((folder / "int4" / "genai_config.json").read_text())
    settings["model"]["decoder"]["session_options"] |= {"intra_op_num_threads": 1}
    (folder / "int4" / "genai_config.json").write_text(json.dumps(settings))
    options = parse_extra_options("", source, built, "fp32", "cpu", cache, asked[:2])
    create_model("", source, str(folder / "fp32"), "fp32", "cpu", cache, **options)
    largest = _largest_kept(folder / "fp32" / "model.onnx", shape)
    for way, (num_levels, precision) in OURS.items():
        (folder / way).mkdir(exist_ok=True)
        graph = onnx.load(folder / "fp32" / "model.onnx")
        read_positions(graph.graph, num_levels)
        write_states(graph.graph, shape.hidden)
        names = list(matrices(graph.graph))
        blocks = Scheme(bits=4, block_size=BLOCK_SIZES[4][0], compensated=False)
        schemes = dict.fromkeys(names, blocks if precision == "int4" else PER_OUTPUT)
        schemes[names[-1]] = Scheme(bits=8, block_size=BLOCK_SIZES[8][0], compensated=False)
        quantize_graph(graph, schemes, schemes[names[-1]], {})
        quantize_cache(graph, largest)
        layout = shape.layout(num_levels)
        speak_in_parts(graph.graph, layout.motion_close, layout.num_spoken)
        write_graph(graph, folder / way / LANGUAGE_MODEL)
        if num_levels > 1:
            write_depth_head(DepthHead(shape.hidden, layout.codebook, DepthHeadShape()), precision, folder / way)
            assert (folder / way / DEPTH_HEAD).is_file()
    return folder


def _largest_kept(graph: Path, shape: Shape) -> dict[str, NDArray[np.float32]]:
    """Of each channel of keys and values, over random tokens, [kv heads, head dim]."""
    session = ort.InferenceSession(graph, session_options(1), providers=["CPUExecutionProvider"])
    tokens = np.random.default_rng(0).integers(3, shape.vocabulary, (4, MOST_TOKENS))
    empty = np.zeros((len(tokens), shape.kv_heads, 0, shape.hidden // shape.heads), np.float32)
    inputs = {value.name: empty for value in session.get_inputs()}
    inputs |= {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    names = [value.name for value in session.get_outputs() if value.name.startswith("present.")]
    found = session.run(names, inputs)
    return {name: np.abs(np.asarray(kept)).max(axis=(0, 2)) for name, kept in zip(names, found, strict=True)}


def build_bundle(folder: Path, shape: Shape) -> Path:
    """A bundle of the language model that `build` has made in a folder, in 4 bits, and of the default bundle's decoder.

    The tokenizer is the default bundle's with fewer words, or with more, none of which occurs.
    """
    default, layout = open_bundle(DEFAULT_BUNDLE).manifest, shape.layout(NUM_LEVELS)
    bundle, (_, precision) = folder / "bundle", OURS[BUNDLE_WAY]
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(folder / BUNDLE_WAY, bundle)
    shutil.copy(DEFAULT_BUNDLE / default.motion_decoder.file, bundle)
    tokenizer = json.loads((DEFAULT_BUNDLE / TOKENIZER).read_text())
    num_words, had = layout.think_open, default.tokens.think_open
    words = {word: number for word, number in tokenizer["model"]["vocab"].items() if number < num_words}
    merges = [pair for pair in tokenizer["model"]["merges"] if {*pair, "".join(pair)} <= words.keys()]
    words |= {f"more {number}": number for number in range(had, num_words)}
    tokenizer["model"] |= {"vocab": words, "merges": merges}
    for token in tokenizer["added_tokens"]:
        token["id"] += num_words - had if token["id"] >= had else 0
    (bundle / TOKENIZER).write_text(json.dumps(tokenizer))
    manifest = dataclasses.replace(
        default,
        model_id="random",
        files={path.name: sha256(path) for path in bundle.iterdir()},
        tokens=layout,
        language_model=shape.graph(precision),
        depth_head=DEPTH_HEAD_GRAPH,
    )
    write_manifest(bundle, manifest)
    return bundle


def random_decoder(preset: str) -> "MotionDecoder":
    """A motion decoder of a preset of train-vqvae."""
    import torch

    from python_core.contract.skeleton import BODY_22
    from python_core.features import Normalizer, num_features
    from python_core.motion_decoder import MotionDecoder
    from python_core.stages.train_vqvae import PRESETS
    from python_core.vqvae import Vqvae

    torch.manual_seed(0)
    vqvae = Vqvae(PRESETS[preset].shape).eval()
    for level in vqvae.levels:
        level.get_buffer("vectors").normal_()
    width = num_features(BODY_22)
    return MotionDecoder(vqvae, Normalizer(np.zeros(width, np.float32), np.full(width, 0.1, np.float32))).eval()


def build_decoder(folder: Path) -> Path:
    """A motion decoder of `DECODER_PRESET`, made once."""
    from export.motion_decoder_graph import write_motion_decoder_graph

    if (folder / DECODER).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    decoder = random_decoder(DECODER_PRESET)
    codebook = decoder.vqvae.shape.codebook
    assert codebook == CodebookSize(LEVEL_SIZE, NUM_LEVELS), "codes are those of the language models"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = write_motion_decoder_graph(decoder, DECODER_PRECISION, folder)
    (folder / DECODER).write_text(json.dumps(dataclasses.asdict(graph)))
    return folder


def open_decoder(folder: Path) -> Decoder:
    """What `build_decoder` wrote, on one thread."""
    fields = json.loads((folder / DECODER).read_text())
    states = tuple(GraphState(**state) for state in fields["states"])
    graph = MotionDecoderGraph(**(fields | {"states": states, "profiles": ()}))
    manifest = dataclasses.replace(open_bundle(DEFAULT_BUNDLE).manifest, motion_decoder=graph)
    return Decoder(folder, manifest, "cpu", num_threads=1)
