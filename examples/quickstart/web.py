# web.py: node-2, which has not
from flask import Flask, abort
from catga_sync import Mediator, create_cluster
from catga_sync.integrations.flask import cluster_blueprint
from messages import GetUserRequest

mediator = create_cluster(Mediator(), node_id="node-2", endpoint="http://localhost:5002")
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))

@app.get("/users/<user_id>")
def user(user_id):
    result = mediator.send(GetUserRequest(user_id))      # here or on another node: this line cannot tell
    return {"name": result.value.name} if result.is_success else abort(502, result.error)
