"""Connections are made within the deadline of their exchange, whatever part of making them takes its time."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3.connection

from catga_sync.transport.http import connection
from catga_sync.transport.http.connection import Connection, Exchange


def test_a_tls_handshake_has_what_connecting_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(connection, "time", clock)
    connect = urllib3.connection.connection.create_connection

    def slow(*given: Any, **options: Any) -> socket.socket:
        clock.now += 0.4
        return connect(*given, **options)

    monkeypatch.setattr(urllib3.connection.connection, "create_connection", slow)
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = Connection("127.0.0.1", server.getsockname()[1], timeout=0.6)
        with Exchange(clock.now + 0.5).run(), made._new_conn() as sock:
            assert sock.gettimeout() == pytest.approx(0.1)
        with Exchange(clock.now + 20.0).run(), made._new_conn() as sock:
            assert sock.gettimeout() == pytest.approx(0.2)
