"""Bundles whose language model writes what a test says: the tiny bundle with other graphs in it."""

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

MANY_POSITIONS = 20_000

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
        layout = manifest.tokens
        wanted = np.array(layout.fold(reply_ids[given:]))
        logits = np.zeros((len(wanted), layout.num_spoken), np.float32)
        logits[np.arange(len(wanted)), wanted[:, 0]] = logit
        # States are the entries of the other levels.
        starts = layout.first_code + np.arange(1, layout.num_levels) * layout.level_size
        states = np.maximum(wanted[:, 1:] - starts, 0).astype(np.float32)
        scripted = _scripted_graph(logits, states, opening=reply_ids[given - 1])
        assert manifest.depth_head is not None
        onnx.save(scripted, folder / manifest.language_model.file)
        onnx.save(_scripted_depth_head(states.shape[1], layout.level_size), folder / manifest.depth_head.file)
        graph = dataclasses.replace(
            manifest.language_model, num_layers=1, num_kv_heads=1, head_dim=1, max_positions=MANY_POSITIONS
        )
        files = {path.name: sha256(path) for path in folder.iterdir()}
        write_manifest(folder, dataclasses.replace(manifest, files=files, language_model=graph))
        return folder

    return write


def _scripted_depth_head(width: int, level_size: int) -> onnx.ModelProto:
    """Speaks the entries that are the states."""
    constants = {"size": np.array([level_size], np.int64), "off_and_on": np.array([0, 100], np.float32)}
    nodes = [
        helper.make_node("Cast", ["states"], ["entries"], to=TensorProto.INT64),
        helper.make_node("OneHot", ["entries", "size", "off_and_on"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info("states", TensorProto.FLOAT, ["B", width]),
        helper.make_tensor_value_info("given", TensorProto.INT64, ["B", width + 1]),
        helper.make_tensor_value_info("chances", TensorProto.DOUBLE, ["B", width]),
        helper.make_tensor_value_info("temperatures", TensorProto.FLOAT, ["B", 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("entries", TensorProto.INT64, ["B", width]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", width, level_size]),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "scripted", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _scripted_graph(logits: np.ndarray, states: np.ndarray, opening: int) -> onnx.ModelProto:
    """Row n of the tables n positions after the opening. The cache holds first token ids, written in place."""
    num_rows = len(logits)
    constants = {
        "logits_table": logits[:, None, :],
        "states_table": states[:, None, :],
        "last": np.array([num_rows - 1], np.int64),
        "opening": np.array(opening, np.float32),
        "zero": np.array([0], np.int64),
        "nothing": np.array(0, np.int64),
        "one": np.array([1], np.int64),
        "single": np.array(1, np.int64),
        "two": np.array([2], np.int64),
        "three": np.array([3], np.int64),
        "flat": np.array([-1], np.int64),
        "as_cache": np.array([0, 1, -1, 1], np.int64),
    }
    past, present = "past_key_values.0.key", "present.0.key"
    nodes = [
        helper.make_node("ReduceSum", ["attention_mask", "one"], ["lengths"], keepdims=1),
        helper.make_node("Shape", ["input_ids"], ["ids_shape"]),
        helper.make_node("Slice", ["ids_shape", "one", "two"], ["num_new"]),
        helper.make_node("Sub", ["lengths", "num_new"], ["begin"]),
        helper.make_node("Squeeze", ["num_new"], ["num_new_scalar"]),
        helper.make_node("Range", ["nothing", "num_new_scalar", "single"], ["steps"]),
        helper.make_node("Add", ["begin", "steps"], ["where"]),
        helper.make_node("Reshape", ["where", "as_cache"], ["where_in_cache"]),
        helper.make_node("Gather", ["input_ids", "nothing"], ["first_ids"], axis=2),
        helper.make_node("Cast", ["first_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["ids", "as_cache"], ["new"]),
        helper.make_node("ScatterElements", [past, "where_in_cache", "new"], [present], axis=2),
        helper.make_node(
            "ScatterElements", ["past_key_values.0.value", "where_in_cache", "new"], ["present.0.value"], axis=2
        ),
        helper.make_node("Equal", [present, "opening"], ["is_opening"]),
        helper.make_node("Shape", [present], ["cache_shape"]),
        helper.make_node("Slice", ["cache_shape", "two", "three"], ["capacity"]),
        helper.make_node("Squeeze", ["capacity"], ["capacity_scalar"]),
        helper.make_node("Range", ["nothing", "capacity_scalar", "single"], ["all_places"]),
        helper.make_node("Less", ["all_places", "lengths"], ["is_read"]),
        helper.make_node("Reshape", ["is_read", "as_cache"], ["is_read_in_cache"]),
        helper.make_node("And", ["is_opening", "is_read_in_cache"], ["found"]),
        helper.make_node("Cast", ["found"], ["found_number"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["found_number"], ["opened"], axis=2),
        helper.make_node("Reshape", ["opened", "flat"], ["opened_flat"]),
        helper.make_node("Reshape", ["lengths", "flat"], ["lengths_flat"]),
        helper.make_node("Sub", ["lengths_flat", "opened_flat"], ["since"]),
        helper.make_node("Sub", ["since", "one"], ["place"]),
        helper.make_node("Min", ["place", "last"], ["row"]),
        helper.make_node("Gather", ["logits_table", "row"], ["logits"], axis=0),
        helper.make_node("Gather", ["states_table", "row"], ["states"], axis=0),
    ]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "P", states.shape[1] + 1]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["B", "T"]),
        helper.make_tensor_value_info(past, TensorProto.FLOAT, ["B", 1, "capacity", 1]),
        helper.make_tensor_value_info("past_key_values.0.value", TensorProto.FLOAT, ["B", 1, "capacity", 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 1, logits.shape[1]]),
        helper.make_tensor_value_info("states", TensorProto.FLOAT, ["B", 1, states.shape[1]]),
        helper.make_tensor_value_info(present, TensorProto.FLOAT, ["B", 1, "capacity", 1]),
        helper.make_tensor_value_info("present.0.value", TensorProto.FLOAT, ["B", 1, "capacity", 1]),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "scripted", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def endless_bundle(scripted_bundle: Write, manifest: Manifest) -> Path:
    """A bundle whose motions last until they are stopped; its plans are malformed."""
    return scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1])
