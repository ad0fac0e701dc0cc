"""Finetuning from end to end: what is taught is learned, what is made can be used, and an interruption changes nothing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Phi3ForCausalLM

from build import ROOT, download, manifest
from build.errors import ManifestError, SettingError, SourceError
from build.training import evaluate, resume
from build.training.batches import Batches
from build.training.dialogues import Corpus, Labelled
from build.training.finetune import finetune
from one_pass import Dialogue
from tests.support import tokenizers_for_tests
from tests.training import small_models
from tests.training.small_models import PLAN, TARGET, Place

TASK = tokenizers_for_tests.pika_mood()
OWN = [
    Dialogue("con đi học về", "Chào con, hôm nay trời nắng đẹp."),
    Dialogue("I ate an apple", "Apples grow on trees."),
    Dialogue("tớ thích chơi cờ", "Cờ vua có ba mươi hai quân."),
    Dialogue("my cat sleeps", "Cats sleep a lot."),
]


def own_file(folder: Path, emotion: str = "worry", celebrate: str = "yes") -> Path:
    """Labels that nobody would give, so that only this file can have taught them."""
    path = folder / "own.jsonl"
    rows = [
        {"user_last_message": d.user_last_message, "pika_response": d.pika_response, "emotion": emotion, "celebrate": celebrate}
        for d in OWN
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The embedded model, taught on nothing but four own lines."""
    root = tmp_path_factory.mktemp("embedded")
    with small_models.place(root, small_models.copy_of_the_embedded) as place:
        plan = {"steps": 16, "batch_size": 6, "passes_per_step": 1, "own_share": 1.0, "validate_every_steps": 4}
        finetune(place.planned(**plan), TARGET, own_file(root))
        yield place


def test_the_loss_falls(embedded: Place) -> None:
    losses = [row["code_loss"] for row in embedded.report()["curve"] if "code_loss" in row]
    assert len(losses) == 4
    assert losses[-1] < losses[0] / 4


def test_the_checkpoint_gives_the_tags_that_were_taught(embedded: Place) -> None:
    folder = embedded.tuned.folder / "hf"
    prompt, codes = small_models.prompt_of(folder)
    assert prompt.codec.dialogue_form == "spoken"
    examples = [Labelled(dialogue, ("worry",), True, "", "own") for dialogue in OWN]
    tags = {}
    for name, place in (("before", embedded.base.folder / "hf"), ("after", folder)):
        model = Phi3ForCausalLM.from_pretrained(place, dtype=torch.float32)
        batches = Batches(Corpus(TASK.label_names), prompt, codes, model.config.vocab_size, 4)
        tags[name] = evaluate.predict(model, batches, prompt, codes, examples, "cpu")
    assert [(tag.emotion_name, tag.flag) for tag in tags["after"]] == [("worry", True)] * 4
    assert sum(tag.emotion_name == "worry" for tag in tags["before"]) <= 1


def test_the_pipeline_takes_on_from_it(embedded: Place) -> None:
    folder = embedded.tuned.folder / "hf"
    made = manifest.verify_contents(folder)
    assert (made.stage, made.inputs["hf"]) == ("finetune", manifest.read(embedded.base.folder / "hf").content_hash)
    download.download(embedded.tuned)
    assert manifest.verify_contents(folder).files.keys() == made.files.keys() - {"SHA256SUMS"}
    (folder / "config.json").write_text("{}")
    with pytest.raises(SourceError):
        download.download(embedded.tuned)


def test_tokenizer_and_configuration_come_along(embedded: Place) -> None:
    before, after = embedded.base.folder / "hf", embedded.tuned.folder / "hf"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        assert (after / name).read_bytes() == (before / name).read_bytes()


def test_weights_have_the_type_that_they_had(embedded: Place) -> None:
    before, after = (load_file(place.folder / "hf" / "model.safetensors") for place in (embedded.base, embedded.tuned))
    assert {name: (weight.dtype, weight.shape) for name, weight in after.items()} == {
        name: (weight.dtype, weight.shape) for name, weight in before.items()
    }
    assert not any(torch.equal(weight, before[name]) for name, weight in after.items())


def test_the_report_says_what_was_done(embedded: Place) -> None:
    report = embedded.report()
    assert (report["tuned_from"], report["settings"]["steps"], report["settings"]["learning_rate"]) == ("small", 16, 1e-3)
    assert report["made_of"]["data"] == manifest.sha256_of(embedded.root / "own.jsonl")
    assert [row["step"] for row in report["curve"]] == [0, 4, 8, 12, 16]
    assert report["tokens_per_s"] > 0
    assert report["peak_memory_bytes"] > 1e8
    assert report["own_dialogues"]["trained_on"] + report["own_dialogues"]["held_out"] == 4
    assert report["validation"]["corpus"]["dialogues"] == PLAN.validation_dialogues
    assert 0.05 <= report["validation"]["threshold"] <= 0.95
    assert all(not text.isascii() or text not in json.dumps(report) for d in OWN for text in (d.user_last_message, d.pika_response))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Place]:
    with small_models.place(tmp_path, small_models.like_phi_3) as place:
        yield place


