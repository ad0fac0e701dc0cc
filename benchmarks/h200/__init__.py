"""What is measured of target vllm on a GPU; `run.sh` runs all of it. Imported from the checkout's root, as `python -m` does."""

import build  # noqa: F401  # which makes `one_pass` importable
