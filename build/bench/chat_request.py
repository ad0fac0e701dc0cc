"""The request that systems without a tagger send: chat completions, with a system prompt that asks for the answer as JSON.

The words come from the task file, so that both sides are told the same: what stands before {legend} in its instructions, the labels with
their meanings, and the examples as earlier turns. What the file says about letters is left out; that the answer is to be JSON is said here.
"""

import json
from typing import Any

from one_pass import FLAG_WORDS, Task
from one_pass import Dialogue as Said
from one_pass.task import EMOTION_FIELD
from pika_tagger._labelled import Row

MAX_TOKENS = 50


def body(task: Task, model: str, system: str | None, row: Row) -> dict[str, Any]:
    """Return the body of POST /chat/completions for one dialogue.

    Args:
        task: what is asked.
        model: as the server calls it.
        system: a system prompt to send in the place of ours and of the examples; None for ours.
        row: the dialogue.
    """
    before = [{"role": "system", "content": system}] if system is not None else _instructions(task)
    return {
        "model": model,
        "messages": [*before, {"role": "user", "content": _turn(task, Said(**row.texts))}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "response_format": {"type": "json_object"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _instructions(task: Task) -> list[dict[str, str]]:
    names = {answer: (label, flag) for flag in (False, True) for label in task.label_names for answer in [task.answer_for(label, flag)]}
    example = _answer(task, task.label_names[0], False)
    system = "\n".join(
        [
            task.instructions.split("{legend}")[0].strip(),
            *(f"{label.name}: {label.meaning}" for label in task.labels),
            f"Answer with JSON and nothing else, in this form: {example}. {EMOTION_FIELD} is one of the names above; "
            f'{task.flag_name} is "{FLAG_WORDS[True]}" or "{FLAG_WORDS[False]}".',
        ]
    )
    messages = [{"role": "system", "content": system}]
    for each in task.examples:
        messages.append({"role": "user", "content": _turn(task, each.dialogue)})
        messages.append({"role": "assistant", "content": _answer(task, *names[each.answer])})
    return messages


def _turn(task: Task, said: Said) -> str:
    fields = ((getattr(task.template, name), text) for name, text in vars(said).items() if text is not None)
    return "".join(template.replace("{text}", f" {text}") for template, text in fields).strip()


def _answer(task: Task, label: str, flag: bool) -> str:
    return json.dumps({EMOTION_FIELD: label, task.flag_name: FLAG_WORDS[flag]}, ensure_ascii=False)
