"""A faster graph for one-pass tagging: the last layer's feed-forward network is computed for the last token only.

Only the last position's logits are wanted, and in the last layer nothing but keys and values of the other positions is used by anybody. The
model builder's `prune_lm_head` cuts in front of the lm_head; here the cut is moved to just behind the last attention, which saves a quarter
of the arithmetic of a prompt in a network of three layers, and changes no logit. The names and shapes are those that the model builder of
onnxruntime-genai 0.14.1 gives; a graph of another form is refused.
"""

from pathlib import Path

from build.errors import EngineError

PRUNE = "/lm_head/prune/"


def move_cut(path: Path) -> None:
    """Change `model.onnx` in place; the weights beside it are not touched.

    Raises:
        EngineError: the graph is not what the model builder makes with prune_lm_head.
    """
    import onnx  # which takes a while, and dodo.py imports this file whatever it is asked for
    from onnx import helper

    model = onnx.load(path, load_external_data=False)
    nodes = model.graph.node
    reader = {name: node for node in nodes for name in node.input}
    cut = [node for node in nodes if node.name.startswith(PRUNE)]
    attention = next((node for node in reversed(nodes) if node.op_type == "GroupQueryAttention"), None)
    if [node.op_type for node in cut] != ["Gather", "Unsqueeze"] or attention is None:
        raise EngineError(f"{path} has no {PRUNE}Gather and Unsqueeze or no GroupQueryAttention: another version of the model builder?")
    gather, unsqueeze = cut
    attended = attention.output[0]
    projection = reader[attended]
    added = reader[projection.output[0]]
    residual = added.input[0]
    reader[unsqueeze.output[0]].input[0] = gather.input[0]
    for node in cut:
        nodes.remove(node)
    place = list(nodes).index(projection)
    for reading, name in ((projection, attended), (added, residual)):
        last, kept = f"{PRUNE}{name}/last", f"{PRUNE}{name}/kept"
        nodes.insert(place, helper.make_node("Unsqueeze", [last, unsqueeze.input[1]], [kept], name=kept))
        nodes.insert(place, helper.make_node("Gather", [name, gather.input[1]], [last], name=last, axis=1))
        reading.input[0] = kept
    onnx.save(model, path)
