"""Django behind the cluster's receiver."""

import os

from django.core.wsgi import get_wsgi_application

from catga_sync.integrations.wsgi import ClusterMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.apps.django_project.settings")
django = get_wsgi_application()

# Handlers use models, which can be imported when Django is set up.
from tests.apps.django_project.cluster import mediator  # noqa: E402

application = ClusterMiddleware(django, mediator)
