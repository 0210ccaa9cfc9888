"""
Settings from the environment.

    SHOP_DATABASE         a database of PostgreSQL, or the path of an SQLite file
    SHOP_DATABASE_PORT    PostgreSQL's port; without it the database is SQLite
    SHOP_CONN_MAX_AGE     seconds that a connection may be used for; 0 closes it after each request
    SHOP_DEBUG            1 keeps a log of queries
    SHOP_LOGS             1 configures the log of the process
"""

import os
import secrets

from tests.apps import logs

SECRET_KEY = secrets.token_hex(32)
DEBUG = os.environ.get("SHOP_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = ["tests.apps.django_project"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "tests.apps.django_project.urls"
WSGI_APPLICATION = "tests.apps.django_project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
LOGGING = logs.LOGGING if os.environ.get("SHOP_LOGS") == "1" else {}

_POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": "127.0.0.1",
    "PORT": os.environ.get("SHOP_DATABASE_PORT"),
    "USER": "app",
}
_SQLITE = {"ENGINE": "django.db.backends.sqlite3"}

DATABASES = {
    "default": {
        **(_POSTGRES if "SHOP_DATABASE_PORT" in os.environ else _SQLITE),
        "NAME": os.environ["SHOP_DATABASE"],
        "CONN_MAX_AGE": float(os.environ.get("SHOP_CONN_MAX_AGE", "0")),
    }
}
