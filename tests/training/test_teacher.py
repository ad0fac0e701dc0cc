"""What a pupil is taught besides the labels: what plain forwards of its teachers say of both twins, and no other tokenizer's."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from build.training import losses, network
from build.training.batches import Batch, Batches
from build.training.dialogues import Corpus
from build.training.teacher import Teacher
from one_pass import NO_LIMITS, CodeTable, Prompt
from tests.support import tokenizers_for_tests

pytestmark = pytest.mark.usefixtures("one_thread")

TASK = tokenizers_for_tests.pika_mood()
CODEC = tokenizers_for_tests.codec("byte_level")
PROMPT = Prompt(TASK, CODEC, 64, NO_LIMITS)
FIELDS = network.config_fields(CODEC.vocab_size, end_of_text_id=0, bos_id=1)
SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "initializer_range": 0.2}


def made(folder: Path, seed: int) -> Path:
    """A small checkpoint of random weights."""
    torch.manual_seed(seed)
    folder.mkdir()
    tokenizers_for_tests.write(folder, "byte_level")
    network.save(network.build(FIELDS | SMALL, 0.0).state_dict(), FIELDS | SMALL, [0], folder)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [made(tmp_path / str(seed), seed) for seed in (1, 2)]


@pytest.fixture
def teacher(folders: list[Path]) -> Teacher:
    return Teacher(folders, PROMPT.prefix_ids, folders[0] / "tokenizer.json", "cpu")


@pytest.fixture
def batch() -> Batch:
    """Two dialogues answered with codes and one in JSON, each twice, disturbed differently."""
    batches = Batches(Corpus(TASK.label_names), PROMPT, CodeTable(TASK, CODEC), CODEC.vocab_size, batch_size=6)
    return next(batch for batch in batches.stream(0) if (batch.code_positions < 0).sum() == 2)


def plainly(teacher: Teacher, batch: Batch) -> torch.Tensor:
    """What the teachers say, from a forward over prefix and turn for each dialogue and teacher."""
    rows = [row for row, position in enumerate(batch.code_positions.tolist()) if position >= 0]
    said = []
    for row in rows:
        whole = torch.tensor([PROMPT.prefix_ids + batch.ids[row, : batch.turn_lengths[row]].tolist()])
        with torch.no_grad():
            each = [torch.softmax(model(whole, use_cache=False).logits[0, -1], dim=-1) for model in teacher.networks]
        said.append(torch.stack(each).mean(dim=0))
    half = len(rows) // 2
    return torch.stack([(said[i % half] + said[i % half + half]) / 2 for i in range(len(rows))])


def test_the_answers_are_the_mean_over_teachers_and_twins(teacher: Teacher, batch: Batch) -> None:
    answers = teacher.answers(batch)
    assert answers.shape == (4, CODEC.vocab_size)
    torch.testing.assert_close(answers, plainly(teacher, batch), atol=1e-6, rtol=1e-4)
    assert (answers[0] - answers[1]).abs().max() > 1e-3


def test_a_pupil_is_taught_labels_and_answers(teacher: Teacher, batch: Batch, folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "PUPIL_WORD_DROPOUT", -1.0)
    pupil = network.load(folders[1], "cpu")
    rows = (batch.code_positions >= 0).nonzero()[:, 0]
    wanted = (1 - losses.TEACHER_SHARE) * batch.code_targets[rows] + losses.TEACHER_SHARE * plainly(teacher, batch)
    logits = [pupil(torch.tensor([PROMPT.prefix_ids + batch.ids[row, : batch.turn_lengths[row]].tolist()])).logits[0, -1] for row in rows]
    found = losses.losses(pupil, torch.tensor([PROMPT.prefix_ids]), batch, "cpu", teacher)["code"]
    assert found.item() == pytest.approx(cross_entropy(torch.stack(logits), wanted).item(), rel=1e-4)


def test_a_pupils_words_are_blanked_less_often(teacher: Teacher, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "WORD_DROPOUT", 1.0)
    monkeypatch.setattr(losses, "PUPIL_WORD_DROPOUT", -1.0)
    prefix = torch.tensor([PROMPT.prefix_ids])
    blanked, whole = (losses.losses(teacher.networks[0], prefix, batch, "cpu", each)["dialogue"].item() for each in (None, teacher))
    assert abs(blanked - whole) > 1e-3


def test_a_teacher_that_reads_otherwise_is_refused(folders: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "tokenizer.json"
    other.write_text((folders[0] / "tokenizer.json").read_text() + " ")
    with pytest.raises(ValueError, match="was trained on another corpus"):
        Teacher(folders, PROMPT.prefix_ids, other, "cpu")
