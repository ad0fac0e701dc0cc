"""A checkout with nothing made yet, and small stand-ins for what the stages make."""

import json
from dataclasses import dataclass
from pathlib import Path

from build import manifest
from build.settings import Model, Target

CONFIG = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}


@dataclass(frozen=True)
class Checkout:
    """A folder in place of the checkout, a model whose files are in it, and a target."""

    root: Path
    model: Model
    target: Target

    def finished(self, name: str, files: dict[str, str]) -> Path:
        """The folder of a stage that is done."""
        folder = self.model.folder / name
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(content, encoding="utf-8")
        manifest.seal(folder, name, {}, {}, list(files))
        return folder

    def left(self) -> list[str]:
        """What there is in the model's folder, locks aside."""
        return sorted(path.name for path in self.model.folder.iterdir() if not path.name.endswith(".lock"))


def checkpoint(folder: Path, shards: int = 1, config: dict[str, object] | None = None) -> Path:
    """A folder that looks like a downloaded model; its weights are not worth loading."""
    folder.mkdir(parents=True)
    names = ["model.safetensors"] if shards == 1 else [f"model-{i:05}-of-{shards:05}.safetensors" for i in range(1, shards + 1)]
    for name in names:
        (folder / name).write_text(f"weights in {name}")
    if shards > 1:
        index = {"weight_map": {f"layer.{i}": name for i, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return folder
