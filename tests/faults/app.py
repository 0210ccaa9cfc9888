"""The Flask app that the fault tests serve."""

from __future__ import annotations

from flask import Flask

from catga_sync.integrations.flask import cluster_blueprint
from tests.faults.handlers import mediator

app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))
