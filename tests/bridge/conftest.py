"""Bundles whose language model writes what a test says: the tiny bundle with another graph in it."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from python_core.contract.bundle import MANIFEST, Manifest, sha256, write_manifest

MANY_TOKENS = 20_000

Write = Callable[[Sequence[int]], Path]


@pytest.fixture(scope="session")
def text_ids(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


@pytest.fixture
def scripted_bundle(tiny_bundle: Path, manifest: Manifest, tmp_path: Path) -> Write:
    """Writes a bundle whose model answers every prompt with these token ids, and repeats the last code ever after.

    The first `given` tokens of the reply are not the model's: requests begin with them.
    """

    def write(reply_ids: Sequence[int], logit: float = 100.0, given: int = 1) -> Path:
        folder = tmp_path / "scripted"
        shutil.copytree(tiny_bundle, folder)
        (folder / MANIFEST).unlink()
        wanted = reply_ids[given:]
        logits = np.zeros((len(wanted), manifest.tokens.vocabulary_size), np.float32)
        logits[np.arange(len(wanted)), wanted] = logit
        if manifest.tokens.is_of_code(wanted[-1]):
            # Its levels come in turn for ever.
            logits[-1, wanted[-manifest.tokens.num_levels :]] = logit
        onnx.save(_scripted_graph(logits), folder / manifest.language_model.file)
        graph = dataclasses.replace(
            manifest.language_model, num_layers=1, num_kv_heads=1, head_dim=1, max_tokens=MANY_TOKENS
        )
        files = {path.name: sha256(path) for path in folder.iterdir()}
        write_manifest(folder, dataclasses.replace(manifest, files=files, language_model=graph))
        return folder

    return write


def _scripted_graph(logits: np.ndarray) -> onnx.ModelProto:
    """Row 0 after a prompt, row n after n tokens more. The cache counts them: 0 for the prompt, 1 for the reply."""
    constants = {
        "table": logits[:, None, :],
        "last": np.array(len(logits) - 1, np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "single": np.array([1, 1, 1, 1], np.int64),
        "shape_head": np.array([1, 1], np.int64),
    }
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["ids_shape"]),
        helper.make_node("Slice", ["ids_shape", "one", "two"], ["num_new"]),
        helper.make_node("Equal", ["num_new", "one"], ["is_reply"]),
        helper.make_node("Cast", ["is_reply"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["counted", "single"], ["counted_once"]),
        helper.make_node("Concat", ["shape_head", "num_new", "one"], ["new_shape"], axis=0),
        helper.make_node("Expand", ["counted_once", "new_shape"], ["new"]),
        helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], axis=2),
        helper.make_node("Concat", ["past_key_values.0.value", "new"], ["present.0.value"], axis=2),
        helper.make_node("ReduceSum", ["present.0.key"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["place"], to=TensorProto.INT64),
        helper.make_node("Min", ["place", "last"], ["row"]),
        helper.make_node("Unsqueeze", ["row", "zero"], ["rows"]),
        helper.make_node("Gather", ["table", "rows"], ["logits"], axis=0),
    ]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "L"]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [1, "T"]),
        helper.make_tensor_value_info("past_key_values.0.key", TensorProto.FLOAT, [1, 1, "past", 1]),
        helper.make_tensor_value_info("past_key_values.0.value", TensorProto.FLOAT, [1, 1, "past", 1]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ("logits", "present.0.key", "present.0.value")
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "scripted", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def endless_bundle(scripted_bundle: Write, manifest: Manifest) -> Path:
    """A bundle whose motions last until they are stopped; its plans are malformed."""
    return scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1])
