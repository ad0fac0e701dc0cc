"""The steps of a finetuning: which weights are kept, what the curve and the screen say."""

import io
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Phi3ForCausalLM

from build.training import packing, progress, tuning_run
from build.training.batches import Batch, Batches
from build.training.dialogues import Labelled
from build.training.evaluate import accuracy
from build.training.exam import Exam, Result
from build.training.learner import Learner, Step, load, rate
from build.training.mixture import Mixture
from build.training.progress import Progress
from one_pass import Dialogue, Tag
from tests.support import tokenizers_for_tests
from tests.training import small_models
from tests.training.small_models import PLAN

TASK = tokenizers_for_tests.pika_mood()
OWN = [Labelled(Dialogue("child", f"pika {i}"), ("sad",), True, "", "own") for i in range(40)]


class Script(Exam):
    """Gives the marks that it was told, and remembers which weights got them."""

    def __init__(self, *scores: float) -> None:
        self._scores = iter(scores)
        self.seen: list[dict[str, torch.Tensor]] = []

    def take(self, learner: Learner) -> Result:
        self.seen.append(learner.weights())
        figures = {"emotion": next(self._scores), "celebrate": 0.0, "false_celebrations": 0.0}
        return Result(figures, None, figures, 0.5)


@pytest.fixture
def learner(phi_3_folder: Path) -> Learner:
    model = Phi3ForCausalLM.from_pretrained(phi_3_folder, dtype=torch.float32)
    return Learner(model, PLAN, small_models.prompt_of(phi_3_folder)[0].prefix_ids, "cpu")


@pytest.fixture(scope="module")
def corpus() -> Mixture:
    return Mixture(TASK.label_names, OWN, own_share=0.5)


@pytest.fixture
def batches(phi_3_folder: Path, learner: Learner, corpus: Mixture) -> Batches:
    return Batches(corpus, *small_models.prompt_of(phi_3_folder), learner.model.config.vocab_size, PLAN.batch_size)


@pytest.mark.parametrize(("scores", "best"), [((0.9, 0.3, 0.2), 1), ((0.9, 0.2, 0.3), 2), ((0.1, 0.3, 0.3), 1)])
def test_the_weights_that_did_best_are_kept(
    learner: Learner, batches: Batches, tmp_path: Path, scores: tuple[float, float, float], best: int
) -> None:
    exam = Script(*scores, 0.0)
    tuning_run.run(learner, PLAN, batches, exam, tmp_path / "state", {})
    begin, *later, kept = exam.seen
    assert all(torch.equal(kept[name], later[best - 1][name]) for name in kept)
    assert not all(torch.equal(later[0][name], later[1][name]) for name in kept)
    assert not all(torch.equal(begin[name], kept[name]) for name in kept)


