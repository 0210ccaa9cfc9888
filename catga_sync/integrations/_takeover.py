"""Takes a connection over from the server, for a stream.

A server closes the socket of a request when it has responded, and gunicorn shuts the connection down first, which no
copy of the descriptor outlives. So the connection gets a descriptor of its own (``dup``), and the descriptor of the
server becomes that of a fresh, unconnected socket (``dup2``): the server closes that one, and its books stay right.

The response ``101`` is written here. What the server then writes goes to the unconnected socket, and fails with EPIPE
or ENOTCONN: gunicorn takes that for a caller that has gone, and says so in its log at the level DEBUG only.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from catga_sync._server_info import lent_socket
from catga_sync._socket_io import send_all
from catga_sync.integrations._hangup import hung_up

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from catga_sync.receiver.receiver import RawResponse, Receiver

__all__ = ["take_over"]

#: Seconds for writing the response, a few hundred bytes.
_TIME = 1.0


def take_over(environ: WSGIEnvironment, response: RawResponse, receiver: Receiver) -> None:
    """
    Take the connection of a request over, respond, and serve the stream. Raises nothing that a server does not expect.

    Args:
        environ: The environment of the request.
        response: What the receiver has responded, with its stream.
        receiver: Serves the calls.

    Raises:
        OSError: The caller is gone.
    """
    lent = lent_socket(environ)
    stream = response.stream
    if lent is None or stream is None:
        raise ConnectionError("the server lends no socket")
    # The timeout of the copy is its own; whether it blocks is a property of the connection.
    sock = socket.socket(lent.family, lent.type, lent.proto, fileno=os.dup(lent.fileno()))
    try:
        with socket.socket(lent.family, lent.type) as fresh:
            os.dup2(fresh.fileno(), lent.fileno(), inheritable=False)
        lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in response.headers.items())]
        sock.setblocking(False)
        send_all(sock, "\r\n".join([*lines, "", ""]).encode("ascii"), receiver.streams.monotonic() + _TIME)
    except BaseException:
        sock.close()
        raise
    receiver.streams.start(
        sock, stream.keys, receiver.serve_call, remote_address=environ.get("REMOTE_ADDR"), hung_up=hung_up
    )
