"""The container's server is asked where its flags say that it listens."""

from pathlib import Path

import pytest

from build import serve, serve_container
from build.errors import SettingError
from build.server_options import Access, Tls
from build.settings import Ports

PLAIN = ["tritonserver", "--grpc-port=8001", "--metrics-port=8002", "--allow-http=false"]
ENCRYPTED = ["--grpc-use-ssl=true", "--grpc-server-cert=/tls/tls.crt", "--grpc-server-key=/tls/tls.key"]
HTTP = ["--allow-http=true", "--http-address=127.0.0.1", "--http-port=8010"]


def test_over_grpc_where_it_is_not_encrypted() -> None:
    access, ports = serve_container.reached(PLAIN)
    assert (access.tls, access.address, ports) == (None, Access().address, Ports(8001, metrics_port=8002))


def test_over_http_where_it_is_and_the_last_of_two_flags_counts() -> None:
    access, ports = serve_container.reached([*PLAIN, *ENCRYPTED, *HTTP])
    assert (access.tls, ports) == (Tls(Path("/tls/tls.crt"), Path("/tls/tls.key")), Ports(8001, 8010, 8002))


@pytest.mark.parametrize("flags", [ENCRYPTED, [*ENCRYPTED, "--allow-http=true"]])
def test_encrypted_and_without_http_nothing_is_started(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingError, match="--http-port=8000"):
        serve_container.reached([*PLAIN, *flags])
    assert serve_container.main(["no-such-program", *PLAIN[1:], *flags]) == 1
    assert "error: with TLS this process cannot see" in capsys.readouterr().err


def test_the_server_is_ready_after_as_many_tags_as_its_repository_has_instances_and_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probes: list[int]
) -> None:
    (tmp_path / "tagger").mkdir()
    (tmp_path / "tagger" / "config.pbtxt").write_text("instance_group { count: 7 }")
    monkeypatch.setattr(serve.Server, "wait_until_failure", lambda _: "over")
    # The shell takes the flags for arguments of what it runs.
    command = ["sh", "-c", "exec sleep 60", f"--model-repository={tmp_path}", *PLAIN[1:]]
    assert serve_container.main(command) == 1
    assert len(probes) == 1 + 7
