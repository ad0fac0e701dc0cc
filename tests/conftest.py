"""For all tests: which of them must run in one process, where several share the work (`pytest -n 2 --dist loadgroup`)."""

import pytest


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The end-to-end tests share the built checkpoints and a server; others share what their file sets up."""
    for item in items:
        is_e2e = item.get_closest_marker("e2e") is not None
        item.add_marker(pytest.mark.xdist_group("e2e" if is_e2e else item.path.name))
