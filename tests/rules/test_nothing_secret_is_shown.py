"""No key and no password is shown: by an error, a log line, the command, or the repr of what holds it."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from catga_sync import Mediator, create_cluster
from catga_sync._endpoint import check_endpoint
from catga_sync._redaction import Secret, cause_of, shown, without_credentials
from catga_sync.cli.main import main
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.cluster.startup import tell_start
from catga_sync.discovery import KubernetesDiscovery, StaticDiscovery, create_discovery
from catga_sync.discovery.base import place_of
from catga_sync.messages import Query
from catga_sync.nodes import ClusterNode, check_peer
from catga_sync.options import ClusterOptions, OptionValues
from catga_sync.wire.keys import KeyRing
from tests.conftest import require_module
from tests.thorough import tried

#: No part of it may be shown: it is looked for in two pieces, between which whatever a URL may trip over stands.
HEAD, TAIL = "h3adofit", "t4ilofit"
PLAIN = HEAD + TAIL
MARKS = ("", "/", "?", "#", "@", ":", "%40", " ", "\n", "\\", "'", "\u00e4", "[", "]", "&")
BROKEN = [f"{HEAD}{mark}{TAIL}" for mark in MARKS]

URLS = [
    *[
        f"{scheme}://{user}:{password}@host:6379/0"
        for scheme in ("redis", "rediss", "http", "https", "sqlite", "kubernetes", "memory", "ftp")
        for user in ("", "me")
        for password in BROKEN
    ],
    *[
        f"{scheme}://host/0?{name}={PLAIN}"
        for scheme in ("redis", "http", "sqlite", "kubernetes", "memory", "static")
        for name in ("password", "x", "db", "scheme")
    ],
    *[f"redis://host?password={password}" for password in BROKEN],
    *[f"{scheme}://me:{PLAIN}" for scheme in ("redis", "http", "kubernetes")],
    *[f"{start}{PLAIN}@host" for start in ("//me:", "http:/me:", "me:", "redis:me:", " http://me:", "--x=redis://me:")],
    *[f"http://me:{PLAIN}:80", f"http://{PLAIN}@", f"http://{PLAIN}@[::1", f"http://me:{PLAIN}@host:0"],
    *[f"http://me:{PLAIN}@host\n", f"http://host/#{PLAIN}", f"redis://h?{PLAIN}", f"sqlite:///x?{PLAIN}"],
]
LONG = PLAIN * 4
KEYS = [
    *[PLAIN, PLAIN + "\n", f" {LONG}", f"{LONG}\r\n", f'["{PLAIN}', f'["{PLAIN}"]', f'["{LONG}", 7]', f"[{PLAIN}]"],
    *[f'["{LONG}", "{LONG}"]', f'["{LONG}",]', f"['{LONG}']", f'[["{LONG}"]]', "[" * 2000 + PLAIN],
]
OBJECTS: list[Any] = [
    *[PLAIN.encode(), [PLAIN], (PLAIN, PLAIN), {PLAIN: PLAIN}, {PLAIN}, [[LONG]], SimpleNamespace(key=PLAIN)],
    *[[LONG] * 2, f"{PLAIN}\ud800", Secret(PLAIN)],
]

NAMES = sorted(OptionValues.__annotations__)


@dataclasses.dataclass(frozen=True)
class Ask(Query[int]):
    pass


class Told:
    """What has been shown to anybody."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
        self._texts: list[str] = []
        self._caplog = caplog
        self._capsys = capsys

    def by(self, act: Callable[[], object]) -> None:
        try:
            made = act()
        except Exception as exc:
            self.error(exc)
            return
        self._texts += [repr(made), str(made), f"{made}"]
        options = made.options if isinstance(made, ClusterMediator) else made
        if isinstance(options, ClusterOptions):
            self._texts += [repr(options), str(options), f"{options}", repr(vars(options)["secret"])]
        if isinstance(made, ClusterMediator):
            with made:
                self._texts += [repr(made.nodes), place_of(made._membership._discovery), str(made.explain(Ask()))]

    def error(self, exc: BaseException) -> None:
        # Without frames: those are lines of source, the same whatever is given, and take most of the time.
        self._texts += ["".join(traceback.format_exception(exc, limit=0))]
        each: BaseException | None = exc
        while each is not None:
            self._texts += [str(each), repr(each), repr(vars(each))]
            each = each.__cause__ or each.__context__

    def check(self) -> None:
        out, err = self._capsys.readouterr()
        everything = [*self._texts, self._caplog.text, out, err]
        around = re.compile(rf"(?s).{{0,150}}(?:{HEAD}|{TAIL}).{{0,50}}")
        # The expression is slow, and almost always there is nothing to find.
        telling = [text for text in everything if HEAD in text or TAIL in text]
        found = [match.group() for text in telling for match in around.finditer(text)]
        assert not found, "\n".join(found[:10])
        assert any(everything)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Iterator[Told]:
    caplog.set_level(logging.DEBUG)
    made = Told(caplog, capsys)
    yield made
    made.check()


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_a_url_with_a_password_is_shown_by_no_option_however_it_is_given(told: Told, name: str) -> None:
    for url in URLS[:: len(URLS) // tried(len(URLS))]:
        if not (name == "metadata" and url in URLS):
            told.by(lambda url=url: ClusterOptions(**{name: url}))
        told.by(lambda url=url: ClusterOptions(**{name: {"a": url, "url": url}}))
        told.by(lambda url=url: ClusterOptions(**{name: [url]}))
        told.by(lambda url=url: ClusterOptions.from_mapping({f"CATGA_{name.upper()}": url}))
        told.by(lambda url=url: ClusterOptions.from_env({f"CATGA_{name.upper()}": url}))
        told.by(lambda url=url: ClusterOptions.from_env({f"CATGA_{name.upper()}": json.dumps({"a": url})}))
        told.by(lambda url=url: ClusterOptions.from_env({f"CATGA_{name.upper()}X": url}))


@pytest.mark.parametrize("name", ["discovery", "idempotency", "router", "peers"])
def test_a_url_with_a_password_is_shown_by_no_mediator(told: Told, name: str) -> None:
    for url in URLS[::3]:
        told.by(
            lambda url=url: create_cluster(Mediator(), environ={}, **{name: {"b": url} if name == "peers" else url})
        )


@pytest.fixture
def redis() -> None:
    require_module("redis")


@pytest.mark.usefixtures("redis")  # before ``told``, which wants to be told something
def test_the_start_of_a_node_shows_no_password_of_its_store(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    for url in (f"redis://me:{PLAIN}@host:6379/1", f"rediss://:{HEAD}%2F{TAIL}@host", f"redis://{PLAIN}:x@host"):
        store = create_discovery(url, cluster_name="shop")
        told.by(lambda store=store: tell_start(ClusterNode("a", "http://h:1"), "shop", place_of(store), "random"))
    assert caplog.text.count("host:6379") == 3


def test_a_key_that_cannot_be_used_is_not_shown(told: Told) -> None:
    for key in KEYS:
        told.by(lambda key=key: ClusterOptions.from_env({"CATGA_SECRET": key}))
    for key in [*KEYS, *OBJECTS]:
        told.by(lambda key=key: ClusterOptions(secret=key))
        told.by(lambda key=key: ClusterOptions.from_mapping({"CATGA_SECRET": key}))
        told.by(lambda key=key: KeyRing(key))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "peers"])  # there it would be the id of a node
