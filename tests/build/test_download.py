"""A model's files come complete, of the right kind and exactly as pinned, or not at all."""

import dataclasses
import re
from pathlib import Path

import pytest

from build import manifest
from build.download import download
from build.errors import SourceError
from build.settings import Hub, Model
from tests.support.checkout import Checkout, checkpoint


def refused(place: Checkout, source: Path, words: str) -> None:
    before = place.left()
    with pytest.raises(SourceError, match=re.escape(words)):
        download(from_hub(place.model), str(source))
    assert place.left() == before


@pytest.mark.parametrize("shards", [1, 3])
def test_a_directory_is_copied_as_a_whole(place: Checkout, shards: int) -> None:
    source = checkpoint(place.root / "mine", shards)
    download(from_hub(place.model), str(source))
    hf = place.model.folder / "hf"
    made = manifest.verify_contents(hf)
    assert made.stage == "download"
    assert made.settings["origin"] == str(source)
    assert made.files.keys() == {path.name for path in source.iterdir()}
    assert all((hf / name).read_bytes() == (source / name).read_bytes() for name in made.files)


def test_committed_files_are_never_replaced(place: Checkout) -> None:
    source = checkpoint(place.root / "mine")
    with pytest.raises(SourceError, match=rf"^source={source} would replace the files of model=small, .*`doit model=phi-3-mini source=DIR"):
        download(place.model, str(source))
    assert not (place.model.folder / "hf").exists()
    tuned = dataclasses.replace(place.model, tuned_from="another")
    download(tuned, str(source))  # made elsewhere
    assert manifest.verify_contents(tuned.folder / "hf").settings["source"] == str(source)


def test_only_what_a_model_needs_is_taken(place: Checkout) -> None:
    source = checkpoint(place.root / "mine")
    for name in ("modeling_phi3.py", "pytorch_model.bin", "README.md", ".env", "optimizer.pt"):
        (source / name).write_text("not wanted")
    (source / "onnx").mkdir()
    (source / "onnx" / "model.safetensors").write_text("not wanted")
    (source / "tokenizer.model").write_text("wanted")
    download(from_hub(place.model), str(source))
    names = manifest.read(place.model.folder / "hf").files.keys()
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "tokenizer.model"}


def test_links_of_a_cache_become_files(place: Checkout) -> None:
    blobs, snapshot = checkpoint(place.root / "blobs"), place.root / "snapshot"
    snapshot.mkdir()
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    download(from_hub(place.model), str(snapshot))
    assert not any(path.is_symlink() for path in (place.model.folder / "hf").iterdir())
    assert manifest.verify_contents(place.model.folder / "hf").files["config.json"]


def test_what_is_not_a_directory_is_refused(place: Checkout) -> None:
    refused(place, place.root / "none", f"source={place.root / 'none'} is not a directory")
    (place.root / "file").touch()
    refused(place, place.root / "file", f"source={place.root / 'file'} is not a directory")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_refused_by_name(place: Checkout, name: str) -> None:
    source = checkpoint(place.root / "mine")
    (source / name).unlink()
    refused(place, source, f"{name} is missing in the source: it is not a complete Hugging Face checkpoint with a fast tokenizer")


def test_missing_shards_are_refused_by_name(place: Checkout) -> None:
    source = checkpoint(place.root / "mine", shards=4)
    for number in (2, 4):
        (source / f"model-{number:05}-of-00004.safetensors").unlink()
    refused(place, source, "weights are incomplete: model-00002-of-00004.safetensors, model-00004-of-00004.safetensors missing")


def test_pickles_are_no_weights(place: Checkout) -> None:
    source = checkpoint(place.root / "mine")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    refused(place, source, "weights are incomplete: model.safetensors missing. Only safetensors files are taken, never pickles")


@pytest.mark.parametrize("config", [{"architectures": ["LlamaForCausalLM"]}, {"architectures": None}, {}])
def test_another_architecture_is_refused(place: Checkout, config: dict[str, object]) -> None:
    source = checkpoint(place.root / "mine", config=config)
    refused(place, source, f"config.json says architectures {config.get('architectures')}; this pipeline takes Phi3ForCausalLM")


