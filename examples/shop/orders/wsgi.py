"""The application, as startproject makes it; the app in INSTALLED_APPS makes its process a node."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orders.settings")

application = get_wsgi_application()
