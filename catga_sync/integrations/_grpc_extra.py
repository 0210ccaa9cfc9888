"""What the extra ``grpc`` brings for a server; an error that says what to install where it is missing."""

from __future__ import annotations

try:
    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
except ImportError as exc:
    raise ImportError(f"gRPC needs more packages ({exc.name}): pip install catga-sync[grpc]", name=exc.name) from exc

__all__ = ["grpc", "health", "health_pb2", "health_pb2_grpc", "reflection", "reflection_pb2_grpc"]
