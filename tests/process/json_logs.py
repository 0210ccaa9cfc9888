"""A configuration of gunicorn: its own lines and the app's are JSON with the ids of the call."""

import os

logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "catga_sync.observability.logs.json_formatter", "node_id": os.environ["NODE"]},
    },
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"level": "INFO", "handlers": ["out"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["out"], "propagate": False, "qualname": "gunicorn.error"},
    },
}
