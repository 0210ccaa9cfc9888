"""As little of Django's settings as a project with one view needs."""

import os
import secrets

SECRET_KEY = secrets.token_hex(32)
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = ["catga_sync.integrations.django", "shop"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
TIME_ZONE = "UTC"
USE_TZ = True

CATGA = {"node_id": "shop", "endpoint": f"http://localhost:{os.environ.get('PORT', '5032')}"}
