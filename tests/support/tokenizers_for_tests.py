"""Two small tokenizers, trained in a moment: byte-level BPE like the embedded model's, and SentencePiece-like BPE like Phi-3's.

Both have Phi-3's chat markers, which swallow white space to their right. They differ in everything else that matters to prompts: how the
start of a word is marked, what happens to characters outside the vocabulary, and whether a letter has one spelling or two.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from build import settings
from one_pass import Task, TextCodec

MARKERS = ("<|endoftext|>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
WORD_START = "\u2581"
KINDS = ("byte_level", "sentence_piece")

_DIALOGUE = (
    "Before:Ba cộng bốn bằng mấy nhỉ?\nChild:Dạ bằng 7 ạ\nPika:Chính xác! Con tính nhanh quá!",
    "Child:I like dinosaurs best\nPika:Exactly, dinosaurs are the coolest!",
    "Child:My fish died yesterday\nPika:Oh no, I am so sorry. Con mèo có sáu chân, gần đúng rồi.",
)


@cache
def pika_mood() -> Task:
    """The real task."""
    return Task.load(settings.TASKS / "pika_mood.toml")


@cache
def tokenizer_json(kind: str) -> str:
    """Content of `tokenizer.json` for one of KINDS."""
    return {"byte_level": _byte_level, "sentence_piece": _sentence_piece}[kind]()


@cache
def codec(kind: str) -> TextCodec:
    """The tokenizer of that kind as the prompt uses it."""
    return TextCodec(tokenizer_json(kind))


def write(folder: Path, kind: str) -> int:
    """Write `tokenizer.json` into the folder of a checkpoint.

    Returns:
        how many rows the checkpoint's embedding has to have: more than there are tokens, as in Phi-3.
    """
    (folder / "tokenizer.json").write_text(tokenizer_json(kind), encoding="utf-8")
    return codec(kind).vocab_size + 11


def _byte_level() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[_marker(name) for name in MARKERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    text: str = tokenizer.to_str()
    return text


def _sentence_piece() -> str:
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    learner.train_from_iterator(_texts(), trainers.BpeTrainer(vocab_size=500, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(WORD_START), normalizers.Replace(" ", WORD_START)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("<unk>", special=True, normalized=False), *(_marker(name) for name in MARKERS)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    text: str = tokenizer.to_str()
    return text


def _marker(name: str) -> AddedToken:
    return AddedToken(name, special=True, rstrip=True, normalized=False)


def _texts() -> Iterator[str]:
    task = pika_mood()
    letters = " ".join(task.answers)
    for _ in range(50):
        yield letters  # so often that each letter becomes a token of its own, at the start of a word too
        yield task.instructions
        yield from (f"{label.code} = {label.name}: {label.meaning}" for label in task.labels)
        yield from _DIALOGUE
