"""What is taught in one step: losses as plain forwards would give them, twins that agree, words that are blanked."""

import random
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import Phi3ForCausalLM

from build.training import batches as batches_module
from build.training import losses as module
from build.training import network
from build.training.batches import IGNORE, Batch, Batches
from build.training.dialogues import Corpus, Labelled
from build.training.losses import losses, total
from one_pass import NO_LIMITS, CodeTable, Prompt
from tests.support import tokenizers_for_tests

pytestmark = pytest.mark.usefixtures("one_thread")

TASK = tokenizers_for_tests.pika_mood()
CODEC = tokenizers_for_tests.codec("byte_level")
PROMPT = Prompt(TASK, CODEC, 64, NO_LIMITS)
PREFIX = torch.tensor([PROMPT.prefix_ids])


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(TASK.label_names)


@pytest.fixture(scope="module")
def batches(corpus: Corpus) -> Batches:
    return Batches(corpus, PROMPT, CodeTable(TASK, CODEC), CODEC.vocab_size, batch_size=8)


@pytest.fixture(scope="module")
def examples(corpus: Corpus) -> list[Labelled]:
    rng = random.Random(2)
    return [corpus.sample(rng, "train") for _ in range(4)]


@pytest.fixture
def mixed(batches: Batches) -> Batch:
    """A batch with both kinds of answers."""
    return next(batch for batch in batches.stream(0) if 2 <= (batch.code_positions < 0).sum() <= 4)


@pytest.fixture
def model() -> Phi3ForCausalLM:
    torch.manual_seed(3)
    small = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "initializer_range": 0.2}
    return network.build(network.config_fields(CODEC.vocab_size, end_of_text_id=0, bos_id=1) | small, dropout=0.0).train()


@pytest.fixture
def every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORD_DROPOUT", -1.0)


def plainly(model: Phi3ForCausalLM, batch: Batch) -> dict[str, torch.Tensor]:
    """The losses, from one forward over prefix and row for each dialogue."""
    codes: list[torch.Tensor] = []
    logs: list[torch.Tensor] = []
    said: dict[str, list[torch.Tensor]] = {"json": [], "dialogue": []}
    for row, position in enumerate(batch.code_positions.tolist()):
        whole = torch.cat([PREFIX[0], batch.ids[row, : batch.lengths[row]]])[None]
        logits = model(whole, use_cache=False).logits[0, PREFIX.shape[1] :]
        if position >= 0:
            codes.append(cross_entropy(logits[position], batch.code_targets[row]))
            logs.append(torch.log_softmax(logits[position], dim=-1))
        for name, targets in (("json", batch.json_targets), ("dialogue", batch.dialogue_targets)):
            wanted = targets[row, : len(logits)]
            said[name].append(cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="none")[wanted != IGNORE])
    half = len(logs) // 2
    # The two directions of the divergence together: sum of (p - q) (log p - log q).
    apart = [((a.exp() - b.exp()) * (a - b)).sum() for a, b in zip(logs[:half], logs[half:], strict=True)]
    return {
        "code": torch.stack(codes).mean(),
        "twins": torch.stack(apart).mean(),
        **{name: torch.cat(each).mean() for name, each in said.items()},
    }


@pytest.mark.usefixtures("every_word")
def test_the_losses_are_those_of_plain_forwards(model: Phi3ForCausalLM, mixed: Batch) -> None:
    found, expected = losses(model, PREFIX, mixed, "cpu"), plainly(model, mixed)
    assert {name: part.item() for name, part in found.items()} == pytest.approx({n: part.item() for n, part in expected.items()}, rel=1e-4)


@pytest.mark.usefixtures("every_word")
def test_every_part_counts_as_much_as_it_should(model: Phi3ForCausalLM, mixed: Batch) -> None:
    parts = losses(model, PREFIX, mixed, "cpu")
    assert parts.keys() == module.WEIGHTS.keys()
    assert total(parts).item() == pytest.approx(sum(weight * parts[name].item() for name, weight in module.WEIGHTS.items()))


@pytest.mark.usefixtures("every_word")
def test_twins_that_are_alike_agree_and_others_do_not(model: Phi3ForCausalLM, batches: Batches, examples: list[Labelled]) -> None:
    one, two, three, four = examples
    assert losses(model, PREFIX, batches.collate([one, two, one, two]), "cpu")["twins"].item() == pytest.approx(0.0, abs=1e-5)
    assert losses(model, PREFIX, batches.collate([one, two, three, four]), "cpu")["twins"].item() > 0.01


def test_words_are_blanked_at_random(model: Phi3ForCausalLM, batches: Batches, examples: list[Labelled]) -> None:
    torch.manual_seed(1)
    assert losses(model, PREFIX, batches.collate(examples * 2), "cpu")["twins"].item() > 1e-3


def test_the_assistant_marker_and_a_json_answer_are_never_blanked(
    model: Phi3ForCausalLM, mixed: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def spy(model: Phi3ForCausalLM, prefix: torch.Tensor, **inputs: Any) -> torch.Tensor:
        seen.append(inputs["inputs_embeds"])
        return after_prefix(model, prefix, **inputs)

    after_prefix = network.after_prefix
    monkeypatch.setattr(network, "after_prefix", spy)
    monkeypatch.setattr(module, "WORD_DROPOUT", 1.0)
    losses(model, PREFIX, mixed, "cpu")
    for row, (turn_tokens, tokens) in enumerate(zip(mixed.turn_lengths.tolist(), mixed.lengths.tolist(), strict=True)):
        kept = seen[0][row, :tokens].abs().sum(dim=-1).nonzero()[:, 0].tolist()
        assert kept == list(range(turn_tokens - len(PROMPT.assistant_ids), tokens))
        assert mixed.ids[row, kept[: len(PROMPT.assistant_ids)]].tolist() == PROMPT.assistant_ids
        assert (tokens > turn_tokens) == (mixed.code_positions[row] < 0)


def test_a_batch_without_json_answers_is_taught_all_the_same(model: Phi3ForCausalLM, batches: Batches, examples: list[Labelled]) -> None:
    parts = losses(model, PREFIX, batches.collate(examples), "cpu")
    assert parts["json"].item() == 0.0
    assert parts["code"].item() > 0.0
    assert torch.isfinite(total(parts))
    total(parts).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_batch_with_json_answers_teaches_json(model: Phi3ForCausalLM, batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "JSON_SHARE", 0.5)
    batch = next(batch for batch in batches.stream(0) if (batch.code_positions < 0).any() and (batch.code_positions >= 0).any())
    losses(model, PREFIX, batch, "cpu")["json"].backward()  # type: ignore[no-untyped-call]
    assert model.lm_head.weight.grad is not None
    assert model.lm_head.weight.grad.norm() > 0


@pytest.mark.usefixtures("every_word")
@pytest.mark.parametrize("name", list(module.WEIGHTS))
def test_gradients_flow_through_the_prefix_as_in_plain_forwards(model: Phi3ForCausalLM, mixed: Batch, name: str) -> None:
    model.double()
    mixed.code_targets = mixed.code_targets.double()
    embedding = model.model.embed_tokens.weight
    found, expected = (
        torch.autograd.grad(part, embedding)[0] for part in (losses(model, PREFIX, mixed, "cpu")[name], plainly(model, mixed)[name])
    )
    assert (found - expected).norm() < 1e-4 * expected.norm()
    only_in_prefix = sorted(set(PROMPT.prefix_ids) - set(mixed.ids.flatten().tolist()))
    assert len(only_in_prefix) > 20
    assert found[only_in_prefix].norm(dim=-1).min() > 0
