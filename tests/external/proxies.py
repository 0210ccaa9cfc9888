"""Reverse proxies for tests: real ones on a free port of this machine, set up as their users set them up.

Rules of this file:
1. ``require_proxies`` skips where they are not installed, and fails in CI.
2. The proxies speak HTTP/1.1 with keep-alive to the node and pass the caller's ``Host`` on; none adds a header.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import require_service
from tests.processes import Process, free_port, running

__all__ = ["PROXIES", "proxy", "require_proxies"]

# As nginx does by default from 1.29.7 on; older ones need to be told.
_NGINX = """\
daemon off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    log_format codings '$uri $upstream_http_content_encoding $sent_http_content_encoding';
    access_log {folder}/codings codings;
    {extra}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream node {{ server 127.0.0.1:{node}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://node;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""

_HAPROXY = """\
defaults
    mode {mode}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen node
    bind 127.0.0.1:{port}
    server node 127.0.0.1:{node}
"""

#: The ways in which a proxy stands before a node.
PROXIES = ("nginx", "haproxy http", "haproxy tcp")


def require_proxies() -> None:
    """Go on if the proxies are there; call it at the top of a test module."""
    __tracebackhide__ = True
    for program in ("nginx", "haproxy"):
        require_service(_program(program) is not None, f"needs {program}: apt install {program}, or alike")


@contextlib.contextmanager
def proxy(kind: str, node: Process, folder: Path, extra: str = "") -> Iterator[Process]:
    """
    Run one of ``PROXIES`` before a node until the block is left.

    Args:
        kind: Which one.
        node: The node.
        folder: For its files. nginx writes there, into ``codings``, in which coding the node has sent each response
            and in which coding it was passed on.
        extra: Further lines of the configuration of nginx.
    """
    port = free_port()
    program, _, mode = kind.partition(" ")
    text = (_HAPROXY if mode else _NGINX).format(folder=folder, port=port, node=node.port, mode=mode, extra=extra)
    file = folder / "proxy.conf"
    file.write_text(text, encoding="utf-8")
    found = _program(program)
    assert found is not None
    options = ["-f", file] if mode else ["-p", folder, "-c", file]
    with running([found, *options], port=port, cwd=folder) as process:
        yield process


def _program(name: str) -> str | None:
    """Return where a program is; Debian keeps servers where only root's path leads."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
