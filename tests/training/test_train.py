"""Training from end to end, at a size that takes seconds: what is left in the folder can be used and says how it was made."""

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Phi3ForCausalLM

from build import download, manifest, settings
from build.training import batches, network, tokenizer, train
from build.training.batches import Batch, Batches
from build.training.dialogues import Corpus, Labelled
from build.training.evaluate import accuracy, best_threshold, confusion, predict
from build.training.four_bits import Rounded
from build.training.teacher import Teacher
from one_pass import NO_LIMITS, CodeTable, Prompt, Tag, Task, TextCodec

pytestmark = pytest.mark.usefixtures("one_thread")

TASK = Task.load(settings.model("pika-tiny").task_file)
SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1}
STEPS, BATCH_SIZE, LEARNING_RATE, SEED = 2, 8, 1e-3, 5
VALIDATION_SIZE, TEST_SIZE = 12, 24


def run(out: Path, patch: pytest.MonkeyPatch, *more: str) -> None:
    """The command, with small sizes for what has no option."""
    config_fields = network.config_fields
    for module, name, value in (
        (tokenizer, "SAMPLES", 300),
        (tokenizer, "VOCAB_SIZE", 800),
        (batches, "SPLITTING_RATE", 0.0),  # what is split comes from no seed
        (network, "config_fields", lambda *ids: {**config_fields(*ids), "initializer_range": 0.3}),  # or all answers would be alike
        (train, "WORKERS", 1),
        (train, "VALIDATION_SIZE", VALIDATION_SIZE),
        (train, "TEST_SIZE", TEST_SIZE),
    ):
        patch.setattr(module, name, value)
    patch.setattr(torch, "set_num_threads", lambda count: None)  # see one_thread
    patch.setenv("TOKENIZERS_PARALLELISM", "false")  # training sets it: so it is put back afterwards
    options = [f"--steps={STEPS}", f"--batch-size={BATCH_SIZE}", f"--seed={SEED}", f"--learning-rate={LEARNING_RATE}", "--device=cpu"]
    patch.setattr(sys, "argv", ["train", str(out), *options, "--shape", *(f"{field}={value}" for field, value in SHAPE.items()), *more])
    train.main()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("train") / "not_there_yet"
    with pytest.MonkeyPatch.context() as patch:
        run(out, patch)
        yield out


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "training.json").read_text()))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(TASK.label_names)


def ask(folder: Path, corpus: Corpus, examples: list[Labelled], threshold: float = 0.5) -> list[Tag]:
    """What the checkpoint answers, read from its files as anybody would."""
    codec = TextCodec.load(folder / "tokenizer.json")
    prompt = Prompt(TASK, codec, settings.target("cpu").tokens_per_block, NO_LIMITS)
    codes = CodeTable(replace(TASK, flag_threshold=threshold), codec)
    model = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return predict(model, Batches(corpus, prompt, codes, codec.vocab_size, BATCH_SIZE), prompt, codes, examples, "cpu")


def test_the_pipeline_takes_on_from_it(folder: Path) -> None:
    download.check(folder)
    Phi3ForCausalLM.from_pretrained(folder, dtype="auto")
    assert {field: json.loads((folder / "config.json").read_text())[field] for field in SHAPE} == SHAPE


def test_every_file_has_its_hash(folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    hashes = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert hashes == {path.name: manifest.sha256_of(path) for path in folder.iterdir() if path.name != "SHA256SUMS"}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "training.json"} <= hashes.keys()


def test_the_report_says_how_it_was_made(report: dict[str, Any], folder: Path) -> None:
    assert {name: report[name] for name in ("seed", "steps", "batch_size", "learning_rate", "device")} == {
        "seed": SEED,
        "steps": STEPS,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "device": "CPU",
    }
    assert report["shape"].items() >= SHAPE.items()
    assert report["parameters"] == sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    assert report["corpus_sha256"] == train.corpus_hash()


def test_the_curve_has_losses_and_validation_of_every_step(report: dict[str, Any]) -> None:
    assert [row["step"] for row in report["curve"]] == [1, 2]
    for row in report["curve"]:
        assert row.keys() == {"step", "code", "twins", "json", "dialogue", "validation_emotion", "validation_celebrate"}
        assert row["code"] > 0
        assert row["dialogue"] > 0
        assert 0 <= row["validation_emotion"] <= 1


