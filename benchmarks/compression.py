"""When compression pays: time that it costs and saves, by length of the body and bandwidth of the link.

    python benchmarks/compression.py                 measure the codings, print the tables
    python benchmarks/compression.py --netns         send over a shaped link between two network namespaces, too (root)
    python benchmarks/compression.py --write         write tables and picture into docs/compression.md, and the figures
                                                     into benchmarks/results/compression.json
    python benchmarks/compression.py --quick         only see that all runs; keeps nothing

The bodies are envelopes as they travel: orders as JSON, within base64. The time saved by a message is computed: the
bits that need not be sent, divided by the bandwidth, less the processor time to compress and to decompress. ``--netns``
shows that a real send gains as much: a node and a caller in two namespaces, the link between them shaped by ``tc tbf``.

Needs the extra ``bench``: matplotlib for the picture, gunicorn for ``--netns``. A coding whose package is missing is
left out of the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catga_sync import Mediator, Query, create_cluster, message
from catga_sync.wire.compression import codings, compress, decompress
from catga_sync.wire.envelope import RequestEnvelope

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "compression.md"
PICTURE = ROOT / "docs" / "images" / "compression.svg"

KIB, MIB = 1024, 1024 * 1024
SIZES = (512, KIB, 2 * KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
#: Bits a second, by name.
LINKS = {"10 Mbit/s": 1e7, "100 Mbit/s": 1e8, "1 Gbit/s": 1e9, "10 Gbit/s": 1e10}
#: The lengths of ``--netns``, and its links.
SENT = (KIB, 16 * KIB, 256 * KIB, 2 * MIB)
SHAPED = {"10 Mbit/s": "10mbit", "100 Mbit/s": "100mbit", "1 Gbit/s": "1gbit"}


@dataclass(frozen=True)
class Coding:
    """One way to compress. Immutable."""

    name: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Cost:
    """What a coding makes of one body. Immutable."""

    length: int
    compressed: int
    #: Seconds of processor time, each the least of several runs.
    to_compress: float
    to_decompress: float

    def saved(self, bandwidth: float) -> float:
        """Return the seconds that a message arrives earlier over so many bits a second; negative: later."""
        return 8 * (self.length - self.compressed) / bandwidth - self.to_compress - self.to_decompress


def orders(length: int) -> bytes:
    """Return the envelope of a request with orders, of about so many bytes."""
    dice = random.Random(length)
    rows: list[dict[str, Any]] = []
    size = 0
    while size * 4 / 3 < length - 250:
        row = {
            "orderId": f"{dice.getrandbits(64):016x}",
            "customer": dice.choice(["Ada Lovelace", "Grace Hopper", "Alan Turing", "Edsger Dijkstra"]),
            "amount": round(dice.uniform(1, 1000), 2),
            "currency": "EUR",
            "lines": [{"sku": f"SKU-{dice.randrange(5000)}", "quantity": dice.randrange(1, 9)} for _ in range(3)],
            "createdAt": f"2026-11-{dice.randrange(1, 29):02}T12:{dice.randrange(60):02}:00Z",
        }
        size += len(json.dumps(row, separators=(",", ":"))) + 1
        rows.append(row)
    payload = json.dumps({"orders": rows}, separators=(",", ":")).encode()
    payload = payload[: max(16, (length - 250) * 3 // 4)]
    return RequestEnvelope("shop.PlaceOrders", "shop.Receipt", payload, "0" * 32, "web-1", 1_780_000_000.0).encode()


def known_codings() -> Iterator[Coding]:
    """Yield what is compared: the library's own choice, and other levels and packages."""
    for name in codings():
        yield Coding(
            f"{name} (used)", lambda body, n=name: compress(n, body), lambda body, n=name: decompress(n, body, 8 * MIB)
        )
    yield Coding("gzip 6", lambda body: _gzip(body, 6), lambda body: zlib.decompress(body, 31))
    with contextlib.suppress(ImportError):
        brotli = importlib.import_module("brotli")
        for quality in (4, 5):
            yield Coding(
                f"br {quality}", lambda body, q=quality: brotli.compress(body, quality=q, lgwin=22), brotli.decompress
            )
    with contextlib.suppress(ImportError):
        zstandard = importlib.import_module("zstandard")
        for level in (1, 3):
            yield Coding(
                f"zstd {level}",
                lambda body, n=level: zstandard.ZstdCompressor(level=n).compress(body),
                lambda body: zstandard.ZstdDecompressor().decompress(body),
            )


def _gzip(body: bytes, level: int) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, 31)
    return stream.compress(body) + stream.flush()


def measured(coding: Coding, body: bytes, rounds: int) -> Cost:
    """Return what a coding costs."""
    made = coding.compress(body)
    assert coding.decompress(made) == body
    return Cost(len(body), len(made), _least(coding.compress, body, rounds), _least(coding.decompress, made, rounds))


