"""What tests of training share. Torch is imported inside the fixtures, because some of the tests beside this file need none."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums as small as these take longer on two threads, several times as long where others compute too."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def phi_3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of random weights that looks like Phi-3's."""
    from tests.training import small_models

    folder = tmp_path_factory.mktemp("small")
    small_models.like_phi_3(folder)
    return folder
