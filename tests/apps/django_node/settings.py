"""
The settings of the other Django project, and of its node, which is made of ``CATGA``.

    SHOP_SETTINGS         settings that are different, as a JSON object
"""

import json
import os

from tests.apps.django_project.settings import *  # noqa: F403
from tests.apps.django_project.settings import DATABASES

INSTALLED_APPS = ["catga_sync.integrations.django", "tests.apps.django_project", "tests.apps.django_node"]
MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "tests.apps.django_node.middleware.read_body",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
ROOT_URLCONF = "tests.apps.django_node.urls"
WSGI_APPLICATION = "tests.apps.django_node.wsgi.application"
DATABASES["default"]["ATOMIC_REQUESTS"] = os.environ.get("SHOP_ATOMIC", "1") == "1"
CATGA = {"heartbeat_interval": 1.0}
globals().update(json.loads(os.environ.get("SHOP_SETTINGS", "{}")))
