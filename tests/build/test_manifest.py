"""A stage's folder is there as a whole or not at all, and its manifest tells what is in it."""

import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from build import manifest
from build.errors import ManifestError
from build.manifest import Manifest

FILES = {"a.txt": "one", "inner/b.bin": "two"}


def make(final: Path, files: dict[str, str] | None = None) -> Manifest:
    with manifest.new_folder(final, "test", {"before": "abc"}, {"x": 1}, {"tool": "2.0"}) as draft:
        for name, text in (files or FILES).items():
            (draft.path / name).parent.mkdir(exist_ok=True)
            (draft.path / name).write_text(text)
        draft.facts["measured"] = 5
    return manifest.read(final)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def edit(final: Path, **changes: object) -> None:
    raw = json.loads((final / manifest.NAME).read_text())
    (final / manifest.NAME).write_text(json.dumps(raw | changes))


def test_a_manifest_tells_what_was_made_from_what_and_how(tmp_path: Path) -> None:
    made = make(tmp_path / "out")
    assert (made.stage, made.inputs, made.settings, made.tools) == ("test", {"before": "abc"}, {"x": 1}, {"tool": "2.0"})
    assert made.facts == {"measured": 5}
    assert {name: record.size_bytes for name, record in made.files.items()} == {"a.txt": 3, "inner/b.bin": 3}
    assert made.files["a.txt"].sha256 == hashlib.sha256(b"one").hexdigest()
    assert made.size_bytes == 6
    assert made.duration_s >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made.finished_utc)
    assert visible(tmp_path) == ["out"]


def test_folders_above_are_made(tmp_path: Path) -> None:
    assert make(tmp_path / "deep" / "down" / "out")


def test_the_body_works_beside_an_older_result_that_stays_readable(tmp_path: Path) -> None:
    old = make(tmp_path / "out")
    with manifest.new_folder(tmp_path / "out", "test", {}, {}, {}) as draft:
        assert list(draft.path.iterdir()) == []
        (draft.path / "new.txt").write_text("new")
        assert manifest.verify_contents(tmp_path / "out") == old
    assert manifest.read(tmp_path / "out").files.keys() == {"new.txt"}
    assert visible(tmp_path) == ["out"]


def test_the_manifest_is_written_last_and_moved_into_place_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fsync(_: int) -> None:
        (draft,) = (path for path in tmp_path.iterdir() if path.is_dir())
        seen.append(sorted(path.name for path in draft.iterdir()))

    monkeypatch.setattr(os, "fsync", fsync)
    make(tmp_path / "out")
    assert seen == [[".manifest.json.partial", "a.txt", "inner"]]  # the final name appears by renaming only
    assert visible(tmp_path / "out") == ["a.txt", "inner", "manifest.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("older", [False, True])
def test_a_body_that_raises_leaves_nothing_and_keeps_what_was_there(tmp_path: Path, error: type[BaseException], older: bool) -> None:
    def fail() -> None:
        with manifest.new_folder(tmp_path / "out", "test", {}, {}, {}) as draft:
            (draft.path / "half.txt").write_text("half")
            raise error

    old = make(tmp_path / "out") if older else None
    with pytest.raises(error):
        fail()
    assert visible(tmp_path) == (["out"] if older else [])
    assert not older or manifest.verify_contents(tmp_path / "out") == old


def test_a_manifest_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError), manifest.new_folder(tmp_path / "out", "test", {}, {"x": object()}, {}) as draft:
        (draft.path / "a.txt").write_text("a")
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "out has no manifest.json: the stage that makes it has not finished"),
        ("", "manifest.json is damaged (Expecting value"),
        ('{"schema": 1', "manifest.json is damaged ("),
        ("[]", "manifest.json is damaged ("),
        ("{}", "manifest.json is damaged ('schema'): delete it and build the stage again"),
        ('{"schema": 1}', "manifest.json is damaged ('files')"),
        ('{"schema": 1, "files": {}}', "manifest.json is damaged ("),
        ('{"schema": 1, "files": {"a": {"size": 1}}}', "manifest.json is damaged ("),
        ('{"schema": 2}', "manifest.json has schema 2, this version writes 1: build the stage again"),
    ],
)
def test_a_folder_without_a_whole_manifest_does_not_exist(tmp_path: Path, content: str | None, words: str) -> None:
    make(tmp_path / "out")
    path = tmp_path / "out" / manifest.NAME
    path.unlink() if content is None else path.write_text(content)
    refused(tmp_path / "out", words)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none", "none has no manifest.json: the stage that makes it has not finished")


