"""Apache with Debian's mod_wsgi: a node in its daemon processes, which are another user's where root starts Apache."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode, Mediator, create_cluster
from catga_sync.nodes import STREAM
from tests.conftest import require_service
from tests.process.messages import Answer, Do, Hold
from tests.process.nodes import ROOT, wait_for
from tests.processes import Process, free_port, running, until

APACHE = shutil.which("apache2") or "/usr/sbin/apache2"
MODULES = Path("/usr/lib/apache2/modules")
#: mod_wsgi is built for one Python.
MOD_WSGI = MODULES / f"mod_wsgi.so-{sys.version_info.major}.{sys.version_info.minor}"

require_service(any(MODULES.glob("mod_wsgi.so-*")), "needs Apache: apt install apache2 libapache2-mod-wsgi-py3")
if not MOD_WSGI.exists():
    pytest.skip(f"mod_wsgi is not for this Python: there is no {MOD_WSGI}", allow_module_level=True)

pytestmark = [pytest.mark.process, pytest.mark.slow]

SECRET = "s" * 32
USER = "www-data"

CONFIGURATION = """
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/pid
ServerName localhost
Listen 127.0.0.1:{port}
User {user}
Group {user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {mod_wsgi}
ErrorLog /dev/stderr
WSGISocketPrefix {folder}/wsgi
WSGIRestrictEmbedded On
WSGIDaemonProcess node processes=2 threads=4 maximum-requests=20 python-path={root}:{packages}
WSGIScriptAlias / {folder}/node.wsgi process-group=node application-group=%{{GLOBAL}}
<Directory {folder}>
Require all granted
</Directory>
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of this user, with a folder ``node`` of the user who serves."""
    made = Path(tempfile.mkdtemp(prefix="catga-test-"))
    made.chmod(0o755)
    (made / "node").mkdir()
    if os.geteuid() == 0:
        shutil.chown(made / "node", USER, USER)
        readable = subprocess.run(["setpriv", f"--reuid={USER}", "--clear-groups", "test", "-r", __file__], check=False)
        if readable.returncode != 0:
            pytest.skip(f"{USER} cannot read this checkout")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def environment(folder: Path, cluster_name: str) -> dict[str, str]:
    return {
        "NODE": "n",
        "CLUSTER": cluster_name,
        "SECRET": SECRET,
        "DISCOVERY": f"sqlite:///{folder}/node/nodes.sqlite3",
        "TMPDIR": str(folder / "node"),
        "HEARTBEAT": "0.5",
        "HEARTBEAT_TIMEOUT": "5",
    }


@pytest.fixture
def apache(folder: Path, environment: dict[str, str]) -> Iterator[Process]:
    port = free_port()
    (folder / "node.wsgi").write_text("from tests.process.app import app as application\n")
    configuration = CONFIGURATION.format(
        folder=folder,
        port=port,
        user=USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name,
        modules=MODULES,
        mod_wsgi=MOD_WSGI,
        root=ROOT,
        packages=sysconfig.get_path("purelib"),
    )
    (folder / "apache.conf").write_text(configuration)
    command = [APACHE, "-f", str(folder / "apache.conf"), "-DFOREGROUND"]
    with running(command, port=port, cwd=ROOT, env={**environment, "PORT": str(port)}) as process:
        yield process


def test_a_node_in_daemon_processes_serves_while_they_are_replaced_and_ends_with_apache(
    apache: Process, environment: dict[str, str], folder: Path
) -> None:
    with create_cluster(
        Mediator(),
        node_id="client",
        cluster_name=environment["CLUSTER"],
        discovery=environment["DISCOVERY"],
        secret=SECRET,
    ) as client:
        wait_for(client, "n")
        seen: set[int] = set()
        told: list[CatgaResult[Answer]] = []

        def has_seen(count: int) -> bool:
            told.append(client.send(Do("x"), timeout=20.0))
            if (value := told[-1].value) is not None:
                seen.add(value.pid)
            return len(seen) >= count

        # After 20 requests each, "maximum-requests".
        until(lambda: has_seen(6), "six processes have served", 60.0)
        apache.signal(signal.SIGUSR1)
        known = len(seen)
        until(lambda: has_seen(known + 2), "new processes serve after a graceful restart", 60.0)
        wait_for(client, "n")
        assert STREAM not in client.nodes()[0].features
        failed = [each for each in told if not each]
        # Apache's own page for a process that is gone has no signature.
        assert {each.code for each in failed} <= {ErrorCode.UNAVAILABLE, ErrorCode.UNAUTHENTICATED}
        assert len(failed) <= len(seen)

        started = folder / "node" / "started"
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(lambda: until(started.exists, "the call runs") and apache.signal(signal.SIGTERM))
            result = client.send(Hold(str(started), 2.0), timeout=60.0)
            ended.result()
        # Apache closes its connection at once, and lets it run for 5 s at most ("shutdown-timeout").
        assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.UNAVAILABLE)
        apache.popen.wait(30)
        wait_for(client)
