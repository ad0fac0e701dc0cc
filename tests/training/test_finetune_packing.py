"""Many dialogues in one pass: each fares as if it were alone, in what it is told and in what it teaches."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import Phi3Config, Phi3ForCausalLM

from build.training import packing
from build.training.batches import IGNORE, Batch, Batches
from build.training.dialogues import Corpus, Labelled
from one_pass import CodeTable, Prompt
from tests.support import tokenizers_for_tests
from tests.training import small_models

TASK = tokenizers_for_tests.pika_mood()


@pytest.fixture
def model(phi_3_folder: Path) -> Phi3ForCausalLM:
    return Phi3ForCausalLM.from_pretrained(phi_3_folder, dtype=torch.float64).eval()


@pytest.fixture(scope="module")
def asked(phi_3_folder: Path) -> tuple[Prompt, CodeTable]:
    return small_models.prompt_of(phi_3_folder)


@pytest.fixture(scope="module")
def examples() -> list[Labelled]:
    corpus, rng = Corpus(TASK.label_names), random.Random(2)
    return [corpus.sample(rng, "train") for _ in range(5)]


@pytest.fixture(scope="module")
def batches(phi_3_folder: Path, asked: tuple[Prompt, CodeTable]) -> Batches:
    vocab_size = Phi3Config.from_pretrained(phi_3_folder).vocab_size
    return Batches(Corpus(TASK.label_names), *asked, vocab_size=vocab_size, batch_size=6)


@pytest.fixture
def mixed(batches: Batches) -> Batch:
    """A batch with both kinds of answers."""
    stream = batches.stream(0)
    return next(batch for batch in stream if 2 <= (batch.code_positions < 0).sum() <= 4)


def alone(model: Phi3ForCausalLM, prompt: Prompt, batch: Batch, row: int) -> torch.Tensor:
    """Logits [length of the turn, vocab] of one dialogue behind a prefix of its own."""
    ids = batch.ids[row, : batch.lengths[row]]
    logits: torch.Tensor = model(torch.cat([torch.tensor(prompt.prefix_ids), ids])[None], use_cache=False).logits
    return logits[0, len(prompt.prefix_ids) :]


def losses_alone(model: Phi3ForCausalLM, prompt: Prompt, batch: Batch) -> dict[str, torch.Tensor]:
    codes, json_tokens = [], []
    for row, position in enumerate(batch.code_positions.tolist()):
        logits = alone(model, prompt, batch, row)
        if position >= 0:
            codes.append(cross_entropy(logits[position], batch.code_targets[row].double()))
        else:
            targets = batch.json_targets[row, : len(logits)]
            json_tokens.append(cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")[targets != IGNORE])
    return {"code": torch.stack(codes).mean(), "json": torch.cat(json_tokens).mean()}


def gradients(model: Phi3ForCausalLM, losses: dict[str, torch.Tensor]) -> Iterator[torch.Tensor]:
    model.zero_grad()
    (losses["code"] + 0.5 * losses["json"]).backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        assert parameter.grad is not None
        yield parameter.grad.clone()


def test_every_dialogue_is_told_what_it_would_be_told_alone(
    model: Phi3ForCausalLM, asked: tuple[Prompt, CodeTable], batches: Batches, examples: list[Labelled]
) -> None:
    prompt, codes = asked
    tags = packing.predict(model, batches, prompt, codes, examples, "cpu")
    for example, tag in zip(examples, tags, strict=True):
        logits = model(torch.tensor([prompt.encode(example.dialogue)]), use_cache=False).logits[0, -1]
        expected = codes.read(logits.detach().float().numpy())
        assert tag.emotion_scores == pytest.approx(expected.emotion_scores, rel=1e-4)
        assert tag.flag_score == pytest.approx(expected.flag_score, rel=1e-4)


def test_no_dialogue_is_lost_where_there_are_more_than_fit_a_pass(
    model: Phi3ForCausalLM, asked: tuple[Prompt, CodeTable], batches: Batches, examples: list[Labelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = packing.predict(model, batches, *asked, examples, "cpu")
    monkeypatch.setattr(packing, "PREDICTED_AT_ONCE", 2)
    assert [tag.emotion_name for tag in packing.predict(model, batches, *asked, examples, "cpu")] == [tag.emotion_name for tag in together]
    assert len({tag.flag_score for tag in together}) == len(examples)


def test_the_losses_are_those_of_dialogues_alone(model: Phi3ForCausalLM, asked: tuple[Prompt, CodeTable], mixed: Batch) -> None:
    losses = packing.answer_losses(model, packing.pack(asked[0].prefix_ids, mixed, "cpu"), mixed)
    expected = losses_alone(model, asked[0], mixed)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx({name: x.item() for name, x in expected.items()}, rel=1e-5)


def test_gradients_flow_through_the_prefix_as_if_every_dialogue_had_its_own(
    model: Phi3ForCausalLM, asked: tuple[Prompt, CodeTable], mixed: Batch
) -> None:
    packed = packing.pack(asked[0].prefix_ids, mixed, "cpu")
    losses = packing.answer_losses(model, packed, mixed)
    model.zero_grad()
    packing.total(losses).backward()  # type: ignore[no-untyped-call]
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    for gradient, expected in zip(found, gradients(model, losses_alone(model, asked[0], mixed)), strict=True):
        assert (gradient - expected).norm() < 1e-5 * expected.norm()


def test_the_prefix_is_there_once_and_only_the_end_is_filled_up(asked: tuple[Prompt, CodeTable], mixed: Batch) -> None:
    packed = packing.pack(asked[0].prefix_ids, mixed, "cpu")
    size = len(asked[0].prefix_ids)
    assert packed.size_tokens == size + int(mixed.lengths.sum())
    assert packed.ids.shape[1] == -(-packed.size_tokens // packing.BLOCK_TOKENS) * packing.BLOCK_TOKENS
    assert packed.positions.max() == size + mixed.lengths.max() - 1
    assert not packed.mask[0, 0, : packed.size_tokens, packed.size_tokens :].any()
    assert packed.mask[0, 0].diagonal().all()


def test_logits_are_computed_at_answers_only(model: Phi3ForCausalLM, asked: tuple[Prompt, CodeTable], mixed: Batch) -> None:
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda _module, inputs, _output: rows.append(inputs[0].shape[0]))
    packing.answer_losses(model, packing.pack(asked[0].prefix_ids, mixed, "cpu"), mixed)
    assert sum(rows) == (mixed.code_positions >= 0).sum() + (mixed.json_targets != IGNORE).sum()


@pytest.mark.parametrize("kind", ["code", "json"])
def test_a_batch_may_have_answers_of_one_kind(model: Phi3ForCausalLM, asked: tuple[Prompt, CodeTable], mixed: Batch, kind: str) -> None:
    if kind == "code":
        mixed.json_targets.fill_(IGNORE)
    else:
        mixed.code_positions.fill_(-1)
    losses = packing.answer_losses(model, packing.pack(asked[0].prefix_ids, mixed, "cpu"), mixed)
    assert losses.keys() == {kind}
    assert torch.isfinite(packing.total(losses))
