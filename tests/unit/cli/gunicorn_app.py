"""A node of the options in the environment, for a server process."""

from catga_sync.cluster.factory import create_cluster
from catga_sync.integrations.wsgi import ClusterMiddleware
from catga_sync.mediator import Mediator
from tests.unit.cluster.real import Foreign

app = ClusterMiddleware(Foreign(), create_cluster(Mediator()))
