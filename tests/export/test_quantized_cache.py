"""Attention over keys and values in 8 bits, beside the same over float32."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bridge.providers import session_options
from export.quantized_cache import kept_values, quantize_cache

HEADS, KV_HEADS, DIM, CAPACITY, NUM_ROWS = 9, 3, 64, 128, 40


def attention() -> onnx.ModelProto:
    """A layer's attention, as the builder names it."""
    cache = [None, KV_HEADS, None, DIM]
    names = ["past_key_values.0.key", "past_key_values.0.value"]
    presents = ["present.0.key", "present.0.value"]
    node = helper.make_node(
        "GroupQueryAttention",
        ["qkv", "", "", *names, "last", "most"],
        ["attended", *presents],
        domain="com.microsoft",
        num_heads=HEADS,
        kv_num_heads=KV_HEADS,
    )
    graph = helper.make_graph(
        [node],
        "attention",
        [
            helper.make_tensor_value_info("qkv", TensorProto.FLOAT, [None, None, (HEADS + 2 * KV_HEADS) * DIM]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, cache) for name in names),
            helper.make_tensor_value_info("last", TensorProto.INT32, [None]),
            helper.make_tensor_value_info("most", TensorProto.INT32, []),
        ],
        [
            helper.make_tensor_value_info("attended", TensorProto.FLOAT, [None, None, HEADS * DIM]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, cache) for name in presents),
        ],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(
    model: onnx.ModelProto, qkv: NDArray[np.float32], keys: NDArray[np.generic], values: NDArray[np.generic],
    lengths: NDArray[np.int32],
) -> NDArray[np.float32]:  # fmt: skip
    """A step of rows that hold `lengths` positions after it; caches [B, KV_HEADS, CAPACITY, DIM] are written in place,
    as the engine binds them.
    """
    session = ort.InferenceSession(model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for kind, cache in (("key", keys), ("value", values)):
        place = ("cpu", 0, cache.dtype, cache.shape, cache.ctypes.data)
        binding.bind_input(f"past_key_values.0.{kind}", *place)
        binding.bind_output(f"present.0.{kind}", *place)
    binding.bind_cpu_input("qkv", qkv)
    binding.bind_cpu_input("last", lengths - 1)
    binding.bind_cpu_input("most", np.array(lengths.max(), np.int32))
    binding.bind_output("attended", "cpu")
    session.run_with_iobinding(binding)
    return np.asarray(binding.get_outputs()[-1].numpy())


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def test_attention_over_8_bits_is_that_over_float32_but_for_rounding(random: np.random.Generator):
    # Channels are of very different size, as those of keys are.
    sizes = random.lognormal(0, 1, (2, 1, KV_HEADS, 1, DIM))
    kept = (sizes * random.uniform(-1, 1, (2, NUM_ROWS, KV_HEADS, CAPACITY, DIM))).astype(np.float32)
    lengths = random.integers(1, CAPACITY, NUM_ROWS).astype(np.int32)
    qkv = (0.3 * random.standard_normal((NUM_ROWS, 1, (HEADS + 2 * KV_HEADS) * DIM))).astype(np.float32)
    # The step's own keys and values are within the range as well.
    own = qkv.reshape(NUM_ROWS, HEADS + 2 * KV_HEADS, DIM)[:, HEADS:].reshape(NUM_ROWS, 2, KV_HEADS, DIM)
    model = attention()
    largest = np.maximum(sizes[:, 0, :, 0], np.abs(own).max(0)).astype(np.float32)
    quantized = attention()
    quantize_cache(quantized, dict(zip(kept_values(quantized.graph), largest, strict=True)))
    scales = largest[:, None, :, None] / 127
    integers = np.round(kept / scales).astype(np.int8)
    expected_keys, expected_values = kept.copy()
    keys, values = integers.copy()
    expected = run(model, qkv, expected_keys, expected_values, lengths)
    found = run(quantized, qkv, keys, values, lengths)
    assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).mean()
    for written, floats, scale in zip((keys, values), (expected_keys, expected_values), scales, strict=True):
        assert (np.abs(written * scale - floats) <= 0.5001 * scale).all(), "the step's own are written as well"
        changed = (written != integers[0 if written is keys else 1]).any((1, 3))
        assert (changed.sum(-1) <= 1).all(), "and nothing else"


def test_a_row_has_the_same_bits_alone_and_among_others(random: np.random.Generator):
    model = attention()
    largest = random.lognormal(0, 1, (2, KV_HEADS, DIM)).astype(np.float32)
    quantize_cache(model, dict(zip(kept_values(model.graph), largest, strict=True)))
    kept = random.integers(-127, 128, (2, NUM_ROWS, KV_HEADS, CAPACITY, DIM)).astype(np.int8)
    lengths = random.integers(1, CAPACITY, NUM_ROWS).astype(np.int32)
    qkv = random.standard_normal((NUM_ROWS, 1, (HEADS + 2 * KV_HEADS) * DIM)).astype(np.float32)

    def of(first: int, count: int) -> NDArray[np.float32]:
        rows = slice(first, first + count)
        return run(model, qkv[rows], kept[0, rows].copy(), kept[1, rows].copy(), lengths[rows])

    together = of(0, NUM_ROWS)
    for first, count in [*((row, 1) for row in range(NUM_ROWS)), (5, 2), (11, 3), (20, 7)]:
        assert np.array_equal(of(first, count), together[first : first + count])


def test_what_is_larger_than_calibration_has_seen_is_cut(random: np.random.Generator):
    model = attention()
    quantize_cache(model, dict.fromkeys(kept_values(model.graph), np.ones((KV_HEADS, DIM), np.float32)))
    keys, values = np.zeros((2, 1, KV_HEADS, CAPACITY, DIM), np.int8)
    qkv = np.full((1, 1, (HEADS + 2 * KV_HEADS) * DIM), 1000.0, np.float32)
    attended = run(model, qkv, keys, values, np.array([1], np.int32))
    assert (keys[:, :, 0] == 127).all()
    assert np.allclose(attended, 1.0)
    assert not keys[:, :, 1:].any()
