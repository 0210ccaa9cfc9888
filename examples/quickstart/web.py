# web.py: node-2 sends; it has no handler, so it needs no endpoint
from flask import Flask, abort
from catga_sync import Mediator, create_cluster
from messages import GetUserRequest

mediator = create_cluster(Mediator(), node_id="node-2")
app = Flask(__name__)

@app.get("/users/<user_id>")
def user(user_id):
    result = mediator.send(GetUserRequest(user_id))      # the same line, wherever the handler is
    if not result:
        abort(result.http_status)
    return {"name": result.unwrap().name}
