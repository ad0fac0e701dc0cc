import pytest

from one_pass import Prompt, Task, TextCodec
from tests.support import another_task, tokenizers_for_tests


@pytest.fixture(scope="session", params=tokenizers_for_tests.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two tokenizers."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def codec(kind: str) -> TextCodec:
    return tokenizers_for_tests.codec(kind)


@pytest.fixture(scope="session")
def task() -> Task:
    return tokenizers_for_tests.pika_mood()


@pytest.fixture(scope="session")
def prompt(task: Task, codec: TextCodec) -> Prompt:
    return Prompt(task, codec, tokens_per_block=32)


@pytest.fixture(scope="session")
def other_prompt(codec: TextCodec, tmp_path_factory: pytest.TempPathFactory) -> Prompt:
    """A prompt of another task altogether."""
    return Prompt(another_task.weather(tmp_path_factory.mktemp("task")), codec, tokens_per_block=32)
