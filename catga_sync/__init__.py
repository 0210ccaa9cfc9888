"""A blocking cluster mediator for WSGI apps: ``mediator.send(request)`` runs the handler here or on another node."""

from catga_sync.cluster.events import ClusterEvent
from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import (
    AccessDenied,
    BusinessError,
    CallError,
    CatgaError,
    ConfigurationError,
    DeadlineExceeded,
    Delivery,
    ErrorCode,
    HandlerFailed,
    NetworkError,
    NodeIdTaken,
    NoHandlerError,
    RegistrationError,
    SerializationError,
    UnknownTypeError,
)
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request, message
from catga_sync.nodes import ClusterNode, NodeStatus
from catga_sync.options import ClusterOptions
from catga_sync.results import CatgaResult
from catga_sync.serialization import CatgaSchema, MessageRegistry

__version__ = "0.1.0"

__all__ = [
    # Mediators
    "ClusterMediator",
    "ClusterOptions",
    "Mediator",
    "create_cluster",
    # Messages
    "CatgaSchema",
    "Event",
    "MessageRegistry",
    "Query",
    "Request",
    "message",
    # Results
    "CatgaResult",
    "Delivery",
    "ErrorCode",
    # The cluster
    "ClusterEvent",
    "ClusterNode",
    "NodeStatus",
    # Errors
    "AccessDenied",
    "BusinessError",
    "CallError",
    "CatgaError",
    "ConfigurationError",
    "DeadlineExceeded",
    "HandlerFailed",
    "NetworkError",
    "NodeIdTaken",
    "NoHandlerError",
    "RegistrationError",
    "SerializationError",
    "UnknownTypeError",
]
