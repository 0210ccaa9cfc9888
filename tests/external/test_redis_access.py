"""Who is let in by a Redis server, and by what certificate it is known: passwords, ACL, TLS."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from catga_sync.discovery.redis import RedisDiscovery
from catga_sync.errors import ConfigurationError
from tests import processes
from tests.conftest import require_service
from tests.contracts.discovery import LONG, ids, record
from tests.external.redis_server import RedisServer, be_patient, require_redis

redis = require_redis()

pytestmark = [pytest.mark.redis, pytest.mark.process]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


SECRET = "p@ss/w:rd?#%&"
WRONG = "n0t-the-one"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "discovery.md"


@contextlib.contextmanager
def refused(says: str, *secrets: str) -> Iterator[None]:
    """Expect a clear refusal that gives no password away."""
    with pytest.raises(ConfigurationError, match=f"^discovery: .*{says}") as caught:
        yield
    text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for secret in (*secrets, SECRET, quote(SECRET, safe=""), WRONG):
        assert secret not in text


def works(store: RedisDiscovery) -> None:
    with contextlib.closing(store):
        store.register(record(), LONG)
        assert ids(store) == ["node-1"]
        store.deregister("node-1", "first")
        assert ids(store) == []


def every_call(store: RedisDiscovery) -> list[Callable[[], Any]]:
    return [store.nodes, lambda: store.register(record(), LONG), lambda: store.deregister("node-1", "first")]


# -- passwords ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    with RedisServer(requirepass=SECRET) as server:
        yield server


@pytest.fixture(scope="module")
def open_() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_the_right_password_lets_in_however_it_is_given(locked: RedisServer) -> None:
    host = locked.url.removeprefix("redis://")
    works(RedisDiscovery(f"redis://:{quote(SECRET, safe='')}@{host}"))
    works(RedisDiscovery(f"redis://default:{quote(SECRET, safe='')}@{host}/1"))
    works(RedisDiscovery(locked.url, password=SECRET))
    works(RedisDiscovery(f"redis://default:{WRONG}@{host}", password=SECRET))


def test_no_password_and_a_wrong_one_say_what_to_do_and_show_none(
    locked: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    where = locked.url.removeprefix("redis://")
    for call in every_call(RedisDiscovery(locked.url)):
        with refused(f"{where} requires a password; write it into the URL"):
            call()
    for url in (
        f"redis://:{WRONG}@{where}",
        f"redis://nobody:{WRONG}@{where}",
        f"redis://nobody:{SECRET[:2]}x@{where}",
    ):
        for call in every_call(RedisDiscovery(url)):
            with refused(f"{where} does not accept the user name or the password"):
                call()
    assert SECRET not in caplog.text
    assert WRONG not in caplog.text


def test_a_password_for_a_server_that_has_none_says_so(open_: RedisServer) -> None:
    with refused("does not accept the user name or the password .*without any password configured"):
        RedisDiscovery(open_.url, password=WRONG).nodes()


def test_neither_the_store_nor_what_it_uses_shows_the_password(locked: RedisServer) -> None:
    with contextlib.closing(RedisDiscovery(locked.url, password=SECRET)) as store:
        store.nodes()
        for each in (store, store._server.connected(), store._server.connected().connection_pool):
            assert SECRET not in f"{each!r} {each!s}"


# -- ACL ------------------------------------------------------------------------------------------------------------


def rule(name: str) -> str:
    """Return the ACL rule of the documentation that is for that user."""
    (found,) = [line for line in DOCS.read_text("utf-8").splitlines() if line.startswith(f"ACL SETUSER {name} ")]
    return found


@pytest.fixture
def acl(open_: RedisServer) -> Iterator[Callable[[str], str]]:
    """Make the user of a rule; return the URL with it."""
    made = []
    open_.command("FLUSHALL")

    def make(text: str) -> str:
        name = text.split()[2]
        made.append(name)
        open_.command(*text.replace("PASSWORD", WRONG).split())
        return f"redis://{name}:{WRONG}@{open_.url.removeprefix('redis://')}"

    yield make
    for name in made:
        open_.command("ACL", "DELUSER", name)


def test_the_documented_rule_for_nodes_is_enough(open_: RedisServer, acl: Callable[[str], str]) -> None:
    url = acl(rule("catga-node"))
    with contextlib.closing(RedisDiscovery(url)) as store, contextlib.closing(RedisDiscovery(open_.url)) as other:
        for number in range(250):
            store.register(record(f"pod-{number}"), LONG)
            store.deregister(f"pod-{number}", "first")
        store.register(record(), LONG)
        store.register(record("node-2"), 0.001)
        store.register(record("node-3"), LONG)
        open_.command("SCRIPT FLUSH")
        assert ids(store) == ids(other) == ["node-1", "node-3"]
        open_.command("DEL", "{catga:default}:expiry")
        store.register(record(), LONG)
        assert ids(store) == ["node-1"]


@pytest.mark.slow
def test_no_word_of_the_documented_rule_for_nodes_is_too_much(acl: Callable[[str], str]) -> None:
    words = rule("catga-node").split()
    commands = [word for word in words if word.startswith("+")]
    assert len(commands) == len(set(commands)) > 10
    for command in commands:
        url = acl(" ".join(word for word in words if word != command))
        needed = command
        with contextlib.closing(RedisDiscovery(url)) as store:
            try:
                _do_everything(store, url)
            except ConfigurationError as exc:
                assert "see the ACL rule in docs/discovery.md" in str(exc)  # noqa: PT017 - any of many calls
                needed = ""
        assert needed == "", f"{needed} is not needed"


def _do_everything(store: RedisDiscovery, url: str) -> None:
    with contextlib.closing(redis.Redis.from_url("redis://" + url.rpartition("@")[2])) as admin:
        admin.flushall()
        admin.script_flush()
        for number in range(120):
            store.register(record(f"pod-{number}"), LONG)
            store.nodes()
            store.deregister(f"pod-{number}", "first")
            store.register(record(), LONG)
        store.register(record(), LONG)
        store.deregister("node-1", "first")
        store.register(record(), 0.2)
        admin.delete("{catga:default}:expiry")
        store.register(record(), 0.2)
        store.register(record("node-2"), LONG)
        store.nodes()


def test_the_documented_rule_for_pure_clients_reads_and_cannot_write(
    open_: RedisServer, acl: Callable[[str], str]
) -> None:
    url = acl(rule("catga-client"))
    with contextlib.closing(RedisDiscovery(open_.url)) as node, contextlib.closing(RedisDiscovery(url)) as client:
        assert ids(client) == []
        node.register(record(), LONG)
        assert ids(client) == ["node-1"]
        node.register(record("node-2"), LONG)
        assert ids(client) == ["node-1", "node-2"]
        with refused("does not permit this user what is needed; see the ACL rule in docs/discovery.md"):
            client.register(record("node-3"), LONG)
        with refused("does not permit this user what is needed"):
            client.deregister("node-1", "first")
        assert ids(client) == ["node-1", "node-2"]


def test_the_documented_rules_let_nobody_into_other_clusters(acl: Callable[[str], str]) -> None:
    for name in ("catga-node", "catga-client"):
        with contextlib.closing(RedisDiscovery(acl(rule(name)), cluster_name="other")) as store:
            for call in every_call(store):
                with refused("does not permit this user what is needed"):
                    call()


# -- TLS ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """Files: a CA, what it issued for 127.0.0.1, for another host, and for a client; and a CA that issued nothing."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    found = Certificates(tmp_path_factory.mktemp("certificates"))
    issued = {"server": "127.0.0.1", "elsewhere": "10.9.8.7", "client": "192.0.2.1"}
    if importlib.util.find_spec("trustme") is not None:
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(found.ca)
        trustme.CA().cert_pem.write_to_path(found.stranger)
        for name, host in issued.items():
            authority.issue_cert(host).private_key_and_cert_chain_pem.write_to_path(getattr(found, name))
        return found
    require_service(shutil.which("openssl") is not None, "needs trustme (pip install trustme) or openssl")
    for name in ("ca", "stranger"):
        openssl(found, f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem")
    for name, host in issued.items():
        Path(found.folder, f"{name}.ext").write_text(f"subjectAltName=IP:{host}\n", "ascii")
        openssl(found, f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr")
        signed = f"-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile {name}.ext -out {name}.crt"
        openssl(found, f"x509 -req -in {name}.csr {signed}")
        both = "".join(Path(found.folder, f"{name}.{kind}").read_text("ascii") for kind in ("key", "crt"))
        Path(getattr(found, name)).write_text(both, "ascii")
    return found


def openssl(certificates: Certificates, arguments: str) -> None:
    subprocess.run(
        ["openssl", *arguments.split()], cwd=certificates.folder, check=True, capture_output=True, timeout=60
    )


def tls_server(certificates: Certificates, clients: str = "no", name: str = "server") -> RedisServer:
    own = getattr(certificates, name)
    return RedisServer(tls_cert_file=own, tls_key_file=own, tls_ca_cert_file=certificates.ca, tls_auth_clients=clients)


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> Iterator[RedisServer]:
    with tls_server(certificates) as server:
        yield server


def url_of(server: RedisServer) -> str:
    return server.url.replace("redis://", "rediss://")


def test_a_certificate_of_the_given_ca_is_trusted(tls: RedisServer, certificates: Certificates) -> None:
    works(RedisDiscovery(url_of(tls), ssl_ca_certs=certificates.ca))
    works(RedisDiscovery(url_of(tls), ssl_ca_certs=Path(certificates.ca)))
    works(RedisDiscovery(f"{url_of(tls)}?ssl_ca_certs={quote(certificates.ca)}"))


def test_a_certificate_of_any_other_ca_is_not(tls: RedisServer, certificates: Certificates) -> None:
    for options in ({}, {"ssl_ca_certs": certificates.stranger}):
        for call in every_call(RedisDiscovery(url_of(tls), password=SECRET, **options)):
            with refused("the certificate of the Redis server .* is not trusted .*give its CA as ssl_ca_certs"):
                call()


def test_a_certificate_for_another_host_is_not_trusted(certificates: Certificates) -> None:
    with tls_server(certificates, name="elsewhere") as server, refused("is not trusted .*IP address mismatch"):
        RedisDiscovery(url_of(server), ssl_ca_certs=certificates.ca, password=SECRET).nodes()


def test_a_server_that_wants_a_client_certificate_gets_it(certificates: Certificates) -> None:
    with tls_server(certificates, clients="yes") as server:
        works(RedisDiscovery(url_of(server), ssl_ca_certs=certificates.ca, ssl_certfile=certificates.client))
        works(
            RedisDiscovery(
                f"{url_of(server)}?ssl_certfile={quote(certificates.client)}&ssl_keyfile={quote(certificates.client)}",
                ssl_ca_certs=certificates.ca,
            )
        )
        store = RedisDiscovery(url_of(server), ssl_ca_certs=certificates.ca, password=SECRET)

        def is_told() -> bool:
            try:
                with refused("no TLS with the Redis server .*it requires another certificate"):
                    store.nodes()
            except redis.exceptions.ConnectionError:
                return False  # the connection was cut before the server's reason had been read
            return True

        processes.until(is_told, "the server says what it wants")


@pytest.mark.slow
def test_tls_to_a_port_without_it_says_so(
    open_: RedisServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That server waits for the end of a line, and TLS sends none: the store's patience decides how long this takes.
    monkeypatch.setattr("catga_sync._redis._TIMEOUT", 1.0)
    store = RedisDiscovery(url_of(open_), ssl_ca_certs=certificates.ca, password=SECRET)
    with refused("no TLS with the Redis server .*its port has no TLS"):
        store.nodes()


def test_a_port_for_tls_gets_no_password_in_the_clear_answered(tls: RedisServer) -> None:
    with pytest.raises(redis.exceptions.RedisError) as caught:
        RedisDiscovery(tls.url, password=SECRET).nodes()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_that_is_not_there_is_named(tls: RedisServer, certificates: Certificates, option: str) -> None:
    options = {"ssl_ca_certs": certificates.ca, option: certificates.nowhere}
    with refused(f"{option} names a file that is not there: .*nowhere.pem"):
        RedisDiscovery(url_of(tls), **options).nodes()


def test_a_file_that_is_no_certificate_is_a_clear_error(tls: RedisServer, certificates: Certificates) -> None:
    Path(certificates.garbage).write_text("no certificate", "ascii")
    with refused("no TLS with the Redis server"):
        RedisDiscovery(url_of(tls), ssl_ca_certs=certificates.garbage).nodes()
