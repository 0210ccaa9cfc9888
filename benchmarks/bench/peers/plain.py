"""What a team writes without a library for it: requests, a Flask view, and schemas of marshmallow on both sides."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import marshmallow as ma

from benchmarks.bench.messages import Ask, Told, answer
from benchmarks.bench.peers import Asking
from benchmarks.bench.servers import gunicorn


class AskSchema(ma.Schema):
    text = ma.fields.Str(required=True)

    @ma.post_load
    def make(self, data: dict[str, str], **kwargs: object) -> Ask:
        return Ask(**data)


class ToldSchema(ma.Schema):
    text = ma.fields.Str(required=True)

    @ma.post_load
    def make(self, data: dict[str, str], **kwargs: object) -> Told:
        return Told(**data)


def command(port: int) -> list[str]:
    return gunicorn("benchmarks.bench.peers.plain:app()", port)


@contextlib.contextmanager
def connect(port: int, callers: int) -> Iterator[list[Asking]]:
    import requests

    url = f"http://127.0.0.1:{port}/ask"
    asks, tolds = AskSchema(), ToldSchema()
    with contextlib.ExitStack() as stack:

        def asking() -> Asking:
            session = stack.enter_context(requests.Session())
            session.trust_env = False

            def ask(text: str) -> Told:
                response = session.post(url, json=asks.dump(Ask(text)), timeout=30.0)
                response.raise_for_status()
                told: Told = tolds.load(response.json())
                return told

            return ask

        yield [asking() for _ in range(callers)]


def app() -> object:
    """Return the app, for gunicorn."""
    from flask import Flask, Response, request

    flask, asks, tolds = Flask(__name__), AskSchema(), ToldSchema()

    @flask.post("/ask")
    def ask() -> Response:
        told = answer(asks.load(request.get_json()))
        return Response(json.dumps(tolds.dump(told)), mimetype="application/json")

    return flask