def test_the_curve_has_the_mean_losses_since_the_validation_before(
    learner: Learner, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: Iterator[dict[str, float]] = iter(
        [{"code": 1.0}, {"code": 2.0, "json": 7.0}, {"code": 3.0}, {"code": 4.0}, {"code": 6.0, "json": 1.0}, {"code": 8.0, "json": 2.0}]
    )
    monkeypatch.setattr(learner, "step", lambda _number, _batches: Step(next(losses), 10))
    run = tuning_run.run(learner, PLAN, batches, Script(0.0, 0.1, 0.2, 0.2), tmp_path / "state", {})
    found = [{name: row[name] for name in ("step", "code_loss", "json_loss") if name in row} for row in run.curve]
    assert found == [{"step": 0}, {"step": 3, "code_loss": 2.0, "json_loss": 7.0}, {"step": 6, "code_loss": 6.0, "json_loss": 1.5}]


def test_a_step_is_taught_every_pass_and_no_pass_comes_twice(
    learner: Learner, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[tuple[int, ...]] = []
    learn = learner.step

    def step(number: int, given: Sequence[Batch]) -> Step:
        assert len(given) == PLAN.passes_per_step
        taught.extend(tuple(batch.ids.flatten().tolist()) for batch in given)
        return learn(number, given)

    monkeypatch.setattr(learner, "step", step)
    tuning_run.run(learner, PLAN, batches, Script(0.0, 0.1, 0.2, 0.2), tmp_path / "state", {})
    assert len(set(taught)) == PLAN.steps * PLAN.passes_per_step


def test_own_dialogues_that_were_kept_back_are_reported_apart(
    phi_3_folder: Path, learner: Learner, batches: Batches, corpus: Mixture
) -> None:
    prompt, codes = small_models.prompt_of(phi_3_folder)
    rng = random.Random(7)
    made = [corpus.sample(rng, "validation", noisy=False) for _ in range(6)]
    tags = packing.predict(learner.model, batches, prompt, codes, [*made, *corpus.held_out], "cpu")
    result = Exam(corpus, 6, batches, prompt, codes, "cpu").take(learner)
    assert len(corpus.held_out) > 0
    assert result.corpus == {"dialogues": 6, **accuracy(made, tags[:6], TASK)}
    assert result.own == {"dialogues": len(corpus.held_out), **accuracy(corpus.held_out, tags[6:], TASK)}
    assert result.together["dialogues"] == 6 + len(corpus.held_out)


def test_every_tag_is_held_against_its_own_dialogue(
    phi_3_folder: Path, learner: Learner, batches: Batches, corpus: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tag(example: Labelled) -> Tag:
        """Right about own dialogues, wrong about the others."""
        own = example.kind == "own"
        emotion = example.emotion if own else next(name for name in TASK.label_names if name not in example.emotions)
        return Tag(emotion, example.celebrate == own, np.zeros(13, np.float32), 0.5)

    monkeypatch.setattr(packing, "predict", lambda *arguments: [tag(example) for example in arguments[4]])
    monkeypatch.setattr(
        "build.training.exam.best_threshold", lambda examples, tags: len(examples) * 0.01 if len(examples) == len(tags) else 0.0
    )
    result = Exam(corpus, 6, batches, *small_models.prompt_of(phi_3_folder), "cpu").take(learner)
    assert result.own is not None
    assert [(figures["emotion"], figures["celebrate"]) for figures in (result.corpus, result.own)] == [(0.0, 0.0), (1.0, 1.0)]
    assert result.score == pytest.approx(2 * len(corpus.held_out) / (6 + len(corpus.held_out)), abs=1e-3)
    assert result.threshold == pytest.approx(0.01 * (6 + len(corpus.held_out)))
    figures = {name: value for name, value in result.figures.items() if not name.endswith("false_celebrations")}
    assert figures == {"corpus_emotion": 0.0, "corpus_celebrate": 0.0, "own_emotion": 1.0, "own_celebrate": 1.0}


@pytest.mark.parametrize("steps", [1, 2, 10, 500])
def test_the_rate_rises_to_the_whole_and_falls_to_almost_nothing_but_never_to_nothing(steps: int) -> None:
    rates = [rate(number, steps) for number in range(1, steps + 1)]
    top = rates.index(max(rates))
    assert max(rates) == 1.0
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0
    assert steps < 10 or rates[-1] < 0.05


def test_elsewhere_than_on_a_terminal_there_are_plain_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(done=1, steps=3) as quiet:
        quiet.advance(tokens=600, seconds=2.0, losses={"code": 0.5})
        quiet.say("a validation")
    assert capsys.readouterr() == ("a validation\n", "")
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with Progress(done=1, steps=3) as talking:
        talking.advance(tokens=600, seconds=2.0, losses={"code": 0.5, "json": 0.25})
        talking.advance(tokens=1000, seconds=2.0, losses={"code": 0.25})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step 2 of 3: code 0.500, json 0.250, 300 tokens/s, ")
    assert second.startswith("step 3 of 3: code 0.250, 400 tokens/s, ")
    assert second.endswith(" GB at most")


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with Progress(done=1, steps=3) as shown:
        shown.advance(tokens=600, seconds=2.0, losses={"code": 0.5})
        shown.say("a validation")
        shown.advance(tokens=600, seconds=2.0, losses={"code": 0.25})
    assert "3/3" in terminal.getvalue()
    assert "code 0.250, 300 tokens/s" in terminal.getvalue()
    assert "a validation\n" in terminal.getvalue()
    assert "step 2 of 3" not in terminal.getvalue()


def test_a_step_changes_weights_by_its_share_of_the_rate(phi_3_folder: Path, batches: Batches) -> None:
    batch = next(batches.stream(1))
    largest = {}
    for number in (1, PLAN.steps):
        model = Phi3ForCausalLM.from_pretrained(phi_3_folder, dtype=torch.float32)
        fresh = Learner(model, PLAN, small_models.prompt_of(phi_3_folder)[0].prefix_ids, "cpu")
        before = fresh.weights()
        fresh.step(number, [batch])
        largest[number] = max((weight - before[name]).abs().max().item() for name, weight in fresh.weights().items())
    # Adam's first step is as long as the rate allows, whatever the gradient; decay adds a little.
    assert largest[1] == pytest.approx(PLAN.learning_rate, rel=0.05)
    assert largest[PLAN.steps] == pytest.approx(PLAN.learning_rate * rate(PLAN.steps, PLAN.steps), rel=0.05)


def test_passes_of_a_step_count_equally(phi_3_folder: Path, batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[torch.Tensor]] = []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, _: seen.append([p.grad.clone() for p in parameters]))
    stream = batches.stream(1)
    first, second = next(stream), next(stream)
    for taught in ([first], [second], [first, second]):
        model = Phi3ForCausalLM.from_pretrained(phi_3_folder, dtype=torch.float32)
        Learner(model, replace(PLAN, dropout=0.0), small_models.prompt_of(phi_3_folder)[0].prefix_ids, "cpu").step(1, taught)
    for one, other, both in zip(*seen, strict=True):
        assert torch.allclose(both, (one + other) / 2, rtol=1e-4, atol=1e-7)


def test_gradients_are_held_short_and_do_not_outlive_their_step(
    learner: Learner, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    optimize = torch.optim.AdamW.step

    def step(optimizer: torch.optim.AdamW) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())
        optimize(optimizer)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    learner.step(1, [next(batches.stream(1))])
    assert norms == [pytest.approx(1.0, rel=1e-3)]
    assert all(parameter.grad is None for parameter in learner.trained.values())


@pytest.mark.parametrize("lora_rank", [None, 4])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_has_the_dropout_of_the_plan_and_asking_has_none(
    phi_3_folder: Path, batches: Batches, dropout: float, lora_rank: int | None
) -> None:
    plan, (prompt, codes) = replace(PLAN, dropout=dropout, lora_rank=lora_rank), small_models.prompt_of(phi_3_folder)
    learner, batch = Learner(load(phi_3_folder, plan, "cpu"), plan, prompt.prefix_ids, "cpu"), next(batches.stream(1))
    for _ in range(3):
        learner.step(1, [batch])

    def losses() -> list[float]:
        learner.model.train()
        packed = packing.pack(prompt.prefix_ids, batch, "cpu")
        return [loss.item() for loss in packing.answer_losses(learner.model, packed, batch).values()]

    def scores() -> list[float]:
        return [tag.flag_score for tag in packing.predict(learner.model, batches, prompt, codes, OWN[:2], "cpu")]

    assert (losses() == losses()) == (dropout == 0.0)
    assert scores() == scores()
    learner.step(2, [batch])
    assert learner.model.training
