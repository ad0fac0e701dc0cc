"""The strategies by name. A new one is added here, and in docs/tagger.md."""

from one_pass.answer import Strategy
from one_pass.codes import CodeTable
from one_pass.json_answer import JsonAnswer
from one_pass.prompt import Prompt
from one_pass.words import Words

STRATEGIES = ("codes", "words", "json")


def make_strategies(prompt: Prompt) -> dict[str, Strategy]:
    """All of STRATEGIES for one task and one tokenizer.

    Raises:
        TaskError: one of them cannot work with this tokenizer; the message names what to change.
    """
    made: tuple[Strategy, ...] = (CodeTable(prompt.task, prompt.codec), Words(prompt), JsonAnswer(prompt))
    return dict(zip(STRATEGIES, made, strict=True))
