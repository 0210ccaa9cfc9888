"""What needs an extra says which one where it is missing."""

from __future__ import annotations

import importlib
import sys

import pytest

from catga_sync.observability.logs import json_formatter


def test_without_python_json_logger_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythonjsonlogger.json", None)
    with pytest.raises(ImportError, match=r"pip install catga-sync\[logs\]"):
        json_formatter()


def test_without_opentelemetry_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "catga_sync.observability.opentelemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"pip install catga-sync\[otel\]"):
        importlib.import_module("catga_sync.observability.opentelemetry")
