"""Django: an app for ``INSTALLED_APPS`` that makes the process a node from ``settings.CATGA``.

    INSTALLED_APPS = [..., "catga_sync.integrations.django"]
    CATGA = {"node_id": "shop-1", "endpoint": "http://localhost:8000"}

``handlers.py`` of every installed app is imported at the start, and ``urls`` has the routes of the cluster.
"""

from catga_sync.integrations.django.node import handler, mediator, subscriber

__all__ = ["handler", "mediator", "subscriber"]
