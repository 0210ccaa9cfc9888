"""All targets. Each module has those of one kind, and makes its seeds by code."""

from __future__ import annotations

from tests.fuzz.targets import (
    compression,
    envelopes,
    headers,
    kubernetes,
    payloads,
    receivers,
    records,
    responses,
    settings,
    signatures,
    texts,
)

__all__ = ["TARGETS"]

TARGETS = (
    *envelopes.TARGETS,
    *texts.TARGETS,
    *payloads.TARGETS,
    *headers.TARGETS,
    *signatures.TARGETS,
    *compression.TARGETS,
    *receivers.TARGETS,
    *responses.TARGETS,
    *records.TARGETS,
    *kubernetes.TARGETS,
    *settings.TARGETS,
)
