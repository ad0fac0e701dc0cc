"""Own labelled dialogues: a file of JSON lines, checked as a whole before any of it is used.

The form is that of tests/data/eval_dialogues.jsonl; what the labels mean is in docs/labelling.md. Messages name file, line and field, never
what was said.
"""

import re
from pathlib import Path
from typing import Any

from build.errors import SourceError
from build.training.dialogues import Labelled
from one_pass import Dialogue, InvalidDialogueError, Prompt
from pika_tagger._labelled import TEXT_FIELDS, parse_object, shortened, yes_or_no

LABEL_LIKE = re.compile(r"[A-Za-z_]{1,30}")


def read(path: Path, prompt: Prompt) -> list[Labelled]:
    """The dialogues of a file, in order.

    Args:
        path: the file.
        prompt: as it is served: a dialogue that the tagger would refuse cannot be taught either.

    Raises:
        SourceError: it cannot be read, is empty, or has lines that are not labelled dialogues; the message names each of them.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    examples, problems = [], []
    for number, line in enumerate(lines, 1):
        try:
            examples.append(_example(line, prompt))
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise SourceError("\n".join(["these lines are not labelled dialogues:", *shortened(problems)]))
    if not examples:
        raise SourceError(f"{path} is empty: give one labelled dialogue a line, as docs/finetune.md shows")
    return examples


def _example(line: bytes, prompt: Prompt) -> Labelled:
    _require(line.strip() != b"", "the line is blank")
    row = parse_object(line)
    known = prompt.task.label_names
    emotions = row.get("emotion")
    listed: list[Any] = [emotions] if isinstance(emotions, str) else emotions if isinstance(emotions, list) else []
    _require(listed != [], "emotion is neither a label nor a list of labels")
    for emotion in listed:
        # What is in the wrong field may be dialogue: only what looks like a label is repeated.
        shown = f" {emotion}" if isinstance(emotion, str) and LABEL_LIKE.fullmatch(emotion) else ""
        _require(emotion in known, f"the emotion{shown} is unknown; there are {', '.join(known)}")
    _require(len(set(listed)) == len(listed), "emotion names a label twice")
    flag_name = prompt.task.flag_name
    flag = yes_or_no(row.get(flag_name), flag_name)
    lang = row.get("lang", "")
    _require(isinstance(lang, str), "lang is not a text")
    dialogue = _dialogue(row)
    try:
        prompt.encode_turn(dialogue)
    except InvalidDialogueError as error:
        raise ValueError(f"the tagger would refuse it: {error}") from None
    return Labelled(dialogue, tuple(listed), flag, lang, "own")


def _dialogue(row: dict[str, Any]) -> Dialogue:
    for name in TEXT_FIELDS[:2]:
        _require(name in row, f"{name} is missing")
    for name in TEXT_FIELDS:
        _require(isinstance(row.get(name, ""), str) or (name == TEXT_FIELDS[2] and row[name] is None), f"{name} is not a text")
    return Dialogue(row["user_last_message"], row["pika_response"], row.get("pika_last_message"))


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)