def _least(function: Callable[[bytes], bytes], body: bytes, rounds: int) -> float:
    """Return the seconds of one call: the least of the rounds, each long enough for the clock."""
    calls = max(1, 200_000 // len(body))
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            function(body)
        found.append((time.process_time() - began) / calls)
    return min(found)


def keep(costs: dict[str, dict[int, Cost]], sends: dict[tuple[str, int, str], float]) -> Path:
    """Write all figures, bytes and seconds, into a file as those of ``make bench``; return the file."""
    sys.path.append(str(ROOT))
    from benchmarks.bench import measure, report

    figures = {}
    for name, by_size in costs.items():
        for size, cost in by_size.items():
            figures[f"{name} / {size} / bytes"] = [float(cost.compressed)]
            figures[f"{name} / {size} / to compress"] = [cost.to_compress]
            figures[f"{name} / {size} / to decompress"] = [cost.to_decompress]
    for (rate, size, compression), seconds in sends.items():
        figures[f"a send / {size} / {rate}, {compression}"] = [seconds]
    return report.write("compression", measure.Measured(figures), report.RESULTS)


# -- tables and picture -----------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, with numbers to the right."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(['---', *['---:'] * (len(head) - 1)])}|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def in_words(length: int) -> str:
    """Return a length as a text."""
    if length < KIB:
        return f"{length} B"
    return f"{length // KIB} KiB" if length < MIB else f"{length // MIB} MiB"


def milliseconds(seconds: float, sign: str = "") -> str:
    """Return seconds as milliseconds, with three digits that count."""
    value = 1000 * seconds
    return f"{value:{sign}.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def cost_table(costs: dict[str, dict[int, Cost]]) -> str:
    """Return the table of what each coding makes of three lengths, and how long it takes."""
    sizes = (4 * KIB, 64 * KIB, MIB)
    head = ["coding", *(f"{in_words(size)}: % left, ms to compress, to decompress" for size in sizes)]
    rows = []
    for name, by_size in costs.items():
        cells = []
        for size in sizes:
            cost = by_size[size]
            share = round(100 * cost.compressed / cost.length)
            cells.append(f"{share} %, {milliseconds(cost.to_compress)}, {milliseconds(cost.to_decompress)}")
        rows.append([name, *cells])
    return table(head, rows)


def saving_table(by_size: dict[int, Cost]) -> str:
    """Return the table of milliseconds saved by length and bandwidth."""
    rows = [
        [in_words(size), *(milliseconds(cost.saved(bandwidth), "+") for bandwidth in LINKS.values())]
        for size, cost in by_size.items()
    ]
    return table(["body", *LINKS], rows)


def sent_table(seconds: dict[tuple[str, int, str], float]) -> str:
    """Return the table of real sends."""
    rows = [
        [
            in_words(size),
            *(
                f"{milliseconds(seconds[link, size, 'off'])} / {milliseconds(seconds[link, size, 'auto'])}"
                for link in SHAPED
            ),
        ]
        for size in SENT
    ]
    return table(["body", *(f"{link}: off / auto, ms" for link in SHAPED)], rows)


def draw(by_coding: dict[str, dict[int, Cost]]) -> None:
    """Draw the share of its time that a message needs, compressed, over the bandwidth."""
    pyplot = importlib.import_module("matplotlib.pyplot")
    importlib.import_module("matplotlib").rcParams["svg.hashsalt"] = "catga_sync"
    figure, axes = pyplot.subplots(1, len(by_coding), figsize=(9, 3.6), sharey=True, squeeze=False)
    bandwidths = [10 ** (7 + step / 20) for step in range(61)]
    for axis, (name, by_size) in zip(axes[0], by_coding.items(), strict=True):
        for size in (KIB, 4 * KIB, 64 * KIB, MIB, 4 * MIB):
            cost = by_size[size]
            shares = []
            for bandwidth in bandwidths:
                plain = 8 * cost.length / bandwidth
                shares.append((plain - cost.saved(bandwidth)) / plain)
            axis.plot(bandwidths, shares, label=in_words(size))
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(xscale="log", ylim=(0, 2), title=name, xlabel="bandwidth, bit/s")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("time compressed / time as it is")
    axes[0][0].legend(title="body", fontsize="small")
    figure.tight_layout()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


def renewed(page: str, name: str, text: str) -> str:
    """Return the page with another text between the marks of that name."""
    begin, end = f"<!-- {name}: benchmarks/compression.py writes this -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise SystemExit(f"{PAGE.name}: the marks of {name!r} are missing")
    return f"{before}{begin}\n{text}\n{end}{after}"


# -- real sends over a shaped link ------------------------------------------------------------------------------------

_SPACES = ("catga-bench-a", "catga-bench-b")
_ADDRESSES = ("10.231.7.1", "10.231.7.2")
_PORT = 5001


@message(name="bench.Keep")
@dataclass(frozen=True)
class Keep(Query[int]):
    """A request with a long text; the response is its length."""

    text: str


def run(*words: str) -> None:
    """Run a command of the system."""
    subprocess.run(words, check=True)


@contextlib.contextmanager
def link() -> Iterator[None]:
    """Make two network namespaces with a link between them."""
    for space in _SPACES:
        subprocess.run(["ip", "netns", "del", space], stderr=subprocess.DEVNULL, check=False)
    try:
        for space in _SPACES:
            run("ip", "netns", "add", space)
        run(
            "ip",
            "link",
            "add",
            "catga-a",
            "netns",
            _SPACES[0],
            "type",
            "veth",
            "peer",
            "name",
            "catga-b",
            "netns",
            _SPACES[1],
        )
        for space, device, address in zip(_SPACES, ("catga-a", "catga-b"), _ADDRESSES, strict=True):
            run("ip", "-n", space, "address", "add", f"{address}/30", "dev", device)
            run("ip", "-n", space, "link", "set", device, "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
        yield
    finally:
        for space in _SPACES:
            subprocess.run(["ip", "netns", "del", space], check=False)


def shape(rate: str) -> None:
    """Give the link a bandwidth, in both directions."""
    for space, device in zip(_SPACES, ("catga-a", "catga-b"), strict=True):
        tbf = ["tbf", "rate", rate, "burst", "64kb", "latency", "400ms"]
        run("tc", "-n", space, "qdisc", "replace", "dev", device, "root", *tbf)


def real_sends() -> dict[tuple[str, int, str], float]:
    """Return the median seconds of a send by link, length and ``compression``."""
    found = {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    file = Path(__file__).resolve()
    gunicorn = [sys.executable, "-m", "gunicorn", "--log-level", "error", "-k", "gthread", "--threads", "4"]
    gunicorn += ["-b", f"{_ADDRESSES[1]}:{_PORT}", "--chdir", str(file.parent), f"{file.stem}:app()"]
    with link():
        server = subprocess.Popen(["ip", "netns", "exec", _SPACES[1], *gunicorn], env=environment)
        try:
            for name, rate in SHAPED.items():
                shape(rate)
                for compression in ("off", "auto"):
                    caller = ["ip", "netns", "exec", _SPACES[0], sys.executable, str(file), "--call", compression]
                    told = subprocess.run(caller, env=environment, check=True, capture_output=True, text=True)
                    for size, seconds in json.loads(told.stdout).items():
                        found[name, int(size), compression] = seconds
        finally:
            server.terminate()
            server.wait(20)
    return found


def text_of(length: int) -> str:
    """Return a text that makes a request of about so many bytes."""
    return orders(length * 3 // 4).decode("ascii")[:-60]


def app() -> Any:
    """Return the app of the node, for gunicorn."""
    from flask import Flask

    from catga_sync.integrations.flask import cluster_blueprint

    local = Mediator()
    local.register(Keep, lambda request: len(request.text))
    endpoint = f"http://{_ADDRESSES[1]}:{_PORT}"
    node = create_cluster(local, node_id="keeper", endpoint=endpoint, discovery="memory://", secret="bench" * 8)
    made = Flask(__name__)
    made.register_blueprint(cluster_blueprint(node))
    return made


def call(compression: str) -> None:
    """Print the median seconds of a send for each length."""
    peers = {"keeper": f"http://{_ADDRESSES[1]}:{_PORT}"}
    found = {}
    # By POST: a call over a stream is not compressed.
    options = {"peers": peers, "secret": "bench" * 8, "stream": "off", "compression": compression}
    with create_cluster(Mediator(), node_id="caller", **options) as client:
        end = time.monotonic() + 30
        while [each.handles is not None for each in client.nodes()] != [True]:
            if time.monotonic() > end:
                raise SystemExit("the node does not describe itself")
            time.sleep(0.1)
        for size in SENT:
            request = Keep(text_of(size))
            runs = []
            for _ in range(9 if size > 64 * KIB else 31):
                began = time.perf_counter()
                client.send(request).unwrap()
                runs.append(time.perf_counter() - began)
            found[size] = statistics.median(runs)
    print(json.dumps(found))


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--netns", action="store_true", help="send over a shaped link, too (root)")
    parser.add_argument("--write", action="store_true", help="write tables, picture and figures")
    parser.add_argument("--quick", action="store_true", help="only see that all runs; keeps nothing")
    parser.add_argument("--call", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.call:
        call(given.call)
        return
    bodies, rounds = {size: orders(size) for size in SIZES}, 1 if given.quick else 9
    costs = {
        coding.name: {size: measured(coding, body, rounds) for size, body in bodies.items()}
        for coding in known_codings()
    }
    used = {name: by_size for name, by_size in costs.items() if name.endswith("(used)")}
    texts = {"the codings": cost_table(costs)}
    savings = [
        f"Milliseconds saved with {name.split()[0]}:\n\n{saving_table(by_size)}" for name, by_size in used.items()
    ]
    texts["the savings"] = "\n".join(savings)
    sends = real_sends() if given.netns else {}
    if given.netns:
        texts["the sends"] = sent_table(sends)
    for text in texts.values():
        print(text)
    if given.write and not given.quick:
        print(f"written to {keep(costs, sends)}")
        draw({name.split()[0]: by_size for name, by_size in used.items()})
        page = PAGE.read_text(encoding="utf-8")
        for name, text in texts.items():
            page = renewed(page, name, text)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
