"""A body that would be a gigabyte once it is decompressed is refused, and takes little memory until then."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.conftest import require_module
from tests.process.nodes import ROOT

pytestmark = pytest.mark.process

LIMIT = 4 * 1024 * 1024
GIGABYTE = 1024 * 1024 * 1024

#: Prints the status and ``Catga-Executed`` of the response, and by how many bytes the peak of memory has grown.
_RECEIVE = """
import io, re, sys
from pathlib import Path
from catga_sync import Mediator, create_cluster
from catga_sync.receiver.request import RawRequest
from catga_sync.wire.compression import compress

coding, file, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
options = {"insecure": True, "discovery": "memory://", "environ": {}, "max_body_bytes": limit}
node = create_cluster(Mediator(), node_id="node", endpoint="http://127.0.0.1:5001", **options)

def handle(body):
    headers = {"host": "127.0.0.1:5001", "content-type": "application/json", "content-encoding": coding}
    path = "/catga/cluster/invoke"
    raw = RawRequest("POST", path, headers, io.BytesIO(body).read, len(body), remote_address="127.0.0.1")
    response = node.receiver.handle(raw)
    return response.status, response.headers["Catga-Executed"]

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

bomb = file.read_bytes()
handle(compress(coding, b"{}"))  # whatever is made once is made now
before = peak()
status, executed = handle(bomb)
print(status, executed, peak() - before)
node.close()
"""


def gzip_bomb() -> bytes:
    """Return a member whose content is a gigabyte; made of one piece, so that it takes no time."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = stream.compress(bytes(1024 * 1024)) + stream.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    crc = 0
    for _ in range(1024):
        crc = zlib.crc32(bytes(1024 * 1024), crc)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + piece * 1024 + end + struct.pack("<II", crc, GIGABYTE)


def brotli_bomb() -> bytes:
    brotli = require_module("brotli")
    stream = brotli.Compressor(quality=1, lgwin=22)
    return b"".join([*(stream.process(bytes(1024 * 1024)) for _ in range(1024)), stream.finish()])


def brotli_bomb_with_a_large_window() -> bytes:
    brotli = require_module("brotli")
    stream = brotli.Compressor(quality=1, lgwin=24)
    return b"".join([*(stream.process(bytes(1024 * 1024)) for _ in range(1024)), stream.finish()])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("coding", "make", "status"),
    [
        pytest.param("gzip", gzip_bomb, 413, id="gzip"),
        pytest.param("br", brotli_bomb, 413, id="brotli"),
        pytest.param("br", brotli_bomb_with_a_large_window, 400, id="brotli, large window"),
    ],
)
def test_a_bomb_is_refused_and_takes_at_most_three_times_the_limit(
    coding: str, make: object, status: int, tmp_path: Path
) -> None:
    assert callable(make)
    file = tmp_path / "bomb"
    file.write_bytes(make())
    assert file.stat().st_size < LIMIT
    run = subprocess.run(
        [sys.executable, "-c", _RECEIVE, coding, str(file), str(LIMIT)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    seen, executed, grown = run.stdout.split()
    assert (int(seen), executed) == (status, "0")
    assert int(grown) <= 3 * LIMIT


@pytest.mark.slow
def test_the_bomb_of_gzip_is_one() -> None:
    stream, size, rest = zlib.decompressobj(31), 0, gzip_bomb()
    while rest:
        size += len(stream.decompress(rest, 16 * 1024 * 1024))
        rest = stream.unconsumed_tail
    assert stream.eof
    assert size == GIGABYTE
