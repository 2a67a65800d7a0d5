"""Nodes and weights that are added to a graph, with names of their own."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROW_IDS = "row_ids"
"""Names end with it that look up rows of a table."""


class GraphNodes:
    """Nodes in the order in which they are computed, and what they compute with.

    Args:
        prefix: Of all names.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._named: set[str] = set()

    def constant(self, value: int | float | list[int]) -> str:
        """A constant: int64, or float32."""
        array = np.array(value, np.float32 if isinstance(value, float) else np.int64)
        return self.weights(array, f"constant.{value}")

    def weights(self, array: NDArray, name: str) -> str:
        """Weights by a name; those of a name that is known are used again."""
        name = f"{self._prefix}.{name}"
        if name not in self._named:
            self._named.add(name)
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A node of one output, and the output's name."""
        name = f"{self._prefix}/{op_type}/{len(self.nodes)}"
        output = output or f"{self._prefix}.{op_type}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name, **attributes))
        return output

    def sum_of_rows(self, table: str, row_ids: str, data_type: int = TensorProto.FLOAT) -> str:
        """Of each group of rows of a table the sum, [..., N] -> [..., 1, width]; -1 stands for no row.

        A product with ones and zeros adds up in one order, whatever the batch; `ReduceSum` does not.

        Args:
            table: [rows, width]
            row_ids: [..., N]
            data_type: Of the table.
        """
        found = self.node("Max", row_ids, self.constant(0), output=f"{self._prefix}.{ROW_IDS}")
        rows = self.node("Gather", table, found, axis=0)
        given = self.node("GreaterOrEqual", row_ids, self.constant(0))
        ones = self.node("Unsqueeze", self.node("Cast", given, to=data_type), self.constant([-2]))
        return self.node("MatMul", ones, rows)
