"""The logging of both shops, as their settings have it: each line has the ids of the call."""

from __future__ import annotations

from typing import Any

__all__ = ["LOGGING"]

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"ids": {"()": "catga_sync.observability.logs.RequestIdFilter", "node_id": "shop"}},
    "formatters": {"line": {"format": "LINE %(name)s %(node_id)s %(request_id)s %(trace_id)s %(message)s"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "filters": ["ids"], "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["err"]},
}
