"""What `verify` judges an engine by, one function a check. A new one is a function that returns a `Finding`, and a line in `build.verify`.

The limits of `logits` were measured on the embedded model; the figures are in docs/verify.md. Change them only with such figures.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from tritonclient.grpc import model_config_pb2

from build.contract import MODELS
from build.errors import ServerError
from build.verify_contract import declared, differences, read_template
from build.verify_engine import MODEL, REUSED, Answers
from build.verify_prompts import Prompts
from build.verify_reference import Reference
from build.verify_report import Finding, Outcome
from build.verify_served import TEMPLATES, Inside

MAX_DIFFERENCE = 0.05
"""Of a logit, in standard deviations of the reference's logits.

fp16 arithmetic makes 0.002, a fault in one layer at least 0.4: docs/verify.md.
"""
MIN_SAME_TAGS = 0.96
"""Of the prompts. Right engines gave all; two may be undecided between two labels."""
_SHOWN = 5


def logits(prompts: Prompts, reference: Reference, answers: Answers) -> Finding:
    """Whether the engine computes what the checkpoint means: its logits of the code tokens against the reference's."""
    codes, vocab_size = prompts.codes.token_ids, answers.logits.shape[1]
    if vocab_size <= codes.max():
        return Finding("logits", Outcome.FAIL, f"the engine gives {vocab_size} logits, the codes go up to {codes.max()}: another model")
    found = answers.logits[:, codes]
    if not np.isfinite(found).all():
        return Finding("logits", Outcome.FAIL, f"{int((~np.isfinite(found)).sum())} of {found.size} logits are not finite numbers")
    expected_tags, tags = prompts.read(reference.logits), prompts.read(found)
    same = sum((a.emotion_name, a.flag) == (b.emotion_name, b.flag) for a, b in zip(expected_tags, tags, strict=True))
    difference = float(np.abs(found - reference.logits).max())
    relative = difference / reference.spread
    needed = MIN_SAME_TAGS * len(tags)
    passed = relative <= MAX_DIFFERENCE and same >= needed
    text = (
        f"{same} of {len(tags)} tags as the reference ({needed:.0f} needed), largest difference of a logit {difference:.2g}, "
        f"{relative:.2g} of their spread ({MAX_DIFFERENCE:g} allowed); reference {reference.path}"
    )
    figures = {"same_tags": same, "prompts": len(tags), "max_difference": difference, "max_difference_of_spread": relative}
    return Finding("logits", Outcome.PASS if passed else Outcome.FAIL, text, figures)


def token_ids(ours: Sequence[Sequence[int]], inside: Inside) -> Finding:
    """Whether the served tagger makes the prompts that this checkout makes from the checkpoint's tokenizer."""
    where = f"{inside.place}, tokenizers {inside.tokenizers}"
    other = [number for number, (a, b) in enumerate(zip(ours, inside.ids, strict=True), 1) if list(a) != list(b)]
    figures = {"same_prompts": len(ours) - len(other), "prompts": len(ours)}
    if not other:
        return Finding("token ids", Outcome.PASS, f"{len(ours)} of {len(ours)} prompts the same in {where}", figures)
    fix = "run `doit model_repository` if task or tokenizer were changed since"
    text = f"{len(other)} of {len(ours)} prompts are others in {where}: dialogues {_some(other)} of build/verify_data; {fix}"
    return Finding("token ids", Outcome.FAIL, text, figures)


def kv_reuse(prompts: Prompts, answers: Answers) -> Finding:
    """Whether every request found the blocks of the prefix in the KV cache."""
    reused, wanted = answers.reused_blocks, prompts.prefix_blocks
    if reused is None:
        return Finding("kv reuse", Outcome.NOT_ASKED, f"{MODEL} does not declare {REUSED}, which every engine of the contract does")
    short = [number for number, blocks in enumerate(reused, 1) if blocks < wanted]
    figures = {"least_blocks": min(reused), "most_blocks": max(reused), "prefix_blocks": wanted}
    text = f"{min(reused)} to {max(reused)} blocks a request, the prefix has {wanted}"
    if not short:
        return Finding("kv reuse", Outcome.PASS, text, figures)
    fix = "the prefix is computed anew: see enable_kv_cache_reuse and use_paged_context_fmha, and whether the KV cache has room"
    return Finding("kv reuse", Outcome.FAIL, f"{text}; too few in {len(short)} of {len(reused)} requests: {fix}", figures)


def served_contract(config: model_config_pb2.ModelConfig) -> Finding:
    """Whether the engine that is served has the tensors of the contract, all of them on every target."""
    found = declared(config)
    good = f"{len(found.inputs)} inputs and {len(found.outputs)} outputs of {MODEL} as in the table"
    return _contract("contract", good, differences(MODEL, found))


def image_contract(templates: Mapping[str, str]) -> Finding:
    """Whether NVIDIA's models in the image have the tensors of the contract."""
    name = "image's pbtxt"
    if missing := [model for model in MODELS if model not in templates]:
        return Finding(name, Outcome.NOT_ASKED, f"there is no config.pbtxt of {', '.join(missing)} in {TEMPLATES}: look where it is now")
    try:
        wrong = [line for model in MODELS for line in differences(model, read_template(templates[model]))]
    except ServerError as error:
        return Finding(name, Outcome.NOT_ASKED, str(error))
    return _contract(name, f"{', '.join(MODELS)} as in the tables", wrong)


def _contract(name: str, good: str, wrong: Sequence[str]) -> Finding:
    figures = {"differences": len(wrong)}
    if not wrong:
        return Finding(name, Outcome.PASS, good, figures)
    return Finding(name, Outcome.FAIL, f"{len(wrong)} other than in build/contract.py: {_some(wrong, '; ')}", figures)


def _some(items: Sequence[object], separator: str = ", ") -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return separator.join(map(str, items[:_SHOWN])) + more
