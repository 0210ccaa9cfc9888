# users.py: node-1 has the handler
from flask import Flask
from catga_sync import Mediator, create_cluster
from catga_sync.integrations.flask import cluster_blueprint
from messages import GetUserRequest, UserResponse

local = Mediator()

@local.handler                       # the annotations name the request and the response type
def get_user(request: GetUserRequest) -> UserResponse:
    return UserResponse(request.user_id, "Ada")

mediator = create_cluster(local, node_id="node-1", endpoint="http://localhost:5001")
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))  # the routes for calls of other nodes
