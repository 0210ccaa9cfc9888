"""Django behind the cluster's receiver: with this the Django process is a node as well."""

import os

from django.core.wsgi import get_wsgi_application

from catga_sync.integrations.wsgi import ClusterMiddleware

from shop.cluster import mediator

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

application = ClusterMiddleware(get_wsgi_application(), mediator)
