"""As little of Django's settings as a project with one view needs."""

import secrets

SECRET_KEY = secrets.token_hex(32)
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
TIME_ZONE = "UTC"
USE_TZ = True
