"""A caller that has only grpcio and the messages that it compiled itself from catga.proto; nothing of catga_sync.

Arguments: the port, and the folder of the compiled messages. Prints JSON.
"""

import json
import sys
import time
import uuid

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main(port: str, folder: str) -> None:
    sys.path.insert(0, folder)
    import catga_pb2
    import catga_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        node = catga_pb2_grpc.ClusterStub(channel)
        said = {}

        def request(name: str, text: str) -> catga_pb2.InvokeRequest:
            made = catga_pb2.InvokeRequest(
                request_type_name=f"tests.channels.nodes.{name}",
                response_type_name="str",
                payload=json.dumps({"text": text}).encode(),
                request_id=uuid.uuid4().hex,
            )
            made.timestamp.FromSeconds(int(time.time()))
            return made

        response, call = node.Invoke.with_call(request("Shout", "tea"), timeout=10)
        said["invoke"] = json.loads(response.payload)
        said["metadata"] = {key: value for key, value in call.trailing_metadata() if key != "catga-signature"}
        batch = catga_pb2.InvokeBatchRequest(requests=[request("Shout", "a"), request("Nothing", "b")])
        said["batch"] = [
            [each.is_success, each.error_code, each.executed] for each in node.InvokeBatch(batch, timeout=10).responses
        ]
        description = json.loads(node.Describe(catga_pb2.DescribeRequest(), timeout=10).json)
        said["description"] = [description["nodeId"], description["grpcEndpoint"]]
        try:
            node.Invoke(catga_pb2.InvokeRequest(), timeout=10)
        except grpc.RpcError as exc:
            metadata = dict(exc.trailing_metadata())
            refusal = catga_pb2.InvokeResponse.FromString(metadata["catga-response-bin"])
            said["refusal"] = [exc.code().name, exc.details(), metadata["catga-executed"], refusal.error_code]
        health = health_pb2_grpc.HealthStub(channel)

        def state() -> str:
            answer = health.Check(health_pb2.HealthCheckRequest(service="catga.cluster.v1.Cluster"), timeout=10)
            return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

        said["health"] = state()
        database = ProtoReflectionDescriptorDatabase(channel)
        said["services"] = sorted(database.get_services())
        file = database.FindFileContainingSymbol("catga.cluster.v1.Cluster")
        said["methods"] = [method.name for service in file.service for method in service.method]
        node.Drain(catga_pb2.DrainRequest(), timeout=10)
        end = time.monotonic() + 20
        while state() == "SERVING" and time.monotonic() < end:
            pass
        said["health after drain"] = state()
        said["ours"] = [name for name in sys.modules if name.startswith("catga_sync")]
    print(json.dumps(said))


main(*sys.argv[1:])