def test_a_failed_download_keeps_what_was_there(place: Checkout) -> None:
    download(from_hub(place.model), str(checkpoint(place.root / "mine")))
    old = manifest.read(place.model.folder / "hf")
    refused(place, place.root / "none", "is not a directory")
    assert manifest.verify_contents(place.model.folder / "hf") == old


@pytest.fixture
def embedded(place: Checkout) -> Path:
    """The folder of a model that is committed with the code."""
    folder = checkpoint(place.model.folder / "hf")
    sums = [f"{manifest.sha256_of(path)}  {path.name}" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    return folder


def test_the_embedded_model_is_checked_where_it_lies(place: Checkout, embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.stat().st_ino for path in embedded.iterdir()}
    download(place.model)
    made = manifest.verify_contents(embedded)
    assert made.files.keys() == before.keys() - {"SHA256SUMS"}
    assert made.inputs == {"SHA256SUMS": manifest.sha256_of(embedded / "SHA256SUMS")}
    assert {path.name: path.stat().st_ino for path in embedded.iterdir() if path.name != manifest.NAME} == before
    assert capsys.readouterr().out.startswith("checkpoints/small/hf: 4 files, 0.0 MB, all as committed")


@pytest.mark.parametrize(
    ("name", "content", "what"), [("model.safetensors", "x", "not the committed file"), ("config.json", None, "missing")]
)
def test_a_changed_embedded_model_is_refused_with_the_command_that_restores_it(
    place: Checkout, embedded: Path, name: str, content: str | None, what: str
) -> None:
    (embedded / name).unlink() if content is None else (embedded / name).write_text(content)
    with pytest.raises(SourceError) as caught:
        download(place.model)
    assert str(caught.value) == (
        f"{embedded / name} is {what}: restore it with `git checkout -- checkpoints/small/hf/{name}`, "
        "or make a new embedded model with `doit train`"
    )
    assert not manifest.is_valid(embedded)


def test_an_embedded_model_without_hashes_is_refused(place: Checkout, embedded: Path) -> None:
    (embedded / "SHA256SUMS").unlink()
    with pytest.raises(SourceError, match=r"SHA256SUMS is missing: restore the embedded model with `git checkout -- checkpoints/small/hf`"):
        download(place.model)


def test_a_tuned_model_that_was_not_made_is_refused_with_the_command_that_makes_it(place: Checkout) -> None:
    tuned = dataclasses.replace(place.model, tuned_from="large")
    with pytest.raises(SourceError, match=r"SHA256SUMS is missing: delete .*, if it is there, and run `doit model=large finetune`$"):
        download(tuned)


def test_a_tuned_model_is_checked_where_it_lies(place: Checkout, embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = dataclasses.replace(place.model, tuned_from="large")
    download(tuned)
    assert capsys.readouterr().out.endswith("all as they were made\n")
    assert manifest.read(embedded).settings == {"origin": "finetuned from large"}
    (embedded / "config.json").write_text("x")
    with pytest.raises(SourceError, match=r"config\.json is not the file that was made: .* run `doit model=large finetune`$"):
        download(tuned)


def from_hub(model: Model) -> Model:
    return dataclasses.replace(model, source=None, hub=Hub("me/mine", "0123abc"))


def test_a_directory_takes_the_place_of_the_hub(place: Checkout) -> None:
    download(from_hub(place.model), str(checkpoint(place.root / "mine")))
    assert manifest.read(place.model.folder / "hf").settings["origin"] == str(place.root / "mine")


def test_a_revision_without_a_hub_is_refused(place: Checkout) -> None:
    with pytest.raises(SourceError, match=r"revision=main is of no use: /mine is a directory, only a hub has revisions"):
        download(from_hub(place.model), "/mine", revision="main")
    with pytest.raises(SourceError, match=r"checkpoints/small/hf is a directory, only a hub has revisions"):
        download(place.model, revision="main")


def test_a_preset_without_any_source_is_refused(place: Checkout) -> None:
    with pytest.raises(SourceError, match=r"presets\.toml names neither a source nor a hub for small; give source=DIR"):
        download(dataclasses.replace(place.model, source=None))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("content", ["", '{"architectures": [', "version https://git-lfs.github.com/spec/v1"])
def test_damaged_json_is_refused_by_name(place: Checkout, name: str, content: str) -> None:
    source = checkpoint(place.root / "mine", shards=2)
    (source / name).write_text(content)
    refused(place, source, f"{name} is damaged (")
