"""The checks of `verify` on made-up answers: where each limit lies, and what is said on either side of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from build import ROOT, settings, verify_checks, verify_prompts, verify_reference
from build.contract import MODELS, Tensor
from build.verify_engine import Answers
from build.verify_prompts import Prompts
from build.verify_reference import Reference
from build.verify_report import Finding, Outcome, Report
from build.verify_served import Inside

VOCAB_SIZE = 4096
TINY = settings.model("pika-tiny")


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return verify_prompts.load(TINY.task_file, TINY.folder / "hf" / "tokenizer.json", 32)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return verify_reference.load(verify_prompts.DATA / "pika-tiny.json")


def answers(prompts: Prompts, code_logits: npt.NDArray[np.float32], reused: Sequence[int] | None = None) -> Answers:
    logits = np.full((len(code_logits), VOCAB_SIZE), 99.0, dtype=np.float32)  # what is no code does not count
    logits[:, prompts.codes.token_ids] = code_logits
    return Answers(logits, None if reused is None else tuple(reused))


def judged(prompts: Prompts, reference: Reference, code_logits: npt.NDArray[np.float32]) -> Finding:
    return verify_checks.logits(prompts, reference, answers(prompts, code_logits))


def test_there_are_50_prompts_of_all_labels_and_both_flags(prompts: Prompts, reference: Reference) -> None:
    tags = prompts.read(reference.logits)
    assert len(prompts.ids) == len(tags) == len({tuple(ids) for ids in prompts.ids}) == 50
    assert {tag.emotion_name for tag in tags} == set(prompts.prompt.task.label_names)
    assert {tag.flag for tag in tags} == {True, False}
    assert len(prompts.prompt.prefix_ids) == prompts.prefix_blocks * 32


def test_the_stored_reference_is_for_the_prompts_of_this_checkout(prompts: Prompts, reference: Reference) -> None:
    assert reference.prompts == prompts.sha256, (
        "task, tokenizer or dialogues were changed: docs/verify.md says how to store a new reference"
    )


def test_equal_logits_pass(prompts: Prompts, reference: Reference) -> None:
    finding = judged(prompts, reference, reference.logits)
    assert finding.outcome is Outcome.PASS
    assert finding.figures == {"same_tags": 50, "prompts": 50, "max_difference": 0.0, "max_difference_of_spread": 0.0}


@pytest.mark.parametrize(("share", "outcome"), [(0.9, Outcome.PASS), (1.1, Outcome.FAIL), (-1.1, Outcome.FAIL)])
def test_one_logit_decides(prompts: Prompts, reference: Reference, share: float, outcome: Outcome) -> None:
    changed = reference.logits.copy()
    # The least likely code of a prompt, so that the tag stays.
    changed[7, changed[7].argmin()] += share * verify_checks.MAX_DIFFERENCE * reference.logits.std()
    finding = judged(prompts, reference, changed)
    assert finding.outcome is outcome
    assert finding.figures["same_tags"] == 50
    assert finding.figures["max_difference_of_spread"] == pytest.approx(abs(share) * verify_checks.MAX_DIFFERENCE, rel=1e-3)


@pytest.mark.parametrize(("n_others", "outcome"), [(2, Outcome.PASS), (3, Outcome.FAIL)])
def test_tags_must_be_the_same_even_if_logits_hardly_differ(
    prompts: Prompts, reference: Reference, n_others: int, outcome: Outcome
) -> None:
    """The reference is undecided between two labels, and the engine decides otherwise."""
    undecided = reference.logits.copy()
    found = undecided.copy()
    first, second = (prompts.codes.token_ids.tolist().index(prompts.codes.token_for(code)) for code in prompts.prompt.task.answers[:2])
    undecided[:n_others, [first, second]] = 60.01, 60.0
    found[:n_others, [first, second]] = 60.0, 60.01
    finding = judged(prompts, replace(reference, logits=undecided), found)
    assert finding.figures["max_difference_of_spread"] < verify_checks.MAX_DIFFERENCE
    assert finding.figures["same_tags"] == 50 - n_others
    assert finding.outcome is outcome


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_fail(prompts: Prompts, reference: Reference, odd: float) -> None:
    changed = reference.logits.copy()
    changed[3, 4] = odd
    finding = judged(prompts, reference, changed)
    assert finding.outcome is Outcome.FAIL
    assert finding.found == f"1 of {changed.size} logits are not finite numbers"


def test_an_engine_with_a_smaller_vocabulary_is_another_model(prompts: Prompts, reference: Reference) -> None:
    highest = int(prompts.codes.token_ids.max())
    finding = verify_checks.logits(prompts, reference, Answers(np.zeros((50, highest), dtype=np.float32), None))
    assert finding.outcome is Outcome.FAIL
    assert f"gives {highest} logits, the codes go up to {highest}" in finding.found


def test_reuse_is_enough_if_no_request_is_short_of_a_block(prompts: Prompts, reference: Reference) -> None:
    wanted = prompts.prefix_blocks
    enough = verify_checks.kv_reuse(prompts, answers(prompts, reference.logits, [wanted] * 49 + [wanted + 1]))
    assert enough.outcome is Outcome.PASS
    assert enough.found == f"{wanted} to {wanted + 1} blocks a request, the prefix has {wanted}"
    short = verify_checks.kv_reuse(prompts, answers(prompts, reference.logits, [wanted] * 49 + [wanted - 1]))
    assert short.outcome is Outcome.FAIL
    assert "too few in 1 of 50 requests" in short.found


def test_an_engine_that_does_not_declare_reuse_cannot_be_asked(prompts: Prompts, reference: Reference) -> None:
    finding = verify_checks.kv_reuse(prompts, answers(prompts, reference.logits))
    assert finding.outcome is Outcome.NOT_ASKED
    assert finding.found.startswith("tensorrt_llm does not declare kv_cache_reused_blocks")


def test_other_token_ids_are_told_by_the_number_of_the_dialogue(prompts: Prompts) -> None:
    same = Inside("an image", "0.21.4", prompts.ids, {})
    assert verify_checks.token_ids(prompts.ids, same).outcome is Outcome.PASS
    others = [ids[:-1] if number in (2, 9) else ids for number, ids in enumerate(prompts.ids, 1)]
    finding = verify_checks.token_ids(prompts.ids, replace(same, ids=others))
    assert finding.outcome is Outcome.FAIL
    assert "2 of 50 prompts are others in an image, tokenizers 0.21.4: dialogues 2, 9 of" in finding.found


def pbtxt(model: str, change: dict[str, Tensor] | None = None) -> str:
    """A config.pbtxt with the tensors of the table, some of them changed."""
    config = model_config_pb2.ModelConfig(name=model)
    for side, table in ((config.input, {**MODELS[model].inputs, **(change or {})}), (config.output, MODELS[model].outputs)):
        for name, tensor in table.items():
            side.add(name=name, data_type=f"TYPE_{tensor.dtype}", dims=tensor.dims, **({"optional": True} if tensor.optional else {}))
    return str(text_format.MessageToString(config))


def test_the_models_of_the_image_are_compared_one_by_one() -> None:
    templates = {model: pbtxt(model) for model in MODELS}
    assert verify_checks.image_contract(templates).outcome is Outcome.PASS
    for model in MODELS:
        changed = {**templates, model: pbtxt(model, {"new": Tensor("BOOL", (1,), True)})}
        finding = verify_checks.image_contract(changed)
        assert finding.outcome is Outcome.FAIL
        assert (
            finding.found == f"1 other than in build/contract.py: {model} input new is BOOL [1] optional, the table has none of that name"
        )


def test_templates_that_are_not_there_or_not_readable_give_no_verdict() -> None:
    templates = {model: pbtxt(model) for model in MODELS}
    gone = verify_checks.image_contract({model: text for model, text in templates.items() if model != "ensemble"})
    assert (gone.outcome, gone.found) == (
        Outcome.NOT_ASKED,
        "there is no config.pbtxt of ensemble in /app/all_models/inflight_batcher_llm: look where it is now",
    )
    assert verify_checks.image_contract({**templates, "ensemble": "}"}).outcome is Outcome.NOT_ASKED


def test_an_engine_must_have_all_tensors_whatever_the_target() -> None:
    config = text_format.Parse(pbtxt("tensorrt_llm"), model_config_pb2.ModelConfig())
    assert verify_checks.served_contract(config).outcome is Outcome.PASS
    for tensors in (config.input, config.output):
        name = tensors.pop().name
        finding = verify_checks.served_contract(config)
        assert finding.outcome is Outcome.FAIL
        assert f"{name} is missing" in finding.found


@pytest.mark.parametrize(
    ("outcomes", "status", "words"),
    [
        ([Outcome.PASS, Outcome.PASS], 0, "PASS: this is the engine of this checkpoint"),
        ([Outcome.PASS, Outcome.FAIL], 1, "FAIL: b; docs/verify.md says what to try"),
        ([Outcome.NOT_ASKED, Outcome.FAIL], 1, "FAIL: b; docs/verify.md says what to try"),
        ([Outcome.PASS, Outcome.NOT_ASKED], 2, "NO VERDICT: b could not be asked"),
        ([Outcome.NOT_ASKED, Outcome.NOT_ASKED], 2, "NO VERDICT: a, b could not be asked"),
    ],
)
def test_the_verdict_follows_from_the_worst_finding(outcomes: list[Outcome], status: int, words: str) -> None:
    report = Report("m", "t", [Finding(name, outcome, "found") for name, outcome in zip("ab", outcomes, strict=True)])
    assert report.exit_status == status
    assert report.text().splitlines()[-1] == f"model=m target=t {words}"


def test_docs_name_the_limits() -> None:
    docs = Path(ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
    assert f"{verify_checks.MAX_DIFFERENCE:g} of" in docs
    assert f"{verify_checks.MIN_SAME_TAGS * 50:.0f} of 50" in docs
