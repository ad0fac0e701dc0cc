"""Trying to get into the real server: from another address, without encryption, without a certificate, without the key."""

import socket
import ssl
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from build import certificates
from build.errors import ServerError
from build.ports import free_ports
from build.serve import Server, running
from build.server_options import GRPC_KEY_HEADER, LOOPBACK, RESTRICTED, Access, Tls
from tests.e2e.conftest import doit, slow
from tests.support.closed_doors import GRPC, HTTP, READ_ONLY, grpc_key, http_status
from tests.support.engine_client import tensors

pytestmark = pytest.mark.e2e

PATIENCE_S = 10.0


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of the authority that the server trusts, and in `other/` of one that it does not."""
    folder = tmp_path_factory.mktemp("trial") / "certificates"
    certificates.make(folder)
    certificates.make(folder / "other")
    return folder


@pytest.fixture(scope="module", params=[pytest.param("TLS", marks=slow), "mutual TLS"])
def encrypted(request: pytest.FixtureRequest, repository: Path, trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that listens to everybody, with TLS or with mutual TLS."""
    tls = Tls(trial / "server.pem", trial / "server-key.pem", trial / "authority.pem" if request.param == "mutual TLS" else None)
    log = tmp_path_factory.mktemp("encrypted") / "serve.log"
    with running(repository, free_ports(), log, Access("0.0.0.0", tls)) as server:
        server.wait_until_ready()
        yield server


def is_mutual(server: Server) -> bool:
    return server.access.tls is not None and server.access.tls.client_authority is not None


def tag(client: InferenceServerClient) -> str:
    """The emotion of a line."""
    texts = {"user_last_message": "2+2=4", "pika_response": "Chính xác! Cậu giỏi quá!"}
    inputs = tensors({name: np.array([[text.encode()]], dtype=np.object_) for name, text in texts.items()})
    answer = client.infer("tagger", inputs, client_timeout=PATIENCE_S).as_numpy("emotion_name")
    return str(answer.item().decode())


def refused(client: InferenceServerClient) -> str:
    """Status of a tag that must not come back."""
    with client, pytest.raises(InferenceServerException) as caught:
        tag(client)
    return str(caught.value.status())


def listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), PATIENCE_S).close()
    except ConnectionRefusedError:
        return False
    return True


def test_by_default_nothing_is_reached_at_another_address(server: Server) -> None:
    for port in vars(server.ports).values():
        assert listens(LOOPBACK, port)
        assert not listens("127.0.0.2", port)


def test_with_tls_only_grpc_is_reached_at_another_address(encrypted: Server) -> None:
    assert listens("127.0.0.2", encrypted.ports.grpc_port)
    assert not listens("127.0.0.2", encrypted.ports.http_port)
    assert not listens("127.0.0.2", encrypted.ports.metrics_port)


def test_a_client_that_trusts_the_authority_gets_a_tag(encrypted: Server, trial: Path) -> None:
    own = {"private_key": str(trial / "client-key.pem"), "certificate_chain": str(trial / "client.pem")} if is_mutual(encrypted) else {}
    with InferenceServerClient(encrypted.url, ssl=True, root_certificates=str(trial / "authority.pem"), **own) as client:
        assert tag(client) in ("proud", "thats_right")
        with pytest.raises(InferenceServerException, match=f"expecting header '{GRPC_KEY_HEADER}'"):
            client.get_model_repository_index()
        assert client.get_model_repository_index(headers=grpc_key(encrypted.access.admin_key)).models


def test_nobody_gets_a_tag_without_encryption(encrypted: Server) -> None:
    assert refused(InferenceServerClient(encrypted.url)) == "StatusCode.UNAVAILABLE"


def test_a_client_that_trusts_another_authority_does_not_trust_the_server(encrypted: Server, trial: Path) -> None:
    other = {"private_key": str(trial / "client-key.pem"), "certificate_chain": str(trial / "client.pem")}
    client = InferenceServerClient(encrypted.url, ssl=True, root_certificates=str(trial / "other" / "authority.pem"), **other)
    assert refused(client) == "StatusCode.UNAVAILABLE"


