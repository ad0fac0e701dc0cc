"""Encryption, proof of identity, and what is sent along with every call."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from pika_tagger import InvalidSettingError, TaggerClient, TaggerConnectionError, Tls
from pika_tagger._connection import VARIABLES
from pika_tagger.cli import main
from tests.client.fake_server import FakeServer
from tests.client.twins import Make

NAME = "tagger.test"


@dataclass(frozen=True)
class Authority:
    """A certificate authority and what it has signed: NAME.key and NAME.pem in `folder`."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    def key(self, who: str) -> Path:
        return self.folder / f"{who}.key"

    def certificate(self, who: str) -> Path:
        return self.folder / f"{who}.pem"

    def sign(self, who: str) -> None:
        key, request, extensions = self.key(who), self.folder / f"{who}.csr", self.folder / f"{who}.ext"
        extensions.write_text(f"subjectAltName=DNS:{who},IP:127.0.0.1\n" if who == "addressed" else f"subjectAltName=DNS:{who}\n")
        openssl("req", "-newkey", "ec", *CURVE, "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={who}")
        ca = ("-CA", self.root, "-CAkey", self.key("root"), "-CAcreateserial")
        openssl("x509", "-req", "-in", request, *ca, "-days", "2", "-extfile", extensions, "-out", self.certificate(who))


CURVE = ("-pkeyopt", "ec_paramgen_curve:prime256v1")


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("certificates"))
    root = ("-keyout", made.key("root"), "-out", made.root, "-subj", "/CN=root", "-days", "2")
    openssl("req", "-x509", "-newkey", "ec", *CURVE, "-nodes", *root)
    for who in (NAME, "addressed", "robot"):
        made.sign(who)
    return made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("stranger"))
    root = ("-keyout", made.key("root"), "-out", made.root, "-subj", "/CN=stranger", "-days", "2")
    openssl("req", "-x509", "-newkey", "ec", *CURVE, "-nodes", *root)
    made.sign("robot")
    return made


def credentials(authority: Authority, who: str, *, mutual: bool) -> object:
    pair = (authority.key(who).read_bytes(), authority.certificate(who).read_bytes())
    root = authority.root.read_bytes() if mutual else None
    return grpc.ssl_server_credentials([pair], root_certificates=root, require_client_auth=mutual)


@pytest.fixture
def encrypted(authority: Authority) -> Iterator[FakeServer]:
    with FakeServer(credentials=credentials(authority, NAME, mutual=False)) as server:
        yield server


@pytest.fixture
def guarded(authority: Authority) -> Iterator[FakeServer]:
    with FakeServer(credentials=credentials(authority, NAME, mutual=True)) as server:
        yield server


def test_a_trusted_server_is_spoken_to(encrypted: FakeServer, authority: Authority, make: Make) -> None:
    with make(encrypted.url, tls=Tls(authority.root, server_name=NAME), timeout_s=5.0) as tagger:
        assert tagger.health().emotion_name == "proud"


def test_the_host_in_the_url_is_the_name_unless_another_is_given(authority: Authority, make: Make) -> None:
    with (
        FakeServer(credentials=credentials(authority, "addressed", mutual=False)) as server,
        make(server.url, tls=Tls(authority.root), timeout_s=5.0) as tagger,
    ):
        assert tagger.health().emotion_name == "proud"


@pytest.mark.parametrize("name", ["other.test", None])
def test_a_server_with_another_name_is_not_spoken_to(encrypted: FakeServer, authority: Authority, make: Make, name: str | None) -> None:
    with make(encrypted.url, tls=Tls(authority.root, server_name=name)) as tagger, pytest.raises(TaggerConnectionError):
        tagger.health()
    assert encrypted.requests == []


def test_a_server_of_an_unknown_authority_is_not_spoken_to(encrypted: FakeServer, stranger: Authority, make: Make) -> None:
    with make(encrypted.url, tls=Tls(stranger.root, server_name=NAME)) as tagger, pytest.raises(TaggerConnectionError):
        tagger.health()
    assert encrypted.requests == []


def test_a_robot_proves_who_it_is(guarded: FakeServer, authority: Authority, make: Make) -> None:
    robot = Tls(authority.root, authority.key("robot"), authority.certificate("robot"), NAME)
    with make(guarded.url, tls=robot, timeout_s=5.0) as tagger:
        assert tagger.health().emotion_name == "proud"


def test_a_robot_without_proof_is_turned_away(guarded: FakeServer, authority: Authority, stranger: Authority, make: Make) -> None:
    for tls in (
        Tls(authority.root, server_name=NAME),
        Tls(authority.root, stranger.key("robot"), stranger.certificate("robot"), NAME),
    ):
        with make(guarded.url, tls=tls) as tagger, pytest.raises(TaggerConnectionError):
            tagger.health()
    assert guarded.requests == []


