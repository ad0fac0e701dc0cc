"""One forward pass, one token, two answers.

The logic of tagging without any server or engine in it: which prompt is sent (`task`, `prompt`), as which ids (`text`), and how the logits
of the one answer token are read (`codes`). The Triton model beside this package uses it to serve; the pipeline uses it to calibrate, to
train and to check a task file. It needs `tokenizers` and numpy only, and is copied into every assembled model repository.
"""

from one_pass.codes import CodeTable, Tag
from one_pass.prompt import NO_LIMITS, InvalidDialogueError, Limits, Prompt
from one_pass.task import Dialogue, Task, TaskError
from one_pass.text import TextCodec

__all__ = ["NO_LIMITS", "CodeTable", "Dialogue", "InvalidDialogueError", "Limits", "Prompt", "Tag", "Task", "TaskError", "TextCodec"]
