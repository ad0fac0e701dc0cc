"""Whether client, server and prompt speak the same form: the tensors that this client knows, against those that the model declares.

Change `_SENT`, `_OPTIONAL` and `_READ` together with the requests and answers in `_codec`.
"""

from collections.abc import Iterator
from typing import Any

from pika_tagger import _version
from pika_tagger._types import ServerInfo

_SENT = ("user_last_message", "pika_response")
_OPTIONAL = ("pika_last_message", "strategy")
_READ = ("emotion_name", "celebrate", "emotion_scores", "celebrate_score")


def disagreement(config: Any, info: ServerInfo, url: str) -> str | None:
    """Return one sentence about what the sides do not share, naming client, server and prompt, or None if there is nothing.

    Args:
        config: The `ModelConfig` of the model.
        info: Who answers.
        url: Where.
    """
    found = list(_differences(config))
    if not found or not (config.input or config.output):  # who declares nothing cannot be compared
        return None
    return (
        f"pika_tagger {_version.__version__}, Triton {info.triton_version or 'of unknown version'} at {url} and prompt "
        f"{info.prompt_schema or 'without a version'} of model {info.model_name!r} do not fit together: {'; '.join(found)}. "
        "Update the older side: pip install --upgrade the client, or assemble the model repository anew"
    )


def _differences(config: Any) -> Iterator[str]:
    inputs, outputs = {each.name: each.optional for each in config.input}, {each.name for each in config.output}
    yield from (f"the model has no input {name}" for name in (*_SENT, *_OPTIONAL) if name not in inputs)
    yield from (
        f"it wants {name}, which this client does not send" for name, optional in inputs.items() if not optional and name not in _SENT
    )
    yield from (f"it has no output {name}" for name in _READ if name not in outputs)