def test_without_tls_an_encrypted_server_is_out_of_reach_and_the_error_says_what_to_check(encrypted: FakeServer, make: Make) -> None:
    with make(encrypted.url) as tagger, pytest.raises(TaggerConnectionError, match="tls if and only if the server has it"):
        tagger.health()


def test_a_certificate_that_cannot_work_is_refused_at_once(authority: Authority, tmp_path: Path, make: Make) -> None:
    (tmp_path / "der").write_bytes(b"\x30\x82")
    root, key = authority.root, authority.key("robot")
    for tls, message in (
        (Tls(tmp_path / "none.pem"), r"tls\.root_certificates .*none\.pem cannot be read \(No such file"),
        (Tls(tmp_path / "der"), r"tls\.root_certificates .* is no PEM file"),
        (Tls(root, private_key=key), "give both"),
        (Tls(root, certificate_chain=authority.certificate("robot")), "give both"),
    ):
        with pytest.raises(InvalidSettingError, match=message):
            make("gpu-box:8001", tls=tls)
    with pytest.raises(InvalidSettingError, match="needs server_name"):
        make(["10.0.0.5:8001", "10.0.0.6:8001"], tls=Tls(root))


def test_metadata_goes_with_every_call_and_that_of_one_call_with_it_alone(server: FakeServer, make: Make) -> None:
    with make(server.url, metadata={"Triton-Grpc-Protocol-Key": "open sesame"}, timeout_s=5.0) as tagger:
        tagger.tag(user_last_message="a", pika_response="b", metadata={"authorization": "Bearer 7"})
        tagger.health()
    first, second = server.metadata
    assert (first["triton-grpc-protocol-key"], second["triton-grpc-protocol-key"]) == ("open sesame", "open sesame")
    assert (first.get("authorization"), second.get("authorization")) == ("Bearer 7", None)


def test_a_secret_is_never_shown(server: FakeServer, make: Make) -> None:
    server.fail_with("UNAUTHENTICATED", "no")
    with make(server.url, metadata={"authorization": "Bearer 7"}) as tagger:
        settings = repr(vars(tagger)) if isinstance(tagger, TaggerClient) else ""
        assert "Bearer" not in repr(tagger) + settings
        tag = tagger.tag(user_last_message="a", pika_response="b", on_failure="fallback")
        assert "Bearer" not in repr(tag)


@pytest.mark.parametrize(
    "metadata", [{"a b": "c"}, {"grpc-timeout": "1"}, {"key-bin": "c"}, {"": "c"}, {"key": "tiếng"}, {"key": "a\nb"}, {"key": 7}]
)
def test_metadata_that_cannot_be_sent_is_refused_at_once(make: Make, metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidSettingError, match="metadata"):
        make("gpu-box:8001", metadata=metadata)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without any setting of pika-tag in it."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("by_flag", [True, False], ids=["flag", "environment"])
def test_the_command_proves_who_it_is(authority: Authority, environment: pytest.MonkeyPatch, by_flag: bool) -> None:
    files = {
        "--tls-authority": authority.root,
        "--tls-certificate": authority.certificate("robot"),
        "--tls-key": authority.key("robot"),
    }
    flags = [str(word) for pair in files.items() for word in pair] if by_flag else []
    if not by_flag:
        for flag, file in files.items():
            environment.setenv(f"PIKA_TAGGER_{flag.removeprefix('--').replace('-', '_').upper()}", str(file))
    with FakeServer(credentials=credentials(authority, "addressed", mutual=True)) as server:
        assert main([*flags, "health", "--url", server.url]) == 0


def test_the_command_trusts_no_authority_that_grpc_does_not_know(
    authority: Authority, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(credentials=credentials(authority, "addressed", mutual=False)) as server:
        assert main(["health", "--url", server.url, "--tls"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_metadata_of_the_command_comes_from_flags_and_before_that_from_the_environment(
    server: FakeServer, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("PIKA_TAGGER_METADATA", "authorization=Bearer 7\nkey=a=b\n")
    assert main(["health", "--url", server.url, "--metadata", "authorization=Bearer 8", "--metadata", "other=c"]) == 0
    (sent,) = server.metadata
    assert (sent["authorization"], sent["key"], sent["other"]) == ("Bearer 8", "a=b", "c")


def test_metadata_without_a_name_is_refused_and_not_shown(
    server: FakeServer, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("PIKA_TAGGER_METADATA", "Bearer 7")
    assert main(["health", "--url", server.url]) == 2
    said = capsys.readouterr().err
    assert "PIKA_TAGGER_METADATA has something without '=': give NAME=VALUE" in said
    assert "Bearer" not in said
    assert server.requests == []


def test_metadata_is_not_written_into_a_report(server: FakeServer, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, out = tmp_path / "said.jsonl", tmp_path / "bench.json"
    file.write_text('{"user_last_message": "a", "pika_response": "b"}\n')
    command = ["bench", str(file), "--url", server.url, "--requests", "2", "--json", str(out), "--metadata", "authorization=Bearer 7"]
    assert main(command) == 0
    assert "Bearer" not in out.read_text()
