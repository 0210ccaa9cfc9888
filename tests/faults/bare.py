"""Settings for gunicorn that set nothing: a server without the hooks."""
