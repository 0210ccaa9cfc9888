import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InvokeRequest(_message.Message):
    __slots__ = ("request_type_name", "response_type_name", "payload", "source_node_id", "request_id", "timestamp", "traceparent")
    REQUEST_TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    request_type_name: str
    response_type_name: str
    payload: bytes
    source_node_id: str
    request_id: str
    timestamp: _timestamp_pb2.Timestamp
    traceparent: str
    def __init__(self, request_type_name: _Optional[str] = ..., response_type_name: _Optional[str] = ..., payload: _Optional[bytes] = ..., source_node_id: _Optional[str] = ..., request_id: _Optional[str] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class InvokeResponse(_message.Message):
    __slots__ = ("request_id", "is_success", "payload", "error_message", "error_code", "processed_by_node_id", "processing_time_ms", "final", "executed")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IS_SUCCESS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    PROCESSED_BY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESSING_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    is_success: bool
    payload: bytes
    error_message: str
    error_code: str
    processed_by_node_id: str
    processing_time_ms: int
    final: bool
    executed: str
    def __init__(self, request_id: _Optional[str] = ..., is_success: bool = ..., payload: _Optional[bytes] = ..., error_message: _Optional[str] = ..., error_code: _Optional[str] = ..., processed_by_node_id: _Optional[str] = ..., processing_time_ms: _Optional[int] = ..., final: bool = ..., executed: _Optional[str] = ...) -> None: ...

class InvokeBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[InvokeRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[InvokeRequest, _Mapping]]] = ...) -> None: ...

class InvokeBatchResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[InvokeResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[InvokeResponse, _Mapping]]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeDescription(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: str
    def __init__(self, json: _Optional[str] = ...) -> None: ...
