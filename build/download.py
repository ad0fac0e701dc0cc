"""Stage `download`: a model's files, complete and exactly the pinned ones, into `hf/`.

Three sources, one result: the embedded model and those that `finetune` makes are checked where they lie against their own SHA256SUMS; a
Hugging Face repository is fetched at a pinned revision through the hub's cache (`build.hub_files`); `source=DIR` copies from a directory,
for boxes without a network. Code from the repository is never run: only configuration, tokenizer and safetensors files are taken.

Not run yet against the real hub with Phi-3's weights: `doit model=phi-3-mini download` does it on a machine that can reach it.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from build import ROOT, hub_files, manifest
from build.errors import SourceError
from build.settings import Hub, Model

WEIGHTS_INDEX = "model.safetensors.index.json"
WANTED = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    WEIGHTS_INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
)
NEEDED = ("config.json", "tokenizer.json", "tokenizer_config.json")
HASHES = "SHA256SUMS"
ARCHITECTURE = "Phi3ForCausalLM"


def download(model: Model, source: str | None = None, revision: str | None = None) -> None:
    """Make `model.folder / "hf"`.

    Args:
        model: what to get.
        source: a directory to copy from instead of the preset's own source.
        revision: a commit to fetch instead of the preset's.

    Raises:
        SourceError: something is missing, incomplete, of another architecture or not the pinned content, or there is no room for it.
    """
    target = model.folder / "hf"
    if revision is not None and (source is not None or model.hub is None):
        raise SourceError(f"revision={revision} is of no use: {source or model.source} is a directory, only a hub has revisions")
    in_place = model.source is not None and ROOT / model.source == target
    if source is None and in_place:
        _check_in_place(model, target)
        return
    if in_place and model.tuned_from is None:
        raise SourceError(
            f"source={source} would replace the files of model={model.name}, which are committed with the code: name the model that it "
            "belongs to, as in `doit model=phi-3-mini source=DIR download`"
        )
    origin, fetch = _origin(model, source, revision)
    settings = {"origin": origin, "source": source, "revision": revision, "wanted": list(WANTED)}
    with manifest.new_folder(target, "download", {}, settings, manifest.versions("huggingface_hub")) as draft:
        directory = fetch()
        for path in sorted({path for pattern in WANTED for path in directory.glob(pattern)}):
            _link_or_copy(path, draft.path / path.name)
        check(draft.path)
        print(f"{origin}: {sum(f.stat().st_size for f in draft.path.iterdir()) / 1e6:.1f} MB in {target}", flush=True)


def _origin(model: Model, source: str | None, revision: str | None) -> tuple[str, Callable[[], Path]]:
    """What to record as the origin, and a function that gives the directory with the files."""
    if local := source or model.source:
        return local, lambda: _directory(Path(local), model.folder)
    if model.hub is not None:
        hub = Hub(model.hub.repo, revision or model.hub.revision)
        return f"{hub.repo}@{hub.revision}", lambda: hub_files.fetch(hub, WANTED, model.folder)
    raise SourceError(f"presets.toml names neither a source nor a hub for {model.name}; give source=DIR")


def _directory(source: Path, copy_to: Path) -> Path:
    if not source.is_dir():
        raise SourceError(f"source={source} is not a directory: give another one, or `doit source= download` for the preset's own")
    if hub_files.disk_of(source) != hub_files.disk_of(copy_to):
        hub_files.require_room([(copy_to, sum(path.stat().st_size for pattern in WANTED for path in source.glob(pattern)))])
    return source


def check(folder: Path) -> None:
    """Whether a folder holds a whole Phi-3 checkpoint.

    Raises:
        SourceError: a file is missing or damaged, or the architecture is another; the message names it.
    """
    for name in NEEDED:
        if not (folder / name).is_file():
            raise SourceError(f"{name} is missing in the source: it is not a complete Hugging Face checkpoint with a fast tokenizer")
    architectures = _read_json(folder / "config.json").get("architectures")
    if architectures != [ARCHITECTURE]:
        raise SourceError(f"config.json says architectures {architectures}; this pipeline takes {ARCHITECTURE}")
    index = folder / WEIGHTS_INDEX
    shards = set(_read_json(index)["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    missing = sorted(shard for shard in shards if not (folder / shard).is_file())
    if missing:
        raise SourceError(f"weights are incomplete: {', '.join(missing)} missing. Only safetensors files are taken, never pickles")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise SourceError(f"{path.name} is damaged ({error}): copy or fetch it again") from error


def _check_in_place(model: Model, folder: Path) -> None:
    hashes = folder / HASHES
    if not hashes.is_file():
        raise SourceError(f"{hashes} is missing: {_remedy(model, folder, 'restore the embedded model')}")
    names = []
    for line in hashes.read_text().splitlines():
        expected, name = line.split(maxsplit=1)
        path = folder / name
        if not path.is_file() or manifest.sha256_of(path) != expected:
            state = "missing" if not path.is_file() else "not the file that was made" if model.tuned_from else "not the committed file"
            raise SourceError(
                f"{path} is {state}: {_remedy(model, path, 'restore it', ', or make a new embedded model with `doit train`')}"
            )
        names.append(name)
    check(folder)
    origin = f"finetuned from {model.tuned_from}" if model.tuned_from else "committed with the code"
    sealed = manifest.seal(folder, "download", {HASHES: manifest.sha256_of(hashes)}, {"origin": origin}, names)
    state = "as they were made" if model.tuned_from else "as committed"
    print(f"{folder.relative_to(ROOT)}: {len(names)} files, {sealed.size_bytes / 1e6:.1f} MB, all {state}", flush=True)


def _remedy(model: Model, path: Path, restore: str, otherwise: str = "") -> str:
    if model.tuned_from is None:
        return f"{restore} with `git checkout -- {path.relative_to(ROOT)}`{otherwise}"
    return f"delete {model.folder / 'hf'}, if it is there, and run `doit model={model.tuned_from} finetune`"


def _link_or_copy(path: Path, to: Path) -> None:
    try:
        os.link(path.resolve(), to)
    except OSError:
        shutil.copyfile(path, to)
