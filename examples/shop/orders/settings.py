"""As little of Django's settings as a project with two pages needs."""

import os
import secrets

SECRET_KEY = secrets.token_hex(32)
# Other nodes call this one by the host of its endpoint, and the kubelet by the address of the pod.
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["catga_sync.integrations.django", "orders"]
ROOT_URLCONF = "orders.urls"
WSGI_APPLICATION = "orders.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("ORDERS_FILE", "orders.sqlite3"),
        "OPTIONS": {"timeout": 20},
    }
}

CATGA: dict[str, object] = {}  # all of it from CATGA_... variables, as in the other two services
