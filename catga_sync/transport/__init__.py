"""Ways to another node: ``base.py`` says what an invoker is, ``http.py`` is the one over ``requests``."""

from catga_sync.transport.base import RemoteInvoker
from catga_sync.transport.invoker import HttpInvoker

__all__ = ["HttpInvoker", "RemoteInvoker"]