def test_the_temperature_is_in_the_weights(report: dict[str, Any], folder: Path) -> None:
    temperature = report["temperature_chosen_on_validation"]
    assert abs(temperature - 1) > 0.1
    # So few steps have left the last norm about where it began, at 1.
    norm = load_file(folder / "model.safetensors")["model.norm.weight"].float()
    assert (norm * temperature - 1).abs().max() < 0.02


def test_the_threshold_is_the_best_one_for_the_weights_as_they_were_written(report: dict[str, Any], folder: Path, corpus: Corpus) -> None:
    rng = random.Random(train.VALIDATION_SEED)
    examples = [corpus.sample(rng, "validation", noisy=False) for _ in range(VALIDATION_SIZE)]
    assert report["threshold_chosen_on_validation"] == best_threshold(examples, ask(folder, corpus, examples))


@pytest.mark.parametrize(("name", "noisy"), [("clean", False), ("noisy", True)])
def test_the_test_figures_are_those_of_the_weights_as_they_were_written(
    report: dict[str, Any], folder: Path, corpus: Corpus, name: str, noisy: bool
) -> None:
    rng = random.Random(train.TEST_SEED)
    examples = [corpus.sample(rng, "test", noisy) for _ in range(TEST_SIZE)]
    tags = ask(folder, corpus, examples, report["threshold_chosen_on_validation"])
    assert report["test"][name] == {**accuracy(examples, tags, TASK), "confusion": confusion(examples, tags, TASK)}
    assert sum(map(sum, report["test"][name]["confusion"])) == TEST_SIZE


def test_equal_seeds_give_equal_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, monkeypatch)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_pupil_begins_with_its_teachers_weights_and_says_who_they_were(
    folder: Path, report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, monkeypatch, "--learning-rate=0", "--teachers", str(folder))
    made, given = (load_file(each / "model.safetensors") for each in (tmp_path, folder))
    for name, tensor in made.items():
        if name != "model.norm.weight":  # the temperature is in it
            assert torch.equal(tensor, Rounded()(given[name].float()).half() if "_proj.weight" in name else given[name]), name
    (told,) = json.loads((tmp_path / "training.json").read_text())["teachers"]
    assert told == {name: report[name] for name in ("seed", "steps", "parameters", "corpus_sha256", "duration_s", "test")}
    assert report["teachers"] == []


def test_a_pupil_does_not_learn_as_who_has_no_teacher(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    answers = Teacher.answers

    def spy(self: Teacher, batch: Batch) -> torch.Tensor:
        asked.append(len(self.networks))
        return answers(self, batch)

    monkeypatch.setattr(Teacher, "answers", spy)
    run(tmp_path, monkeypatch, "--teachers", str(folder), str(folder))
    assert asked == [2] * STEPS


def test_a_teacher_is_of_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, int]] = []
    monkeypatch.setattr(train, "train", lambda **arguments: seen.append(arguments["shape"]))
    for more in ((), ("--teacher-size",)):
        run(tmp_path, monkeypatch, *more)
    assert seen == [network.SHAPE | SHAPE, network.TEACHER_SHAPE | SHAPE]
    assert network.TEACHER_SHAPE["num_hidden_layers"] > network.SHAPE["num_hidden_layers"]


@pytest.mark.parametrize(("scores", "best"), [((0.9, 0.2), 0), ((0.2, 0.9), 1)])
def test_the_weights_that_did_best_on_validation_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: tuple[float, float], best: int
) -> None:
    judged: list[torch.Tensor] = []
    marks = iter((*scores, 0.0, 0.0))

    def spy(model: Phi3ForCausalLM, *others: Any) -> list[Tag]:
        judged.append(model.lm_head.weight.detach().half())
        return predict(model, *others)

    monkeypatch.setattr(train, "predict", spy)
    monkeypatch.setattr(train, "accuracy", lambda examples, tags, task: {"emotion": next(marks), "celebrate": 0.0})
    run(tmp_path, monkeypatch)
    written = load_file(tmp_path / "model.safetensors")["lm_head.weight"]
    assert [torch.equal(written, weights) for weights in judged[:STEPS]] == [number == best for number in range(STEPS)]
