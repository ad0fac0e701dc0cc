"""The task file: labels, codes, flag, instructions, examples and template, read once and checked for sense.

Whether the codes are single tokens is the tokenizer's business and is checked in `codes`. New fields of a task file are added here.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

MAX_LABELS = 26
"""One letter each, in two cases."""
EMOTION_FIELD = "emotion_name"
"""Name of the emotion in a JSON answer; the flag has its own name there, `Task.flag_name`."""
FLAG_WORDS = ("no", "yes")
"""How the flag is said, by its value."""


class TaskError(ValueError):
    """A task file is wrong in itself, or does not fit a tokenizer; the message names the entry and the fix."""


@dataclass(frozen=True)
class Dialogue:
    """What the tagger is asked about. Texts are plain: nothing in them is ever read as a marker."""

    user_last_message: str
    pika_response: str
    pika_last_message: str | None = None


@dataclass(frozen=True)
class Label:
    """One emotion: its public name, its letter (lower case), and its line in the legend."""

    name: str
    code: str
    meaning: str


@dataclass(frozen=True)
class Example:
    """A worked example in the prefix: a dialogue and the code that answers it."""

    dialogue: Dialogue
    answer: str


@dataclass(frozen=True)
class Template:
    """The literal text around the fields; special tokens are allowed here."""

    prefix: str
    padding: str
    example_end: str
    user: str
    pika_last_message: str
    user_last_message: str
    pika_response: str
    assistant: str


@dataclass(frozen=True)
class Task:
    """A task file, checked."""

    name: str
    version: int
    flag_name: str
    flag_threshold: float
    labels: tuple[Label, ...]
    instructions: str
    examples: tuple[Example, ...]
    template: Template

    @property
    def label_names(self) -> tuple[str, ...]:
        """The emotions in the order of `emotion_scores`."""
        return tuple(label.name for label in self.labels)

    @property
    def answers(self) -> tuple[str, ...]:
        """All answer letters: the codes for "no" in label order, then those for "yes"."""
        return tuple(label.code for label in self.labels) + tuple(label.code.upper() for label in self.labels)

    def answer_for(self, label_name: str, flag: bool) -> str:
        """The letter that says both.

        Raises:
            TaskError: no label has that name.
        """
        for label in self.labels:
            if label.name == label_name:
                return label.code.upper() if flag else label.code
        raise TaskError(f"{label_name!r} is not a label of task {self.name}; its labels are {', '.join(self.label_names)}")

    @classmethod
    def load(cls, path: Path) -> "Task":
        """Read a task file.

        Raises:
            TaskError: it is missing, not TOML, lacks a field, or contradicts itself.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls._from_toml(raw)
        except FileNotFoundError:
            raise TaskError(f"there is no task file {path}") from None
        except tomllib.TOMLDecodeError as error:
            raise TaskError(f"{path} is not valid TOML: {error}") from error
        except KeyError as error:
            raise TaskError(f"{path} lacks the field {error}") from error
        except (TypeError, AttributeError) as error:
            raise TaskError(f"{path} has a field of the wrong form: {error}") from error
        except ValueError as error:
            raise TaskError(f"{path}: {error}") from None

    @classmethod
    def _from_toml(cls, raw: dict[str, Any]) -> "Task":
        labels = tuple(Label(**label) for label in raw["labels"])
        examples = tuple(
            Example(Dialogue(e["user_last_message"], e["pika_response"], e.get("pika_last_message")), e["answer"])
            for e in raw["prompt"].get("examples", [])
        )
        task = cls(
            name=raw["name"],
            version=raw["version"],
            flag_name=raw["flag"]["name"],
            flag_threshold=float(raw["flag"]["threshold"]),
            labels=labels,
            instructions=raw["prompt"]["instructions"].strip("\n"),
            examples=examples,
            template=Template(**raw["template"]),
        )
        _check(task)
        return task


def _check(task: Task) -> None:
    if not 2 <= len(task.labels) <= MAX_LABELS:
        raise TaskError(f"{len(task.labels)} labels: one letter each allows 2 to {MAX_LABELS}")
    for label in task.labels:
        if len(label.code) != 1 or not ("a" <= label.code <= "z"):
            raise TaskError(f"label {label.name!r} has the code {label.code!r}; a code is one letter from a to z")
    for what, values in (("name", task.label_names), ("code", tuple(label.code for label in task.labels))):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise TaskError(f"two labels share the {what} {twice[0]!r}: give one of them another")
    if not task.flag_name.strip() or task.flag_name == EMOTION_FIELD:
        raise TaskError(f"flag.name is {task.flag_name!r}; it is a name of its own in a JSON answer beside {EMOTION_FIELD!r}")
    if not 0.0 < task.flag_threshold < 1.0:
        raise TaskError(f"flag.threshold is {task.flag_threshold}; it is a probability between 0 and 1")
    for example in task.examples:
        if example.answer not in task.answers:
            raise TaskError(f"an example has the answer {example.answer!r}, which is not a code of any label")
    for where, text, expected in (
        ("prompt.instructions", task.instructions, ["legend"]),
        ("template.prefix", task.template.prefix, ["examples", "instructions", "padding"]),
        ("template.pika_last_message", task.template.pika_last_message, ["text"]),
        ("template.user_last_message", task.template.user_last_message, ["text"]),
        ("template.pika_response", task.template.pika_response, ["text"]),
    ):
        found = sorted(name for _, name, _, _ in Formatter().parse(text) if name is not None)
        if found != expected:
            raise TaskError(f"{where} has the placeholders {found}; it needs exactly {expected}")
