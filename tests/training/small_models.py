"""Checkpoints small enough to be trained in a test, and presets that say how."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from build import ROOT, download, manifest, settings
from build.settings import Finetuning, Model
from build.training import network
from one_pass import NO_LIMITS, CodeTable, Prompt, TextCodec
from one_pass.text import DIALOGUE_FORM, SPOKEN
from tests.support import tokenizers_for_tests

TARGET = settings.target("cpu")
PLAN = Finetuning(
    steps=6,
    learning_rate=1e-3,
    batch_size=2,
    passes_per_step=2,
    dropout=0.1,
    own_share=0.5,
    validate_every_steps=3,
    validation_dialogues=4,
    seed=1,
)
EMBEDDED = ROOT / "checkpoints" / "pika-tiny" / "hf"
LIKE_PHI_3 = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}


@dataclass(frozen=True)
class Place:
    """A folder in place of the checkout: a model that has a checkpoint, and the one that finetuning makes of it."""

    root: Path
    base: Model
    tuned: Model

    @property
    def state(self) -> Path:
        """Where an unfinished training is kept."""
        return self.tuned.folder / "finetune.state"

    def planned(self, **changes: Any) -> Model:
        """The model with other settings for its finetuning."""
        return replace(self.base, finetune=replace(PLAN, **changes))

    def report(self) -> dict[str, Any]:
        """training.json of the result."""
        return dict(json.loads((self.tuned.folder / "hf" / "training.json").read_text()))


Maker = Callable[[Path], None]


def copy_of_the_embedded(folder: Path) -> None:
    """The embedded model, marked as one that reads the spoken form."""
    for path in EMBEDDED.iterdir():
        if path.name != manifest.NAME:
            shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {DIALOGUE_FORM: SPOKEN}))


def like_phi_3(folder: Path) -> None:
    """Random bfloat16 weights in several files, a SentencePiece-like tokenizer, an embedding with rows to spare."""
    (folder / "tokenizer_config.json").write_text("{}")
    fields = network.config_fields(tokenizers_for_tests.write(folder, "sentence_piece"), end_of_text_id=2, bos_id=1) | LIKE_PHI_3
    torch.manual_seed(5)
    model = network.build(fields, dropout=0.0).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="600KB")
    (folder / "config.json").write_text(json.dumps(fields))


@contextmanager
def place(root: Path, make: Maker) -> Iterator[Place]:
    """Presets and checkpoints in a folder, used by all stages until the end."""
    presets = root / "presets.toml"
    presets.write_text(
        '[models.small]\nabout = "x"\ntask = "pika_mood"\nsource = "checkpoints/small/hf"\n'
        "[models.small.quantize]\ncalibration_samples = 1\nseed = 1\nsearch_clipping = false\nduo_scaling = true\n"
        '[models.small-tuned]\nabout = "y"\ntuned_from = "small"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "PRESETS", presets)
        patch.setattr(settings, "CHECKPOINTS", root / "checkpoints")
        patch.setattr(download, "ROOT", root)
        base = settings.model("small")
        checkpoint = base.folder / "hf"
        checkpoint.mkdir(parents=True)
        make(checkpoint)
        manifest.seal(checkpoint, "download", {}, {}, sorted(path.name for path in checkpoint.iterdir()))
        yield Place(root, base, settings.model("small-tuned"))


def prompt_of(folder: Path) -> tuple[Prompt, CodeTable]:
    """The prompt and the codes for the tokenizer of a checkpoint."""
    task, codec = tokenizers_for_tests.pika_mood(), TextCodec.load(folder / "tokenizer.json")
    return Prompt(task, codec, TARGET.tokens_per_block, NO_LIMITS), CodeTable(task, codec)
