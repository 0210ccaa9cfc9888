"""Making a router by its name."""

import subprocess
import sys

import pytest

import catga_sync.routing
from catga_sync import ClusterNode
from catga_sync.errors import ConfigurationError
from catga_sync.routing import create_router, router_names, router_options
from tests.contracts.router import GetThing, nodes_named
from tests.tables import every_row

OPTIONS = {
    "consistent-hash": {"otherwise", "key_of"},
    "least-connections": set(),
    "least-load": set(),
    "local-first": {"otherwise", "node_id", "has_room"},
    "p2c-ewma": {"decay", "failure_penalty", "rng", "clock"},
    "random": {"rng"},
    "round-robin": set(),
    "weighted-round-robin": {"rng"},
}


@every_row("name", OPTIONS)
def test_every_built_in_router_is_made_by_its_name_alone(name):
    nodes = nodes_named("a", "b")
    assert create_router(name).route(GetThing(), nodes) in nodes


def test_the_names_and_the_options_are_known():
    assert set(router_names()) == set(OPTIONS)
    assert {name: set(router_options(name)) for name in router_names()} == OPTIONS


@every_row(
    ("name", "text"),
    [
        ("round-robbin", r"^router: 'round-robbin' is not one of .*; did you mean 'round-robin'\?$"),
        ("least-loaded", r"; did you mean 'least-load'\?$"),
        ("p2c", r"; did you mean 'p2c-ewma'\?$|weighted-round-robin$"),
        ("zzz", r"weighted-round-robin$"),
        ("__class__", r"^router: "),
        ("", r"^router: '' is not one of"),
        (None, r"^router: None is not one of"),
        (["random"], r"^router: \['random'\] is not one of"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name, text):
    with pytest.raises(ConfigurationError, match=text):
        create_router(name)


@every_row(
    ("name", "options", "text"),
    [
        ("round-robin", {"rng": 1}, r"^rng: round-robin has no such option; it has none$"),
        ("random", {"rgn": 1}, r"^rgn: random has no such option; did you mean 'rng'\?$"),
        (
            "p2c-ewma",
            {"tau": 1},
            r"^tau: p2c-ewma has no such option; its options are clock, decay, failure_penalty, rng$",
        ),
        ("random", {"rng": 7}, r"^rng: give a random.Random, or None, not 7$"),
        ("weighted-round-robin", {"rng": "x"}, r"^rng: give a random.Random"),
        ("p2c-ewma", {"rng": "x"}, r"^rng: give a random.Random"),
        ("p2c-ewma", {"clock": 1}, r"^clock: give an object with monotonic\(\)"),
        ("p2c-ewma", {"decay": 0}, r"^decay: give seconds above 0, not 0$"),
        ("p2c-ewma", {"decay": True}, r"^decay: give seconds"),
        ("p2c-ewma", {"decay": float("nan")}, r"^decay: give seconds"),
        ("p2c-ewma", {"failure_penalty": -1}, r"^failure_penalty: give seconds above 0, not -1$"),
        ("p2c-ewma", {"failure_penalty": float("inf")}, r"^failure_penalty: give seconds"),
        ("p2c-ewma", {"failure_penalty": "1"}, r"^failure_penalty: give seconds"),
        ("local-first", {"node_id": 1}, r"^node_id: give the id of this node, not 1$"),
        ("local-first", {"has_room": 1}, r"^has_room: give a function"),
        ("local-first", {"otherwise": "randon"}, r"^otherwise: 'randon' is not one of .*; did you mean 'random'\?$"),
        ("local-first", {"otherwise": "local-first"}, r"^otherwise: give another router than local-first$"),
        (
            "local-first",
            {"otherwise": 5},
            r"^otherwise: give the name of a router, or an object with route\(\), not 5$",
        ),
        ("consistent-hash", {"key_of": "user_id"}, r"^key_of: give a function that returns the key of a message"),
        ("consistent-hash", {"otherwise": object()}, r"^otherwise: give the name"),
    ],
)
def test_a_wrong_option_is_an_error_that_starts_with_its_name(name, options, text):
    with pytest.raises(ConfigurationError, match=text):
        create_router(name, **options)


class First:
    def route(self, message: object, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        return nodes[0]


@every_row("otherwise", ["random", "p2c-ewma", "consistent-hash", First(), None])
@every_row("name", ["local-first", "consistent-hash"])
def test_the_other_router_is_given_by_name_or_as_an_object(name, otherwise):
    if otherwise == name:
        otherwise = "round-robin"
    nodes = nodes_named("a", "b")
    assert create_router(name, otherwise=otherwise).route(object(), nodes) in nodes


@every_row("name", [name for name in catga_sync.routing.__all__ if name.endswith("Router")])
def test_every_class_that_is_exported_is_there(name):
    assert getattr(catga_sync.routing, name).__name__ == name


def test_what_is_not_exported_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'BestRouter'"):
        catga_sync.routing.BestRouter  # noqa: B018


def test_only_the_router_that_is_asked_for_is_loaded():
    program = """
import sys
from catga_sync.routing import create_router
create_router("random")
loaded = {name.rpartition(".")[2] for name in sys.modules if name.startswith("catga_sync.routing.")}
assert "random" in loaded, loaded
assert not loaded & {"ring", "consistent_hash", "p2c_ewma", "least_load", "weighted_round_robin"}, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