def test_what_is_named_a_secret_in_a_mapping_is_not_shown(told: Told, name: str) -> None:
    told.by(lambda: ClusterOptions(**{name: {"secret": PLAIN, "x": object()}}))


def test_a_good_key_is_kept_and_shown_by_nothing(told: Told) -> None:
    key = PLAIN * 4
    for given in (key, key.encode(), [key, key[::-1]], Secret(key)):
        options = ClusterOptions(secret=given, endpoint="http://localhost:5001")
        told.by(lambda options=options: options)
        told.by(lambda options=options: dataclasses.replace(options, node_id="b"))
        told.by(lambda options=options: repr(dataclasses.asdict(dataclasses.replace(options, peers=None))["secret"]))
        told.by(lambda options=options: create_cluster(Mediator(), options))
        assert KeyRing(options.secret).key_ids == KeyRing(given).key_ids


def test_options_that_stand_in_the_wrong_place_are_not_shown(told: Told) -> None:
    for given in ({"secret": PLAIN}, [PLAIN], SimpleNamespace(secret=PLAIN)):
        told.by(lambda given=given: create_cluster(given, environ={}))  # type: ignore[arg-type]
        told.by(lambda given=given: create_cluster(Mediator(), given))  # type: ignore[arg-type]


def test_a_url_with_a_password_is_shown_by_no_check_of_an_address(told: Told) -> None:
    for url in URLS:
        told.by(lambda url=url: check_endpoint(url))
        told.by(lambda url=url: check_peer("b", url))
        told.by(lambda url=url: check_peer("b", {"url": url, "signed": url}))
        told.by(lambda url=url: StaticDiscovery({"b": {"url": url}}))
        told.by(lambda url=url: StaticDiscovery([url]))  # type: ignore[arg-type]
        told.by(lambda url=url: KubernetesDiscovery("kubernetes://a/b", api_server=url))
        told.by(lambda url=url: KubernetesDiscovery(url))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "command",
    [
        *["nodes --discovery {}", "nodes --discovery={}", "nodes --endpoint {}", "nodes --endpoint a={}"],
        *[
            "nodes --timeout {}",
            "nodes --cluster {}",
            "nodes --app {}",
            "nodes --secret {}",
            "nodes --secret={}",
            "nodes --json={}",
        ],
        *["nodes {}", "{}", "drain {}", "call x --node {}", "call x {}"],
    ],
)
def test_a_command_that_is_used_wrongly_shows_no_password(
    told: Told, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CATGA_RUNTIME_DIR", str(tmp_path))
    # With a host these would be used.
    wrong = [url for url in URLS if "@host:6379" not in url or not url.startswith("redis")]
    for url in [*wrong[:: len(wrong) // tried(len(wrong))], *([PLAIN] if "--secret" in command else [])]:
        told.by(lambda url=url: main([part.replace("{}", url) for part in command.split(" ")]))


def test_a_command_still_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes", "--endpoint", "http://me:x@host:1"]) == 2
    assert "and nothing else (no user, path, query), not 'http://***@host:1'" in capsys.readouterr().err
    assert main(["nodes", "--secret", "x", "--other=y"]) == 2
    assert capsys.readouterr().err == "catga-sync: unrecognized arguments: --secret --other\n"
    assert main(["nods"]) == 2
    assert "invalid choice: *** (choose from " in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["SECRET", "DISCOVERY", "IDEMPOTENCY", "ENDPOINT", "PEERS", "REQUEST_TIMEOUT"])
def test_a_command_shows_no_key_and_no_password_of_its_environment(
    told: Told, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [url for url in URLS if "\0" not in url]
    values = KEYS if name == "SECRET" else urls[:: len(urls) // tried(len(urls))]
    for value in values:
        monkeypatch.setenv(f"CATGA_{name}", value)
        told.by(lambda: main(["nodes"]))


def test_a_command_shows_no_password_of_the_application_that_fails_to_load(
    told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shop_that_fails.py").write_text(f"raise OSError('no way to postgres://me:{PLAIN}@host/db')")
    monkeypatch.syspath_prepend(tmp_path)
    told.by(lambda: main(["nodes", "--app", "shop_that_fails:mediator"]))


@pytest.mark.parametrize(
    "text",
    [f"cannot connect to redis://me:{PLAIN}@host:6379", f"dsn redis://me:{HEAD} {TAIL}@host, twice",
     f"password={PLAIN} is wrong", f"GET http://host/x?key={PLAIN}&b={PLAIN} failed", f"(password={PLAIN})"],
)  # fmt: skip
def test_what_a_driver_says_is_told_without_its_credentials(told: Told, text: str) -> None:
    told.by(lambda: cause_of(OSError(text)))
    told.by(lambda: without_credentials(text))
    told.by(lambda: shown(OSError(text)))


def test_what_is_not_secret_is_still_told() -> None:
    assert shown("redis://me:x@host:6379/0?ssl_ca_certs=y") == "'redis://***@host:6379/0?ssl_ca_certs=***'"
    assert shown("http://localhost:99") == "'http://localhost:99'"
    assert shown("http://[::1]:99/x") == "'http://[::1]:99/x'"
    assert shown("sqlite:////srv/nodes.db") == "'sqlite:////srv/nodes.db'"
    assert shown({"a": 1, "password": "x"}) == "{'a': 1, 'password': ***}"
    assert shown([None, True, 1.5, ("x",)]) == "[None, True, 1.5, ('x')]"
    assert shown(OSError("no route")) == "OSError('no route')"
    assert shown("x" * 1000) == repr("x" * 300)
    assert cause_of(OSError("no\nroute")) == "no route"


def test_a_secret_shows_itself_in_no_form_and_is_equal_to_the_same_one() -> None:
    one = Secret("k" * 32)
    assert {repr(one), str(one), f"{one}", f"{one!r}", "%s" % one, format(one, ">3")} == {"***"}  # noqa: UP031 - a form
    assert json.dumps(one, default=str) == '"***"'
    assert one == Secret(one) == copy.deepcopy(one)
    assert one != Secret("x" * 32)
    assert one != "k" * 32
    assert hash(one) == hash(Secret("k" * 32))
    assert one.reveal() == "k" * 32
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(one)
    with pytest.raises(TypeError):
        json.dumps(one)
    with pytest.raises(AttributeError, match="immutable"):
        one._value = "x"
