"""The weights that an AutoAWQ checkpoint means, in float32, one tensor at a time: what an engine is judged by.

AutoAWQ's own unpacking code is run here and nothing of `build.awq`, which the converter is made of: an error there must not be in the
reference too. Needs torch and AutoAWQ, but neither a GPU nor memory for more than one tensor.
"""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from safetensors import safe_open

from build.awq import AwqCheckpoint
from build.awq_config import GROUP_SIZE
from build.errors import PipelineError

_BITS = 4


@cache
def awq_packing() -> ModuleType:
    """AutoAWQ's awq/utils/packing_utils.py, loaded alone: the package around it takes seconds to import and needs names that are gone.

    Raises:
        PipelineError: AutoAWQ is not installed.
    """
    package = importlib.util.find_spec("awq")
    if package is None or package.origin is None:
        raise PipelineError("AutoAWQ is not installed, whose code unpacks the weights: run `make install`")
    path = Path(package.origin).parent / "utils" / "packing_utils.py"
    spec = importlib.util.spec_from_file_location("awq_packing_utils", path)
    if spec is None or spec.loader is None:
        raise PipelineError(f"{path} cannot be loaded: run `make install`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class AwqWeights:
    """An AutoAWQ GEMM checkpoint, read as if it had never been quantized.

    Raises:
        CheckpointError: when made, as `build.awq.AwqCheckpoint`.
    """

    def __init__(self, folder: Path) -> None:
        self._home: dict[str, Path] = {}
        for path in AwqCheckpoint(folder).files:
            with safe_open(path, framework="pt") as source:
                self._home |= dict.fromkeys(source.keys(), path)

    @property
    def modules(self) -> list[str]:
        """Names of everything that has a weight, such as model.layers.0.mlp.down_proj."""
        return sorted({name.rpartition(".")[0] for name in self._home})

    def __getitem__(self, module: str) -> torch.Tensor:
        """The weight of a module, as HF stores it before quantization: of a linear layer [out_features, in_features]."""
        if f"{module}.qweight" not in self._home:
            return self._read(f"{module}.weight").float()
        packed = [self._read(f"{module}.{part}") for part in ("qweight", "qzeros", "scales")]
        weight: torch.Tensor = awq_packing().dequantize_gemm(packed[0], packed[1], packed[2].float(), _BITS, GROUP_SIZE)
        return weight.T.contiguous()

    def _read(self, name: str) -> torch.Tensor:
        with safe_open(self._home[name], framework="pt") as source:
            tensor: torch.Tensor = source.get_tensor(name)
        return tensor