@pytest.mark.parametrize("own", ["none", "another authority's", "the server's"])
def test_with_mutual_tls_a_client_needs_a_certificate_for_clients_of_that_authority(encrypted: Server, trial: Path, own: str) -> None:
    folder, name = {"another authority's": (trial / "other", "client"), "the server's": (trial, "server")}.get(own, (trial, ""))
    files = {"private_key": str(folder / f"{name}-key.pem"), "certificate_chain": str(folder / f"{name}.pem")} if name else {}
    client = InferenceServerClient(encrypted.url, ssl=True, root_certificates=str(trial / "authority.pem"), **files)
    if is_mutual(encrypted):
        assert refused(client) == "StatusCode.UNAVAILABLE"
    else:
        with client:
            assert tag(client) in ("proud", "thats_right")


def shakes_hands(server: Server, trial: Path, version: ssl.TLSVersion) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(trial / "client.pem", trial / "client-key.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about the old versions that are to be refused
        context.minimum_version, context.maximum_version = version, version
    try:
        with socket.create_connection((LOOPBACK, server.ports.grpc_port), PATIENCE_S) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError:
        return False


def test_tls_is_spoken_from_1_2_on(encrypted: Server, trial: Path) -> None:
    versions = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert [shakes_hands(encrypted, trial, version) for version in versions] == [False, False, True, True]


def test_every_restricted_protocol_is_tried() -> None:
    assert len(RESTRICTED) == len(READ_ONLY)
    assert GRPC.keys() == HTTP.keys() > set(READ_ONLY)


@pytest.mark.parametrize("key", ["no key", "a wrong key", "an empty key"])
@pytest.mark.parametrize("name", GRPC)
def test_over_grpc_nothing_works_without_the_key(server: Server, name: str, key: str) -> None:
    headers = {"no key": {}, "a wrong key": grpc_key(f"{server.access.admin_key}x"), "an empty key": grpc_key("")}[key]
    with InferenceServerClient(server.url) as client, pytest.raises(InferenceServerException) as caught:
        GRPC[name](client, headers)
    assert caught.value.message() == f"This protocol is restricted, expecting header '{GRPC_KEY_HEADER}'"


@pytest.mark.parametrize("name", HTTP)
def test_over_http_nothing_works_without_the_key(server: Server, name: str) -> None:
    assert [http_status(server, name, key) for key in (None, "", f"{server.access.admin_key}x")] == [403, 403, 403]


@pytest.mark.parametrize("name", READ_ONLY)
def test_the_key_opens_what_it_is_for(server: Server, name: str) -> None:
    with InferenceServerClient(server.url) as client:
        GRPC[name](client, grpc_key(server.access.admin_key))
    assert http_status(server, name, server.access.admin_key) == 200


@pytest.mark.parametrize("name", ["load", "unload"])
def test_models_cannot_be_changed_even_with_the_key(server: Server, name: str) -> None:
    key = server.access.admin_key
    with InferenceServerClient(server.url) as client:
        with pytest.raises(InferenceServerException, match="explicit model load / unload is not allowed"):
            GRPC[name](client, grpc_key(key))
        assert http_status(server, name, key) == 503
        assert tag(client) in ("proud", "thats_right")


def test_the_key_is_not_in_the_log(server: Server) -> None:
    assert server.log is not None
    text = server.log.read_text(errors="replace")
    assert "Started GRPCInferenceService" in text
    assert server.access.admin_key not in text


def test_doit_refuses_a_public_address_in_one_line(repository: Path) -> None:
    done = doit("address=0.0.0.0", "serve")
    assert done.returncode != 0
    assert done.stderr.startswith("error: address=0.0.0.0 can be reached from other machines")
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_speaks_no_tls_is_not_ready_for_it(server: Server, trial: Path) -> None:
    expected = Access(tls=Tls(trial / "server.pem", trial / "server-key.pem"))
    with pytest.raises(ServerError, match=f"no tag from {LOOPBACK}:{server.ports.grpc_port}"):
        Server(server.process, server.ports, expected, None, server.scratch).wait_until_ready(timeout_s=0.1)


def test_on_the_machine_itself_http_asks_for_no_certificate(encrypted: Server) -> None:
    url = f"http://{LOOPBACK}:{encrypted.ports.http_port}/v2/models/tagger/generate"
    with urllib.request.urlopen(url, b'{"user_last_message": "", "pika_response": "Hello."}') as response:
        assert b"emotion_name" in response.read()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://{LOOPBACK}:{encrypted.ports.http_port}/v2/logging")
    with caught.value as error:
        assert error.code == 403
