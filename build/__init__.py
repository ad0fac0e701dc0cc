"""The pipeline: one stage, one module.

`dodo.py` says in which order the stages run and what each depends on; the modules here do the work and know nothing of doit.
`one_pass`, the tagging logic that the Triton model carries beside itself, is made importable here, so that calibration, training and
assembly use the very code that serves.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_ONE_PASS_HOME = str(ROOT / "model_repository" / "tagger" / "1")
if _ONE_PASS_HOME not in sys.path:
    sys.path.append(_ONE_PASS_HOME)
