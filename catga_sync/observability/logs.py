"""The ids of a call on every line of the log that its thread writes, and lines as JSON.

    LOGGING = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "catga_sync.observability.logs.json_formatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
    }

It is a dictionary for ``logging.config.dictConfig``, Django's ``LOGGING`` and gunicorn's ``logconfig_dict``.
"""

from __future__ import annotations

import logging

from catga_sync.context import current_call

__all__ = ["RequestIdFilter", "json_formatter"]

#: What stands for an id outside a call.
_NONE = "-"


class RequestIdFilter(logging.Filter):
    """
    Puts ``request_id``, ``trace_id``, ``span_id`` and ``node_id`` on every record. Thread-safe.

    They are those of the call whose handler runs in the thread that writes the line: the ids that the caller's result
    has, and that stand in the lines of all other nodes. Outside a call they are "-". With ``OpenTelemetryHook`` the
    trace and the span are those of the handler's span. Lets every record pass. A record that has one of them already,
    by ``extra=`` or since another thread has written it, keeps it.

    Put it on handlers, not on loggers: the filter of a logger does not see the records of the loggers below.

    Args:
        node_id: The node of this process, for lines that are written outside a call. None means "-".

    .. versionadded:: 0.1
    """

    def __init__(self, node_id: str | None = None) -> None:
        super().__init__()
        self._node_id = _NONE if node_id is None else node_id

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the ids on a record, and let it pass."""
        call = current_call()
        put = record.__dict__.setdefault
        if call is None:
            put("request_id", _NONE)
            put("trace_id", _NONE)
            put("span_id", _NONE)
            put("node_id", self._node_id)
        else:
            put("request_id", call.request_id)
            put("trace_id", call.trace_id)
            put("span_id", call.span_id)
            put("node_id", self._node_id if call.node_id is None else call.node_id)
        return True


def json_formatter(node_id: str | None = None) -> logging.Formatter:
    """
    Return a formatter that writes each record as one line of JSON; python-json-logger makes it.

    The line has ``timestamp`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, ``request_id``, ``trace_id``,
    ``span_id``, ``node_id``, what was given with ``extra=``, and ``exc_info`` with the traceback of an exception.
    It needs no ``RequestIdFilter``, unless another thread formats the records (``QueueHandler``).

    Args:
        node_id: As in ``RequestIdFilter``.

    Raises:
        ImportError: ``python-json-logger`` is not installed.

    .. versionadded:: 0.1
    """
    try:
        from pythonjsonlogger.json import JsonFormatter
    except ImportError as exc:
        text = "lines as JSON need the python-json-logger package, version 3 or later: pip install catga-sync[logs]"
        raise ImportError(text) from exc
    put_ids = RequestIdFilter(node_id).filter

    class Formatter(JsonFormatter):
        def format(self, record: logging.LogRecord) -> str:
            put_ids(record)
            return super().format(record)

    fields = ["levelname", "name", "message", "request_id", "trace_id", "span_id", "node_id"]
    return Formatter(fields, rename_fields={"levelname": "level", "name": "logger"}, timestamp=True)