def test_a_field_that_this_version_does_not_know_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "out")
    edit(tmp_path / "out", mood="good")
    refused(tmp_path / "out", "manifest.json is damaged (")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out" / "inner" / "b.bin").unlink()
    refused(tmp_path / "out", "inner/b.bin is missing, manifest.json lists it: build the stage again")


def test_a_file_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out" / "a.txt").write_text("four")
    refused(tmp_path / "out", "a.txt has 4 bytes, manifest.json says 3: build the stage again")


def refused(folder: Path, words: str) -> None:
    for check in (manifest.read, manifest.verify_contents):
        with pytest.raises(ManifestError, match=re.escape(words)) as caught:
            check(folder)
        assert str(folder) in str(caught.value)
    assert not manifest.is_valid(folder)


def test_only_hashing_finds_a_change_of_the_same_size(tmp_path: Path) -> None:
    made = make(tmp_path / "out")
    assert manifest.verify_contents(tmp_path / "out") == made
    (tmp_path / "out" / "a.txt").write_text("ONE")
    assert manifest.is_valid(tmp_path / "out")
    with pytest.raises(ManifestError, match=r"a\.txt is not the file that manifest\.json describes \(its SHA-256 differs\)"):
        manifest.verify_contents(tmp_path / "out")


def test_equal_content_has_an_equal_hash_whenever_and_wherever_it_was_made(tmp_path: Path) -> None:
    first = make(tmp_path / "first")
    later = dataclasses.replace(first, finished_utc="2001-01-01T00:00:00Z", duration_s=99.0, facts={}, inputs={}, settings={}, tools={})
    assert first.content_hash == make(tmp_path / "second").content_hash == later.content_hash
    reordered = dataclasses.replace(first, files=dict(reversed(list(first.files.items()))))
    assert reordered.content_hash == first.content_hash
    assert re.fullmatch(r"[0-9a-f]{64}", first.content_hash)


@pytest.mark.parametrize("files", [FILES | {"a.txt": "ONE"}, FILES | {"c.txt": ""}, {"a.txt": "one"}, {"a.txt": "one", "b.bin": "two"}])
def test_other_content_has_another_hash(tmp_path: Path, files: dict[str, str]) -> None:
    assert make(tmp_path / "other", files).content_hash != make(tmp_path / "out").content_hash


def test_sealing_lists_only_the_named_files(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    for name in ("a", "b", "not mine"):
        (folder / name).write_text(name)
    sealed = manifest.seal(folder, "download", {"in": "x"}, {"y": 2}, ["a", "b"])
    assert sealed == manifest.verify_contents(folder)
    assert (sealed.stage, sealed.inputs, sealed.settings, list(sealed.files)) == ("download", {"in": "x"}, {"y": 2}, ["a", "b"])


def test_versions_of_what_is_installed_and_what_is_not() -> None:
    assert manifest.versions("pytest", "no-such-distribution") == {"pytest": pytest.__version__, "no-such-distribution": "not installed"}


def test_sealing_again_keeps_the_manifest_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "weights").write_text("1")
    manifest.seal(folder, "download", {"a": "b"}, {}, ["weights"])
    before = (folder / manifest.NAME).read_bytes()
    manifest.seal(folder, "download", {"a": "b"}, {}, ["weights"])
    assert (folder / manifest.NAME).read_bytes() == before
    (folder / "weights").write_text("2")
    manifest.seal(folder, "download", {"a": "b"}, {}, ["weights"])
    assert (folder / manifest.NAME).read_bytes() != before


def test_a_setting_is_found_though_a_file_is_gone(tmp_path: Path) -> None:
    with manifest.new_folder(tmp_path / "out", "test", {}, {"source": "/data", "none": None}, {}) as draft:
        (draft.path / "a.txt").touch()
    (tmp_path / "out" / "a.txt").unlink()
    assert manifest.setting(tmp_path / "out", "source") == "/data"
    assert manifest.setting(tmp_path / "out", "none") is None
    assert manifest.setting(tmp_path / "out", "another") is None


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"settings": []}', '{"settings": {"source": 1}}'])
def test_where_no_setting_can_be_read_there_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / manifest.NAME).write_text(content)
    assert manifest.setting(tmp_path, "source") is None
