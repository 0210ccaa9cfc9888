"""Calls to other nodes over gRPC. It needs the extra ``grpc``, and is imported when it is needed first."""

from __future__ import annotations
