"""A graph as a file, and its weights in files beside it where they are large."""

import re
from pathlib import Path

import onnx
from onnx import external_data_helper

MAX_FILE_BYTES = 45_000_000
"""Weights are split over files of this size, which hosts and patchers of games take. A larger weight has its own."""
_SMALL = 4096
"""Bytes of a weight that stays in the graph: shapes and other constants must be known while it is opened."""
_PAGE = 4096
"""Weights begin at multiples of it, so that they can be mapped into memory."""


def write_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph; weights of more than `MAX_FILE_BYTES` go to NAME.0.bin, NAME.1.bin, ... beside it.

    Raises:
        OSError: There is no room on the disk.
    """
    forget_sources(model)
    large = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) > _SMALL]
    if sum(len(tensor.raw_data) for tensor in large) > MAX_FILE_BYTES:
        _move_weights(large, path)
    onnx.save(model, path)


def is_weights(name: str) -> bool:
    """Whether `write_graph` gives such names to files of weights."""
    return re.fullmatch(r"\w+\.\d+\.bin", name) is not None


def _move_weights(tensors: list[onnx.TensorProto], path: Path) -> None:
    files: list[list[onnx.TensorProto]] = []
    room = 0
    for tensor in tensors:
        size = -(-len(tensor.raw_data) // _PAGE) * _PAGE
        if size > room:
            files.append([])
            room = MAX_FILE_BYTES
        files[-1].append(tensor)
        room -= size
    for number, inside in enumerate(files):
        name = f"{path.stem}.{number}.bin"
        with (path.parent / name).open("wb") as file:
            for tensor in inside:
                file.seek(-(-file.tell() // _PAGE) * _PAGE)
                external_data_helper.set_external_data(tensor, name, file.tell(), len(tensor.raw_data))
                file.write(tensor.raw_data)
                tensor.ClearField("raw_data")
                tensor.data_location = onnx.TensorProto.EXTERNAL


def forget_sources(model: onnx.ModelProto) -> None:
    """Drop what exporters note about the machine and the source files that they ran on."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = ""
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
