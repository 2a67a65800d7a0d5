"""The language model as an ONNX graph with its KV cache.

Built by onnxruntime-genai's model builder: GroupQueryAttention over a cache that is handed in and out, logits of the
last position only. Weights are stored in float16 and computed in float32, which a session unfolds as it loads.
"""

import contextlib
import io
import logging
import tempfile
from pathlib import Path

import onnx
from transformers import PreTrainedModel

from export.stored_weights import forget_sources, store_weights_as_float16
from python_core.contract.bundle import LanguageModelGraph

logger = logging.getLogger(__name__)

FILE = "language_model.onnx"


def write_language_model_graph(model: PreTrainedModel, checkpoint: Path, bundle: Path) -> LanguageModelGraph:
    """Write `language_model.onnx` for any Llama- or Qwen-style model.

    Args:
        model: The model, its weights rounded.
        checkpoint: Folder that has the model's tokenizer.json; the builder reads it along.
        bundle: Folder to write into.

    Raises:
        ValueError: The builder does not know the model's architecture.
    """
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    with tempfile.TemporaryDirectory() as folder:
        source, built, cache = (Path(folder) / name for name in ("source", "built", "cache"))
        model.save_pretrained(source)
        (source / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
        (source / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                options = parse_extra_options(
                    "",
                    str(source),
                    str(built),
                    "fp32",
                    "cpu",
                    str(cache),
                    ["prune_lm_head=true", "shared_embeddings=true"],
                )
                create_model("", str(source), str(built), "fp32", "cpu", str(cache), **options)
        except NotImplementedError as error:  # What the builder raises for an architecture that it does not know.
            raise ValueError(f"{checkpoint}: the graph builder does not know this architecture ({error})") from error
        logger.debug("%s", said.getvalue())
        graph = onnx.load(built / "model.onnx")
    store_weights_as_float16(graph)
    forget_sources(graph)
    onnx.save(graph, bundle / FILE)
    config = model.config
    return LanguageModelGraph(
        file=FILE,
        num_layers=config.num_hidden_layers,
        num_kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        max_tokens=config.max_position_embeddings,
    )