class InterruptedRunError(Exception):
    """Stands for whatever may end a process."""


def interrupted_after_a_save(place: Place, monkeypatch: pytest.MonkeyPatch, **plan: Any) -> None:
    save = resume.save

    def once(*arguments: Any) -> None:
        save(*arguments)
        raise InterruptedRunError

    with monkeypatch.context() as patch:
        patch.setattr(resume, "save", once)
        with pytest.raises(InterruptedRunError):
            finetune(place.planned(**plan), TARGET)


def result(place: Place) -> dict[str, str]:
    """File -> hash of the weights, and the curve."""
    weights = {path.name: manifest.sha256_of(path) for path in (place.tuned.folder / "hf").glob("*.safetensors")}
    return weights | {"curve": json.dumps(place.report()["curve"])}


@pytest.mark.parametrize("lora_rank", [None, 4])
def test_an_interrupted_training_ends_as_if_nothing_had_happened(
    small: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lora_rank: int | None
) -> None:
    finetune(small.planned(lora_rank=lora_rank), TARGET)
    whole = result(small)
    (small.tuned.folder / "hf" / manifest.NAME).unlink()
    interrupted_after_a_save(small, monkeypatch, lora_rank=lora_rank)
    assert small.state.is_file()
    torch.manual_seed(99)
    capsys.readouterr()
    finetune(small.planned(lora_rank=lora_rank), TARGET)
    assert f"going on after step 3 of 6, from {small.state}" in capsys.readouterr().out
    assert result(small) == whole
    assert not small.state.exists()


def test_a_training_that_was_interrupted_while_its_result_was_written_only_writes_it(
    small: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("build.training.checkpoint.write_hashes", full)
        with pytest.raises(OSError, match="No space left"):
            finetune(small.planned(), TARGET)
    assert not (small.tuned.folder / "hf").exists()
    finetune(small.planned(), TARGET)
    assert "going on after step 6 of 6" in capsys.readouterr().out
    manifest.verify_contents(small.tuned.folder / "hf")


def test_nothing_is_there_before_the_end(small: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after_a_save(small, monkeypatch)
    assert sorted(path.name for path in small.tuned.folder.iterdir()) == [".hf.lock", "finetune.state"]


@pytest.mark.parametrize(
    ("change", "named"), [({"learning_rate": 0.5}, "learning_rate was 0.001, now it is 0.5"), ({"seed": 2}, "seed was 1")]
)
def test_a_state_of_other_settings_is_refused(small: Place, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], named: str) -> None:
    interrupted_after_a_save(small, monkeypatch)
    with pytest.raises(SettingError, match=named):
        finetune(small.planned(**change), TARGET)
    assert small.state.is_file()


def test_a_state_of_other_data_is_refused(small: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after_a_save(small, monkeypatch)
    with pytest.raises(SettingError, match="data was None, now it is "):
        finetune(small.planned(), TARGET, own_file(small.root))


def test_what_is_made_is_not_made_again_unless_something_differs(small: Place, capsys: pytest.CaptureFixture[str]) -> None:
    finetune(small.planned(), TARGET)
    first = manifest.read(small.tuned.folder / "hf")
    capsys.readouterr()
    finetune(small.planned(), TARGET)
    assert capsys.readouterr().out.endswith("delete it to make it anew, or go on with `doit model=small-tuned`\n")
    assert manifest.read(small.tuned.folder / "hf") == first
    finetune(small.planned(), TARGET, steps=2)
    assert small.report()["settings"]["steps"] == 2


def test_the_number_of_steps_can_be_given(small: Place) -> None:
    finetune(small.planned(), TARGET, steps=4)
    assert [row["step"] for row in small.report()["curve"]] == [0, 3, 4]


def test_bad_data_are_refused_before_anything_starts(small: Place) -> None:
    path = own_file(small.root, emotion="joyful")
    with pytest.raises(SourceError, match=rf"{path}:1: the emotion joyful is unknown"):
        finetune(small.planned(), TARGET, path)
    assert not small.tuned.folder.exists()


def test_a_model_that_was_not_downloaded_is_refused(small: Place) -> None:
    (small.base.folder / "hf" / manifest.NAME).unlink()
    with pytest.raises(ManifestError, match="has not finished"):
        finetune(small.planned(), TARGET)


def test_a_model_without_settings_for_it_is_refused(small: Place) -> None:
    with pytest.raises(SettingError, match="model=small-tuned cannot be finetuned"):
        finetune(small.tuned, TARGET)


def test_a_loss_that_is_no_number_ends_the_training(small: Place) -> None:
    with pytest.raises(SettingError, match="is no number: give a smaller learning_rate"):
        finetune(small.planned(learning_rate=1e30), TARGET)
    assert not (small.tuned.folder / "hf").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "error: model=nothing is not known"),
        (["pika-tiny", "--steps", "0"], "error: steps=0 is not a whole number above zero"),
        (["pika-tiny", "--data", "nowhere.jsonl"], "error: nowhere.jsonl cannot be read: No such file or directory"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line(arguments: list[str], message: str) -> None:
    line = [sys.executable, "-m", "build.training.finetune", *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
