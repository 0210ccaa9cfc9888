"""Flask: an extension that makes an app a node, the receiver as a blueprint, and error pages for failed calls."""

from catga_sync.integrations.flask.blueprint import cluster_blueprint
from catga_sync.integrations.flask.error_handlers import register_error_handlers
from catga_sync.integrations.flask.extension import CatgaCluster
from catga_sync.integrations.flask.scope import mediator

__all__ = ["CatgaCluster", "cluster_blueprint", "mediator", "register_error_handlers"]
