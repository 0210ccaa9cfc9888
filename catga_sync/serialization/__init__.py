"""Messages as bytes: the registry of their types, and the schemas that write and read them.

    registry.py       type name <-> class <-> schema and codec
    registration.py   a class is checked and entered       typenames.py, dotnet.py    what types are called
    derive.py         annotations -> strict fields         hints.py    what an annotation means
    fields/           one file a kind of value             names.py    what properties are called
    schema.py         CatgaSchema                          contract.py whether two nodes mean the same
    codec.py          objects <-> bytes                    jsontext.py strict JSON
    certain.py        what needs no codec                  refusal.py  errors
    jsonscan.py       what JSON is before it is parsed

This package is the only place where marshmallow is used. Of the rest it knows ``errors`` and ``messages``.
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
