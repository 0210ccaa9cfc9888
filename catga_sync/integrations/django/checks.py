"""What ``manage.py check`` says of the node: options, handlers, and what keeps calls of other nodes from the view."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.http.request import split_domain_port, validate_host
from django.urls import Resolver404, resolve

from catga_sync.errors import CatgaError
from catga_sync.integrations.django.handler_modules import found
from catga_sync.integrations.django.node import mediator, under_test
from catga_sync.options import ClusterOptions
from catga_sync.wire.routes import INVOKE_PATH

__all__ = ["check"]

_INCLUDE = 'path("", include("catga_sync.integrations.django.urls"))'
_SECURITY = "django.middleware.security.SecurityMiddleware"
_COMMON = "django.middleware.common.CommonMiddleware"
#: What Django allows under DEBUG where ALLOWED_HOSTS is empty.
_DEBUG_HOSTS = [".localhost", "127.0.0.1", "[::1]"]


def check(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """Return what is wrong; Django calls this."""
    messages = list(_handlers())
    try:
        options = mediator.options
    except (CatgaError, ImportError) as exc:
        # An error of an option tells it itself.
        where = "" if str(exc).startswith(("settings.", "CATGA_")) else "settings.CATGA: "
        messages.append(Error(f"{where}{exc}", id="catga.E001"))
        return messages
    if options.secret is not None and settings.DEBUG:
        text = "settings.CATGA: secret is used with DEBUG, whose error pages show the local variables of a request"
        messages.append(checks.Warning(text, hint="Use another secret here than in production.", id="catga.W004"))
    if not under_test():  # there, DEBUG is off and ALLOWED_HOSTS as it is; and nobody calls this process
        messages += _reachable(options)
    return messages


def _handlers() -> Iterator[CheckMessage]:
    for name, error in found.failed.items():
        yield Error(f"{name}: {error}", id="catga.E002")
    for name in found.idle:
        hint = "Decorate functions with @handler or @subscriber of catga_sync.integrations.django."
        yield checks.Warning(f"{name}: it registers no handler and no subscriber", hint=hint, id="catga.W003")


def _reachable(options: ClusterOptions) -> Iterator[CheckMessage]:
    """Yield what keeps other nodes from this one."""
    has_routes = _has_routes()
    if options.endpoint is None:
        if has_routes:
            text = "settings.CATGA: endpoint is not set, so no other node finds this one"
            hint = 'Set it, as in "endpoint": "http://localhost:8000", or leave the routes out of the URLconf.'
            yield checks.Warning(text, hint=hint, id="catga.W005")
        return
    url = urlsplit(options.endpoint)
    if url.scheme not in ("http", "https"):
        return
    if not has_routes:
        text = f"settings.CATGA: endpoint is set, and the root URLconf does not serve {INVOKE_PATH}"
        hint = f"Begin urlpatterns with {_INCLUDE}; silence this where ClusterMiddleware serves the routes."
        yield checks.Warning(text, hint=hint, id="catga.W006")
        return
    host = split_domain_port(url.netloc)[0]
    allowed = settings.ALLOWED_HOSTS or (_DEBUG_HOSTS if settings.DEBUG else [])
    if not validate_host(host, allowed):
        text = f"ALLOWED_HOSTS: {host} is missing, the host of the endpoint, at which other nodes call this one"
        yield Error(text, hint=f"Add {host!r}.", id="catga.E007")
    if url.scheme == "http" and settings.SECURE_SSL_REDIRECT and _SECURITY in settings.MIDDLEWARE:
        path = INVOKE_PATH.lstrip("/")
        if not any(re.search(pattern, path) for pattern in settings.SECURE_REDIRECT_EXEMPT):
            text = "SECURE_SSL_REDIRECT: calls of other nodes to the endpoint, which is http://, are redirected"
            hint = "Set SECURE_REDIRECT_EXEMPT = [r'^catga/cluster/'], or use an https:// endpoint."
            yield Error(text, hint=hint, id="catga.E008")

    if settings.PREPEND_WWW and _COMMON in settings.MIDDLEWARE and not host.startswith("www."):
        text = f"PREPEND_WWW: calls of other nodes to the endpoint are redirected, since {host} has no www."
        yield Error(text, hint="Use an endpoint whose host begins with www., or PREPEND_WWW = False.", id="catga.E009")


def _has_routes() -> bool:
    if not getattr(settings, "ROOT_URLCONF", None):
        return False
    from catga_sync.integrations.django.views import receive

    try:
        return resolve(INVOKE_PATH).func is receive
    except Resolver404:
        return False
