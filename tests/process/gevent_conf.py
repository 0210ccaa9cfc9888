"""A configuration of gunicorn with ``-k gevent``: the standard library is patched before anything else is imported."""

from gevent import monkey

monkey.patch_all()

from catga_sync.integrations.gunicorn import *  # noqa: E402, F403
