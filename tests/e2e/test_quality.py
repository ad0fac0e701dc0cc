"""How good the embedded model is, through the real server: on held-out frames, and on dialogues that no frame has made."""

import json
import random
from pathlib import Path

import pytest

from build import settings
from build.comparison import AWQ, UNQUANTIZED, Run, differences, lost_too_much
from build.serve import Server
from build.training.dialogues import Corpus
from build.unquantized import Unquantized
from one_pass import Prompt
from pika_tagger import TaggerClient
from pika_tagger._labelled import load
from pika_tagger._outcomes import run
from pika_tagger.cli import main as pika_tag
from tests.e2e.conftest import EVALUATION, MODEL

pytestmark = pytest.mark.e2e

N_DIALOGUES = 1500


def test_held_out_frames(client: TaggerClient, prompt: Prompt) -> None:
    rng = random.Random(20)
    corpus = Corpus(prompt.task.label_names)
    examples = [corpus.sample(rng, "test", noisy=False) for _ in range(N_DIALOGUES)]
    tags = [client.tag(**vars(example.dialogue)) for example in examples]
    pairs = list(zip(examples, tags, strict=True))
    assert sum(tag.emotion_name in example.emotions for example, tag in pairs) / N_DIALOGUES >= 0.82
    assert sum(tag.celebrate == example.celebrate for example, tag in pairs) / N_DIALOGUES >= 0.90


def test_hand_written_dialogues(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    wanted = ["--min-emotion", "0.92", "--min-celebrate", "0.97", "--max-ece", "0.08"]
    assert pika_tag(["eval", str(EVALUATION), "--url", server.url, "--json", str(out), "--strategy", "codes", *wanted]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures["emotion"]["total"] >= 300
    assert figures["failed"] == 0


def test_quantization_costs_at_most_one_point(client: TaggerClient, prompt: Prompt) -> None:
    rows = load(EVALUATION).rows
    network = Unquantized(MODEL.folder / "hf", prompt.task, settings.target("cpu").tokens_per_block)
    awq = Run("codes", AWQ, tuple(run(client, rows, gap_ms=0.0, strategy="codes")))
    unquantized = Run("codes", UNQUANTIZED, tuple(network.outcomes(rows)))
    assert list(lost_too_much(differences(awq, unquantized), 0.01)) == []


def test_a_missed_limit_is_an_exit_status(server: Server, tmp_path: Path) -> None:
    command = ["eval", str(EVALUATION), "--url", server.url, "--json", str(tmp_path / "out"), "--min-emotion", "1.0"]
    assert pika_tag(command) == 1
