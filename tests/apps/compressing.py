"""A Flask app that compresses its responses, as many do, around the cluster's blueprint or middleware."""

from __future__ import annotations

from flask_compress import Compress

from tests.process.app import app

__all__ = ["app"]

Compress(app)
app.add_url_rule("/page", view_func=lambda: "tea and biscuits " * 500)
