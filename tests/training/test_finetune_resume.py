"""The state of an unfinished training: it comes back whole, or it is refused with what is wrong with it."""

import re
from pathlib import Path

import pytest
import torch

from build.errors import SettingError
from build.training import resume

IDENTITY = {"steps": 10, "learning_rate": 0.5, "lora_rank": None, "data": "abc"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "finetune.state"


def test_there_is_nothing_to_go_on_from_at_first(path: Path) -> None:
    assert resume.load(path, IDENTITY) is None


def test_a_state_comes_back_as_it_was(path: Path) -> None:
    state = {"done": 3, "weights": {"a": torch.arange(5.0)}, "curve": [{"loss": 0.25}], "random": torch.get_rng_state()}
    resume.save(path, IDENTITY, state)
    found = resume.load(path, IDENTITY)
    assert found is not None
    assert found.keys() == state.keys()
    assert torch.equal(found["weights"]["a"], torch.arange(5.0))
    assert torch.equal(found["random"], torch.get_rng_state())
    assert (found["done"], found["curve"]) == (3, [{"loss": 0.25}])
    assert sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        ({**IDENTITY, "learning_rate": 0.25}, "learning_rate was 0.5, now it is 0.25"),
        ({**IDENTITY, "lora_rank": 8, "steps": 5}, "steps was 10, now it is 5; lora_rank was None, now it is 8"),
        ({name: value for name, value in IDENTITY.items() if name != "data"}, "data was abc, now it is None"),
        ({**IDENTITY, "own": "def"}, "own was None, now it is def"),
    ],
)
def test_a_state_of_something_else_is_refused_with_what_differs(path: Path, now: resume.Identity, difference: str) -> None:
    resume.save(path, IDENTITY, {})
    expected = f"an unfinished training was made of other things: {difference}. Go on with those, or delete {path} to begin anew"
    with pytest.raises(SettingError, match=f"^{re.escape(expected)}$"):
        resume.load(path, now)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"not a state"])
def test_a_damaged_state_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SettingError, match=rf"cannot be read \(\w+\): restore it, or delete {re.escape(str(path))} to begin anew"):
        resume.load(path, IDENTITY)


def test_a_state_that_would_run_code_is_refused(path: Path) -> None:
    torch.save({"identity": IDENTITY, "state": {"path": Path("x")}}, path)
    with pytest.raises(SettingError, match="cannot be read"):
        resume.load(path, IDENTITY)


def test_a_failure_while_saving_leaves_the_older_state(path: Path) -> None:
    resume.save(path, IDENTITY, {"done": 1})
    with pytest.raises(AttributeError, match="local object"):
        resume.save(path, IDENTITY, {"done": 2, "bad": lambda: None})
    assert resume.load(path, IDENTITY) == {"done": 1}
