"""Calls over TLS: ``grpcs://``, certificates in files, client certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from catga_sync import ConfigurationError, Delivery, ErrorCode
from tests import processes
from tests.conftest import require_module

grpc = require_module("grpc")
trustme = require_module("trustme")

from catga_sync.integrations.grpc import serve_grpc  # noqa: E402
from tests.channels.nodes import Served, Shout  # noqa: E402
from tests.grpc_calls.nodes import calling, wait_for  # noqa: E402


class Files:
    """Certificates of one authority, as files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.bundle = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.bundle)
        self.server = authority.issue_cert("localhost")
        client = authority.issue_cert("web.example.com")
        self.cert, self.key = str(folder / "web.pem"), str(folder / "web.key")
        client.cert_chain_pems[0].write_to_path(self.cert)
        client.private_key_pem.write_to_path(self.key)
        self.both = str(folder / "both.pem")
        client.private_key_and_cert_chain_pem.write_to_path(self.both)

    def credentials(self, *, mutual: bool = False) -> grpc.ServerCredentials:
        pair = (self.server.private_key_pem.bytes(), self.server.cert_chain_pems[0].bytes())
        roots = Path(self.bundle).read_bytes() if mutual else None
        return grpc.ssl_server_credentials([pair], roots, mutual)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def endpoint() -> str:
    return f"grpcs://localhost:{processes.free_port()}"


def node(endpoint: str, **options: object) -> Served:
    return Served(node_id="users", endpoint=endpoint, discovery="memory://", insecure=True, **options)


def test_a_node_with_a_certificate_is_called_and_sees_itself(files: Files, endpoint: str) -> None:
    served = node(endpoint, verify=files.bundle, cluster_name="tls")
    with served.mediator, serve_grpc(served.mediator, credentials=files.credentials()):
        wait_for(served.mediator.nodes)
        with calling(endpoint, insecure=True, verify=files.bundle) as caller:
            assert caller.send(Shout("tea")).unwrap() == "TEA"
        # Of an authority that is not known here, and of a name that is not in the certificate.
        for url, verify in ((endpoint, True), (endpoint.replace("localhost", "127.0.0.1"), files.bundle)):
            with calling(url, insecure=True, verify=verify) as caller:
                result = caller.send(Shout("tea"))
                assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
        with calling(endpoint, insecure=True, verify=False) as caller:
            result = caller.send(Shout("tea"))
            assert result.delivery is Delivery.NOT_EXECUTED
            assert "verify" in (result.error or "")


def test_a_client_certificate_lets_in(files: Files, endpoint: str) -> None:
    served = node(endpoint, verify=files.bundle, cert=files.both)
    with served.mediator, serve_grpc(served.mediator, credentials=files.credentials(mutual=True)):
        for cert in ((files.cert, files.key), files.both):
            with calling(endpoint, insecure=True, verify=files.bundle, cert=cert) as caller:
                assert caller.send(Shout("tea")).unwrap() == "TEA"
        with calling(endpoint, insecure=True, verify=files.bundle) as caller:
            assert not caller.send(Shout("tea"))


def test_credentials_and_endpoint_have_to_fit(files: Files, endpoint: str) -> None:
    served = node(endpoint)
    with served.mediator, pytest.raises(ConfigurationError, match=r"^credentials: "):
        serve_grpc(served.mediator)
    served = node(endpoint.replace("grpcs", "grpc"))
    with served.mediator, pytest.raises(ConfigurationError, match=r"^credentials: "):
        serve_grpc(served.mediator, credentials=files.credentials())
