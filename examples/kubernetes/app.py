"""One app, several pods: whichever pod is asked, the one that has the counter's key counts."""

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from flask import Flask

from catga_sync import ClusterOptions, Mediator, Request, create_cluster, message
from catga_sync.integrations.flask import cluster_blueprint


@dataclass(frozen=True)
class Counted:
    word: str
    times: int
    pod: str


@message(route="consistent-hash", key="word")
@dataclass(frozen=True)
class CountWord(Request[Counted]):
    """Each word has a pod of its own, and moves only when pods come and go."""

    word: str


options = ClusterOptions.from_env()  # CATGA_NODE_ID, CATGA_ENDPOINT, CATGA_DISCOVERY, ...: see deployment.yaml
local = Mediator()
lock = threading.Lock()
counts: Counter[str] = Counter()


@local.handler
def count_word(request: CountWord) -> Counted:
    with lock:
        counts[request.word] += 1
        return Counted(request.word, counts[request.word], options.node_id or "")


mediator = create_cluster(local, options)
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))


@app.post("/words/<word>")
def words(word: str) -> Any:
    result = mediator.send(CountWord(word), timeout=5)
    if not result:
        return {"error": result.error}, result.http_status
    counted = result.unwrap()
    return {"word": counted.word, "times": counted.times, "pod": counted.pod}


@app.get("/healthz")
def healthz() -> str:
    # A route of the app's own: with a secret, GET /catga/cluster/node answers nodes only, and the kubelet is none.
    return "ok"
