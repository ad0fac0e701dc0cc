"""The pipeline: one stage, one module.

`dodo.py` says in which order the stages run and what each depends on; the modules here do the work and know nothing of doit.
`one_pass` and `cpu_engine`, the code that the Triton models carry beside themselves, are made importable here, so that calibration,
training, measuring and assembly use the very code that serves.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

for _home in ("tagger/1", "tensorrt_llm/python/1", "tensorrt_llm/cpu/1"):
    if (_path := str(ROOT / "model_repository" / _home)) not in sys.path:
        sys.path.append(_path)
