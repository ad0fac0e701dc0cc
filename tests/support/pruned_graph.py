"""A graph of one layer with the node names and the cut of the model builder, small enough to be run by onnx itself.

The model builder's own operators are given as functions: attention that mixes a position with those before it, and a norm that only adds.
"""

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

HIDDEN_SIZE, VOCAB_SIZE = 4, 6
DOMAIN = "com.microsoft"


def model() -> ModelProto:
    """Input `embedded` float32 [batch, tokens, HIDDEN_SIZE], output `logits` [batch, 1, VOCAB_SIZE]."""
    rng = np.random.default_rng(4)
    weights = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in (
            ("o_proj", (HIDDEN_SIZE, HIDDEN_SIZE)),
            ("mlp", (HIDDEN_SIZE, HIDDEN_SIZE)),
            ("lm_head", (HIDDEN_SIZE, VOCAB_SIZE)),
        )
    }
    numbers = {"minus_one": np.array(-1, dtype=np.int64), "one": np.array([1], dtype=np.int64)}
    nodes = [
        _node("GroupQueryAttention", ["embedded"], ["attended"], domain=DOMAIN),
        _node("MatMul", ["attended", "o_proj"], ["projected"]),
        _node("SkipSimplifiedLayerNormalization", ["embedded", "projected"], ["normed", "residual"], domain=DOMAIN),
        _node("MatMul", ["normed", "mlp"], ["fed_forward"]),
        _node("SkipSimplifiedLayerNormalization", ["residual", "fed_forward"], ["final", "unused"], domain=DOMAIN),
        _node("Gather", ["final", "minus_one"], ["gathered"], name="/lm_head/prune/Gather", axis=1),
        _node("Unsqueeze", ["gathered", "one"], ["last"], name="/lm_head/prune/Unsqueeze"),
        _node("MatMul", ["last", "lm_head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pruned",
        [helper.make_tensor_value_info("embedded", TensorProto.FLOAT, ["batch", "tokens", HIDDEN_SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, VOCAB_SIZE])],
        [numpy_helper.from_array(array, name) for name, array in (weights | numbers).items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=[_attention(), _add_norm()], ir_version=10)


def _attention() -> onnx.FunctionProto:
    """Sums over the positions up to each."""
    axis = helper.make_node("Constant", [], ["axis"], value_ints=[1])
    scalar = helper.make_node("Squeeze", ["axis"], ["position"])
    total = helper.make_node("CumSum", ["x", "position"], ["y"])
    return helper.make_function(DOMAIN, "GroupQueryAttention", ["x"], ["y"], [axis, scalar, total], [helper.make_opsetid("", 21)])


def _add_norm() -> onnx.FunctionProto:
    add = helper.make_node("Add", ["a", "b"], ["sum"])
    norm = helper.make_node("Tanh", ["sum"], ["normed"])
    name = "SkipSimplifiedLayerNormalization"
    return helper.make_function(DOMAIN, name, ["a", "b"], ["normed", "sum"], [add, norm], [helper.make_opsetid("", 21)])


def _node(kind: str, inputs: list[str], outputs: list[str], **attributes: object) -> NodeProto:
    node: NodeProto = helper.make_node(kind, inputs, outputs, **attributes)
    return node
