"""Messages as bytes: the registry of their types, and the schemas that write and read them.

    registry.py        type name <-> class <-> schema and codec
    message_type.py    the entry of one class                  registration.py    checks a class and describes it
    derive.py          makes fields from annotations           annotations.py     resolves annotations
    fields/            one file for each kind of value         fielderrors.py     the errors of fields
    schema.py          CatgaSchema                             contract.py        can two nodes read each other?
    typenames.py       names of types                          dotnet.py          .NET's names of response types
    propertynames.py   names of properties
    codec.py           objects <-> bytes                       roundtrip.py       objects that need no codec
    jsontext.py        strict JSON                             jsonscan.py        limits, checked before parsing

This is the only package that uses marshmallow. Of the other modules it imports ``errors`` and ``messages`` only.
"""

from __future__ import annotations

from catga_sync.serialization.codec import Codec
from catga_sync.serialization.jsonscan import MAX_DEPTH, check_depth, check_values, count_values
from catga_sync.serialization.jsontext import dumps, loads
from catga_sync.serialization.message_type import MessageKind, MessageType
from catga_sync.serialization.registry import MessageRegistry
from catga_sync.serialization.schema import CatgaSchema
from catga_sync.serialization.typenames import MAX_NAME, default_name, short_name

__all__ = [
    "MAX_DEPTH",
    "MAX_NAME",
    "CatgaSchema",
    "Codec",
    "MessageKind",
    "MessageRegistry",
    "MessageType",
    "check_depth",
    "check_values",
    "count_values",
    "default_name",
    "dumps",
    "loads",
    "short_name",
]
