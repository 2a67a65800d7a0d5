"""The language model as an ONNX graph with its KV cache, for the CPU and CUDA.

Built by onnxruntime-genai's model builder: GroupQueryAttention over a cache that is handed in and out, logits of the
last position only. Then it is made to read positions, and to write what a depth head goes on from.
"""

import contextlib
import io
import logging
import tempfile
from pathlib import Path

import onnx

from export.folded_graph import read_positions, write_states
from export.source import Source, write_huggingface
from python_core.contract.bundle import LanguageModelGraph, ShapeProfile

logger = logging.getLogger(__name__)

FILE = "language_model.onnx"


def build_language_model(source: Source, precision: str, provider: str, scratch: Path) -> onnx.ModelProto:
    """Build the graph of any Llama- or Qwen-style model.

    Args:
        source: What is exported.
        precision: fp32, or fp16 for cuda.
        provider: cpu or cuda.
        scratch: Folder in which there is room for the model twice.

    Raises:
        ValueError: The builder does not know the model's architecture.
        OSError: There is no room on the disk.
    """
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    model = source.language_model
    # One matrix for embedding and head where the model has one; the builder refuses it elsewhere.
    shared = "true" if model.config.tie_word_embeddings else "false"
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        weights, built, cache = (str(Path(folder) / name) for name in ("weights", "built", "cache"))
        write_huggingface(source, Path(weights))
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                asked = ["prune_lm_head=true", f"shared_embeddings={shared}"]
                options = parse_extra_options("", weights, built, precision, provider, cache, asked)
                create_model("", weights, built, precision, provider, cache, **options)
        except NotImplementedError as error:  # What the builder raises for an architecture that it does not know.
            raise ValueError(f"the graph builder does not know {type(model).__name__} ({error})") from error
        logger.debug("%s", said.getvalue())
        graph = onnx.load(Path(built) / "model.onnx")
    read_positions(graph.graph, source.tokens.num_levels)
    write_states(graph.graph, model.config.hidden_size)
    return graph


def describe(
    source: Source, precision: str, weights: str, profiles: tuple[ShapeProfile, ...] = ()
) -> LanguageModelGraph:
    """What the manifest says of the graph.

    Args:
        source: What is exported.
        precision: As it was asked for.
        weights: How they are written, in words.
        profiles: Of a portable graph, for TensorRT.
    """
    config = source.language_model.config
    return LanguageModelGraph(
        file=FILE,
        num_layers=config.num_hidden_layers,
        num_kv_heads=source.num_kv_heads,
        head_dim=source.head_dim,
        max_positions=config.max_position_embeddings,
        precision=precision,
        weights=weights,
        profiles=profiles,
    )
