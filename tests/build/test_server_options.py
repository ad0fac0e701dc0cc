"""Nobody listens in by accident: addresses, certificates and keys are checked before a start, and become the flags they stand for."""

import re
import shutil
from pathlib import Path

import pytest

from build import certificates, server_options
from build.errors import PipelineError, SettingError
from build.server_options import Access, Tls
from build.settings import Ports

PORTS = Ports(1, 2, 3)
KEY = "a-key-of-20-letters-_"


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of one authority, and in `other/` of another."""
    folder = tmp_path_factory.mktemp("trial") / "certificates"
    certificates.make(folder)
    certificates.make(folder / "other")
    return folder


def access(**given: str) -> Access:
    """The settings as dodo.py passes them on when only these are given."""
    names = ("certificate", "private_key", "client_authority", "admin_key_file")
    texts = dict.fromkeys(names, "") | {k: v for k, v in given.items() if k in names}
    return server_options.access(address=given.get("address", "127.0.0.1"), insecure=given.get("insecure") == "yes", **texts)


def refusal(**given: str) -> str:
    with pytest.raises(SettingError) as caught:
        access(**given)
    return str(caught.value)


def addresses(allowed: Access) -> list[str]:
    flags = server_options.flags(allowed, PORTS)
    return [flag.partition("=")[2] for name in ("grpc", "http", "metrics") for flag in flags if flag.startswith(f"--{name}-address=")]


def test_without_settings_only_this_machine_gets_in_and_without_tls() -> None:
    assert addresses(access()) == ["127.0.0.1"] * 3
    assert not [flag for flag in server_options.flags(access(), PORTS) if "ssl" in flag]


@pytest.mark.parametrize("address", ["0.0.0.0", "10.0.0.5"])
def test_an_address_that_others_can_reach_wants_tls_or_an_explicit_word(address: str, trial: Path) -> None:
    message = refusal(address=address)
    assert message.startswith(f"address={address} can be reached from other machines")
    assert all(way in message for way in ("tls_certificate=", "tls_key=", "`doit certificates`", "insecure=yes"))
    assert addresses(access(address=address, insecure="yes")) == [address] * 3
    encrypted = access(address=address, certificate=str(trial / "server.pem"), private_key=str(trial / "server-key.pem"))
    assert addresses(encrypted) == [address, "127.0.0.1", "127.0.0.1"]  # nothing but gRPC can be encrypted


def test_other_loopback_addresses_need_no_word() -> None:
    assert addresses(access(address="127.0.0.2")) == ["127.0.0.2"] * 3


@pytest.mark.parametrize("address", ["", "localhost", "::1", "10.0.0", "10.0.0.5:8001"])
def test_an_address_is_a_number_of_ipv4(address: str) -> None:
    assert refusal(address=address).startswith(f"address={address} is not an IPv4 address")


def test_tls_by_its_files(trial: Path) -> None:
    tls = access(certificate=str(trial / "server.pem"), private_key=str(trial / "server-key.pem")).tls
    assert tls == Tls((trial / "server.pem").resolve(), (trial / "server-key.pem").resolve())
    flags = server_options.flags(Access(tls=Tls(Path("/c"), Path("/k"))), PORTS)
    assert flags[-3:] == ["--grpc-use-ssl=true", "--grpc-server-cert=/c", "--grpc-server-key=/k"]
    mutual = server_options.flags(Access(tls=Tls(Path("/c"), Path("/k"), Path("/a"))), PORTS)
    assert mutual[-2:] == ["--grpc-use-ssl-mutual=true", "--grpc-root-cert=/a"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"certificate": "server.pem"}, "tls_certificate= and tls_key= belong together"),
        ({"private_key": "server-key.pem"}, "tls_certificate= and tls_key= belong together"),
        ({"client_authority": "authority.pem"}, "tls_clients= says whose clients may come, which needs a server with TLS"),
        (
            {"certificate": "absent.pem", "private_key": "server-key.pem"},
            r"tls_certificate=.*\(No such file or directory\): give PEM files",
        ),
        ({"certificate": "server.pem", "private_key": "other/server-key.pem"}, r"\(KEY_VALUES_MISMATCH\)"),
        ({"certificate": "server-key.pem", "private_key": "server-key.pem"}, "cannot be used"),
        (
            {"certificate": "server.pem", "private_key": "server-key.pem", "client_authority": "server-key.pem"},
            "tls_clients=.* cannot be used .* give a PEM file with certificates",
        ),
        ({"certificate": "server.pem", "private_key": "server-key.pem", "insecure": "yes"}, "insecure=yes allows to listen without TLS"),
    ],
)
def test_what_cannot_work_is_refused_before_the_start(trial: Path, given: dict[str, str], message: str) -> None:
    assert re.search(message, refusal(**{name: text if name == "insecure" else str(trial / text) for name, text in given.items()}))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(trial: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    certificates._openssl("ec", "-in", trial / "server-key.pem", "-aes256", "-passout", "pass:secret", "-out", locked)
    assert "without a password" in refusal(certificate=str(trial / "server.pem"), private_key=str(locked))


def test_what_robots_never_need_is_closed_by_a_key_on_both_protocols() -> None:
    closed = f"model-repository,shared-memory,trace,logging,statistics:admin-key={KEY}"
    flags = server_options.flags(Access(admin_key=KEY), PORTS)
    assert {f"--grpc-restricted-protocol={closed}", f"--http-restricted-api={closed}", "--model-control-mode=none"} <= set(flags)


def test_the_key_is_a_new_random_one_unless_it_is_given_and_is_never_shown(tmp_path: Path) -> None:
    keys = {access().admin_key for _ in range(3)}
    assert len(keys) == 3
    assert min(map(len, keys)) >= 40
    (tmp_path / "key").write_text(f"{KEY}\n")
    given = access(admin_key_file=str(tmp_path / "key"))
    assert given.admin_key == KEY
    assert KEY not in repr(given)


@pytest.mark.parametrize("content", ["", "short", "twenty letters and a space", f"{KEY},{KEY}", f"{KEY}\n{KEY}", f"{KEY}é"])
def test_a_key_that_is_weak_or_would_break_the_flag_is_refused_without_being_shown(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content, encoding="utf-8")
    message = refusal(admin_key_file=str(tmp_path / "key"))
    assert message.startswith(f"admin_key_file={tmp_path}/key ")
    assert not content or content not in message


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "cannot be read (No such file or directory)" in refusal(admin_key_file=str(tmp_path / "absent"))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_trial_certificates_are_private_and_nothing_else_can_be_signed_with_them(trial: Path) -> None:
    names = {"authority.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"}
    assert {path.name for path in trial.iterdir() if path.is_file()} == names
    assert (mode(trial), mode(trial / "server-key.pem"), mode(trial / "client-key.pem")) == (0o700, 0o600, 0o600)


def test_certificates_are_made_anew_and_nothing_stays_of_the_old(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    certificates.make(folder)
    before = (folder / "server.pem").read_bytes()
    (folder / "leftover").touch()
    certificates.make(folder)
    assert (folder / "server.pem").read_bytes() != before
    assert not (folder / "leftover").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_without_openssl_it_is_said_what_to_install_and_the_old_ones_stay(
    trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(trial, tmp_path / "certificates")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PipelineError, match="there is no openssl, which makes the certificates: apt-get install openssl"):
        certificates.make(folder)
    assert (folder / "server.pem").is_file()
    assert list(tmp_path.iterdir()) == [folder]
