"""From a dialogue to a tag: one forward pass and one token if the model knows the codes, and two other ways if it does not.

The logic of tagging without any server or engine in it: which prompt is sent (`task`, `prompt`), as which ids (`text`, `spoken`), what is
asked of the engine and how its answer is read (`strategies`, each in a file of its own). The Triton model beside this package uses it to
serve; the pipeline uses it to calibrate, to train and to check a task file. It needs `tokenizers` and numpy only, and is copied into every
assembled model repository.
"""

from one_pass.answer import AnswerError, Engine, Strategy, Tag
from one_pass.codes import CodeTable
from one_pass.json_answer import InvalidJsonError
from one_pass.prompt import NO_LIMITS, InvalidDialogueError, Limits, Prompt
from one_pass.strategies import STRATEGIES, make_strategies
from one_pass.task import FLAG_WORDS, Dialogue, Task, TaskError
from one_pass.text import TextCodec

__all__ = [
    "FLAG_WORDS",
    "NO_LIMITS",
    "STRATEGIES",
    "AnswerError",
    "CodeTable",
    "Dialogue",
    "Engine",
    "InvalidDialogueError",
    "InvalidJsonError",
    "Limits",
    "Prompt",
    "Strategy",
    "Tag",
    "Task",
    "TaskError",
    "TextCodec",
    "make_strategies",
]
