"""A blocking cluster mediator for WSGI apps: ``mediator.send(request)`` runs the handler here or on another node."""

__version__ = "0.1.0"
