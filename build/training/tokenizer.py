"""The tokenizer of the embedded model: byte-level BPE with Phi-3's chat markers as special tokens."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from build.training.dialogues import Corpus
from one_pass import Task
from one_pass.spoken import spoken_form
from one_pass.text import DIALOGUE_FORM, SPOKEN

VOCAB_SIZE = 4096
SAMPLES, SEED = 60_000, 20261120
END_OF_TEXT, END = "<|endoftext|>", "<|end|>"
MARKERS = (END_OF_TEXT, "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", END)


def train(task: Task, corpus: Corpus) -> Tokenizer:
    """Learn merges from training dialogues and the prompt itself; the same ones for the same corpus, since a pupil reads as its teacher.

    Like Phi-3's, the markers swallow white space to their right, so a template reads the same with either tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[AddedToken(marker, special=True, rstrip=True, normalized=False) for marker in MARKERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(task, corpus), trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, max_tokens: int) -> None:
    """Write `tokenizer.json` and the two small files that transformers expects beside it, one of which asks for the spoken form."""
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT}
    config = {
        **special,
        "clean_up_tokenization_spaces": False,
        DIALOGUE_FORM: SPOKEN,
        "model_max_length": max_tokens,
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def _texts(task: Task, corpus: Corpus) -> Iterator[str]:
    rng = random.Random(SEED)
    template = task.template
    for _ in range(SAMPLES):
        dialogue = corpus.sample(rng, "train").dialogue
        for name, text in vars(dialogue).items():
            if text is not None:
                yield getattr(template, name).replace("{text}", spoken_form(text))
    for _ in range(200):  # often enough that the prompt's own words become tokens
        yield task.instructions
        yield "\n".join(f"{label.code} = {label.name}: {label.meaning}" for label in task.labels)
        for label in task.labels:
            yield f'{{"emotion_name": "{label.name}", "{task.flag_name}": "yes"}}'
