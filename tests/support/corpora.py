"""Small corpora in the format of build/training/corpus, for two emotions."""

import json
from collections.abc import Mapping
from pathlib import Path

from build.training import frames

EMOTIONS = ("happy", "sad")
FACT_ID = "sky-001"
"""A fact of the training split."""
FACT = {
    "id": FACT_ID,
    "topic": "sky",
    "vi": {"q": "Trời màu gì", "a": "xanh", "fact": "trời màu xanh", "wrong": ["đỏ", "tím"]},
    "en": {"q": "What color is the sky", "a": "blue", "fact": "the sky is blue", "wrong": ["red"]},
}


def files(**changes: str) -> dict[str, str]:
    """Names and contents of a corpus; `changes` are named like `pika_happy_vi` or `child_en`."""
    made: dict[str, str] = {}
    for lang in frames.LANGUAGES:
        made |= {f"pika/{emotion}.{lang}.txt": f"tells |  | {emotion} {lang}\n" for emotion in EMOTIONS}
        made |= {f"child.{lang}.txt": f"tells | child {lang}\n", f"before.{lang}.txt": ""}
        made[f"slots.{lang}.txt"] = "".join(f"{slot} | {slot} one; {slot} two\n" for slot in sorted(frames.WORD_SLOTS))
    made["facts.jsonl"] = json.dumps(FACT, ensure_ascii=False) + "\n"
    for name, text in changes.items():
        file = {"facts": "facts.jsonl"}.get(name) or f"{'/'.join(name.rsplit('_', 1)[0].split('_', 1))}.{name.rsplit('_', 1)[1]}.txt"
        assert file in made, file
        made[file] = text
    return made


def write(folder: Path, contents: Mapping[str, str]) -> Path:
    """Put the files into a folder."""
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
