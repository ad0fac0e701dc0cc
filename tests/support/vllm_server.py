"""Serve a repository until the standard input is closed: `PYTHON -m tests.support.vllm_server REPOSITORY LOG`, with a Python that has vLLM.

Tests run in the pipeline's environment, which cannot hold vLLM; this is the process between them. It prints the server's address.
"""

import sys
from pathlib import Path

from build.interrupts import interruptible
from build.ports import free_ports
from build.serve import VLLM_START_TIMEOUT_S, running


def main() -> None:
    """Serve, print, wait."""
    repository, log = map(Path, sys.argv[1:])
    with interruptible(), running(repository, free_ports(), log) as server:
        server.wait_until_ready(VLLM_START_TIMEOUT_S)
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
