"""Kubernetes discovery over TLS, with authorities as clusters have them."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from catga_sync.discovery import kubernetes
from catga_sync.discovery.kubernetes import KubernetesApiError
from tests import processes
from tests.conftest import require_module, require_service

require_module("kubernetes")
require_service(shutil.which("openssl") is not None, "needs the openssl program, to make certificates")

# isort: split

from tests.external.kubernetes_api import KubernetesApi  # noqa: E402 - see above
from tests.external.kubernetes_case import Discover, KubernetesCase, ids, known_ids, until_ids  # noqa: E402
from tests.external.kubernetes_objects import endpoint_slice, pod  # noqa: E402

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


@dataclass(frozen=True)
class Authority:
    """A certificate authority. Immutable."""

    folder: Path

    @property
    def file(self) -> Path:
        """Its certificate."""
        return self.folder / "ca.crt"

    @classmethod
    def make(cls, folder: Path, *extensions: str) -> Authority:
        """Make one whose certificate has those extensions."""
        folder.mkdir()
        lines = ["[req]", "distinguished_name=name", "x509_extensions=ca", "[name]", "[ca]", *extensions]
        (folder / "ca.cnf").write_text("\n".join(lines))
        subject = ["-subj", "/CN=kubernetes", "-days", "30", "-config", "ca.cnf"]
        _openssl(folder, "req", "-x509", *_KEY, *subject, "-keyout", "ca.key", "-out", "ca.crt")
        return cls(folder)

    def server(self, name: str, kind: str = "IP") -> ssl.SSLContext:
        """Return the context of a server with a certificate for an address or, of the kind "DNS", a name."""
        (self.folder / "server.ext").write_text(f"subjectAltName={kind}:{name}\nextendedKeyUsage=serverAuth")
        _openssl(
            self.folder, "req", *_KEY, "-subj", "/CN=kube-apiserver", "-keyout", "server.key", "-out", "server.csr"
        )
        signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "server.ext"]
        _openssl(self.folder, "x509", "-req", "-in", "server.csr", *signer, "-out", "server.crt")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        return context


def _openssl(folder: Path, *arguments: str) -> None:
    ran = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


#: As kubeadm makes them, and as some clusters have had theirs for years: nothing but "this is an authority".
_FULL = (
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,digitalSignature,keyCertSign",
    "subjectKeyIdentifier=hash",
)
_BARE = ("basicConstraints=critical,CA:TRUE", "subjectKeyIdentifier=none")

Serve = Callable[[ssl.SSLContext], KubernetesApi]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("full") / "ca", *_FULL)


class TestTls(KubernetesCase):
    @pytest.fixture
    def serve(self) -> Iterator[Serve]:
        with ExitStack() as servers:

            def serve(tls: ssl.SSLContext) -> KubernetesApi:
                api = servers.enter_context(KubernetesApi(tls=tls))
                api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
                return api

            yield serve

    def test_lists_and_watches_where_the_authority_is_the_clusters(
        self, authority: Authority, serve: Serve, discover: Discover
    ) -> None:
        api = serve(authority.server("127.0.0.1"))
        users = discover(api_server=api.url, ca_file=authority.file)
        assert ids(users) == ["users-0"]
        processes.until(lambda: api.open_watches == 1, "a watch is open")
        api.put(endpoint_slice("users-b", pod("users-1", "10.0.0.2")))
        until_ids(users, "users-0", "users-1")
        users.close()
        processes.until(lambda: api.open_watches == 0, "the watch is closed")

    def test_that_is_never_begun_by_the_server_does_not_hold_up_closing(
        self, discover: Discover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kubernetes, "_FIRST_LIST", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(20)
            users = discover(api_server=f"https://127.0.0.1:{server.getsockname()[1]}", timeout=60.0)
            with pytest.raises(KubernetesApiError, match="the API server has not responded yet"):
                users.nodes()
            with contextlib.closing(server.accept()[0]) as accepted:
                accepted.settimeout(20)
                assert accepted.recv(1) == b"\x16"  # a handshake
                (thread,) = [each for each in threading.enumerate() if each.name == "catga-kubernetes"]
                users.close()
                assert not thread.is_alive()

    def test_bears_with_an_authority_that_is_not_by_the_book(
        self, serve: Serve, discover: Discover, tmp_path: Path
    ) -> None:
        bare = Authority.make(tmp_path / "bare", *_BARE)
        api = serve(bare.server("127.0.0.1"))
        assert ids(discover(api_server=api.url, ca_file=bare.file)) == ["users-0"]

    def test_shows_no_token_to_a_server_of_another_authority(
        self, authority: Authority, serve: Serve, discover: Discover, tmp_path: Path
    ) -> None:
        other = Authority.make(tmp_path / "other", *_FULL)
        api = serve(other.server("127.0.0.1"))
        for trusted in (authority.file, None):
            with pytest.raises(KubernetesApiError, match=r"cannot be reached: .*CERTIFICATE_VERIFY_FAILED"):
                discover(api_server=api.url, ca_file=trusted).nodes()
        assert api.asked == []

    def test_shows_no_token_to_a_server_of_another_name(
        self, authority: Authority, serve: Serve, discover: Discover
    ) -> None:
        api = serve(authority.server("127.0.0.2"))
        with pytest.raises(KubernetesApiError, match=r"cannot be reached: .*CERTIFICATE_VERIFY_FAILED"):
            discover(api_server=api.url, ca_file=authority.file).nodes()
        assert api.asked == []

    @pytest.mark.parametrize("host", ["kubernetes.default.svc", "kubernetes.default.svc.", "Kubernetes.Default.svc"])
    def test_takes_a_name_as_the_certificate_has_it(
        self, authority: Authority, serve: Serve, discover: Discover, monkeypatch: pytest.MonkeyPatch, host: str
    ) -> None:
        """A dot at the end spares the search through the domains of a pod's resolver, and is in no certificate."""
        resolve = socket.getaddrinfo
        hosts = {"127.0.0.1": "127.0.0.1", host: "127.0.0.1", host.lower(): "127.0.0.1"}  # what /etc/hosts would do
        monkeypatch.setattr(socket, "getaddrinfo", lambda name, *rest: resolve(hosts[name], *rest))
        api = serve(authority.server("kubernetes.default.svc", "DNS"))
        url = api.url.replace("127.0.0.1", host)
        assert ids(discover(api_server=url, ca_file=authority.file)) == ["users-0"]
        assert api.asked[0].headers["Host"] == url.removeprefix("https://")
        with pytest.raises(KubernetesApiError, match="CERTIFICATE_VERIFY_FAILED"):
            discover(api_server=api.url, ca_file=authority.file).nodes()

    def test_reads_the_authority_anew_when_it_has_been_replaced(
        self, authority: Authority, serve: Serve, discover: Discover, tmp_path: Path
    ) -> None:
        file = tmp_path / "ca.crt"
        other = Authority.make(tmp_path / "other", *_FULL)
        shutil.copy(other.file, file)
        users = discover(api_server=serve(authority.server("127.0.0.1")).url, ca_file=file)
        with pytest.raises(KubernetesApiError):
            users.nodes()
        shutil.copy(authority.file, file)
        processes.until(lambda: known_ids(users) == ["users-0"], "it is trusted")

    def test_names_the_file_that_is_missing_or_none(
        self, authority: Authority, serve: Serve, discover: Discover, tmp_path: Path
    ) -> None:
        api = serve(authority.server("127.0.0.1"))
        with pytest.raises(KubernetesApiError, match=r"ca_file: .*ca\.crt is not there"):
            discover(api_server=api.url, ca_file=tmp_path / "ca.crt").nodes()
        (tmp_path / "ca.crt").write_text("nothing")
        with pytest.raises(KubernetesApiError, match="cannot be reached"):
            discover(api_server=api.url, ca_file=tmp_path / "ca.crt").nodes()
        assert api.asked == []
