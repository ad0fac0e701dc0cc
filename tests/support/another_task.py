"""A task that has nothing in common with pika_mood but the form: other labels, another flag, other examples, not in ASCII.

One label is the beginning of another, and two share their first token in any tokenizer.
"""

from pathlib import Path

from one_pass import Task

TEXT = """
name = "weather"
version = 7

[flag]
name = "mang \\"ô\\""
threshold = 0.25

[[labels]]
name = "mưa"
code = "h"
meaning = "it rains"

[[labels]]
name = "mưa rào"
code = "c"
meaning = "it rains for a moment"

[[labels]]
name = "gió"
code = "e"
meaning = "it blows"

[prompt]
instructions = "What is the weather like? {legend}"

[[prompt.examples]]
user_last_message = "My hat!"
pika_response = "Hold it tight!"
answer = "e"

[template]
prefix = "<|system|>{instructions}{padding}<|end|>{examples}"
padding = "\\n"
example_end = "<|end|>"
user = "<|user|>"
pika_last_message = "Before:{text}\\n"
user_last_message = "Child:{text}\\n"
pika_response = "Pika:{text}"
assistant = "<|end|><|assistant|>"
"""


def weather(folder: Path) -> Task:
    """The task, read from a file in `folder`."""
    path = folder / "weather.toml"
    path.write_text(TEXT, encoding="utf-8")
    return Task.load(path)
