"""What the registry knows of one class: its names, its schema, its codec, and those of its answer.

A record and nothing else: it is made by ``registration.py`` and kept by ``registry.py``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from catga_sync.serialization.codec import Codec
from catga_sync.serialization.dotnet import Form, parse_name
from catga_sync.serialization.typenames import short_name

__all__ = ["MessageKind", "MessageType"]


@enum.unique
class MessageKind(enum.Enum):
    """What a registered class is for."""

    REQUEST = "REQUEST"
    EVENT = "EVENT"
    #: An answer, or any other class.
    DATA = "DATA"


@dataclass(frozen=True, eq=False)
class MessageType:
    """
    A registered class. Immutable, thread-safe.

    .. versionadded:: 0.1
    """

    cls: type
    #: The type name on the wire.
    name: str
    #: Further names under which it is found.
    aliases: tuple[str, ...]
    kind: MessageKind
    #: The marshmallow schema of ``cls``, the user's or the derived one.
    schema: Schema = field(repr=False)
    codec: Codec = field(repr=False)
    #: The type name of the answer; empty where there is none.
    response_name: str
    response_codec: Codec | None = field(repr=False)
    #: The parameter of ``Request[...]``; ``Any`` for a bare ``Request``.
    response_type: Any
    #: What to give ``isinstance`` for an answer that is not None. None means that it cannot be checked so.
    response_check: tuple[type, ...] | None = field(repr=False)
    idempotent: bool
    route: str | None
    key: str | None
    remote: bool
    #: Hash of the wire contract of request and answer; see ``contract.py``.
    fingerprint: str
    #: The wire contract of request and answer in a form that can be compared; see ``contract.py``.
    contract: str
    #: Names, in full and short, that mean the type of the answer.
    response_names: frozenset[str] = field(default=frozenset(), repr=False)
    #: What .NET calls it besides.
    response_form: Form | None = field(default=None, repr=False)

    @property
    def answers_none(self) -> bool:
        """Whether None is an answer: the response type is None, Optional or not given; an event has no answer."""
        return self.response_codec is None or self.response_codec.nullable

    def accepts_response(self, name: str) -> bool:
        """Return whether this is a name of the response type: in full, of another version of its assembly, of .NET."""
        if name in self.response_names or short_name(name) in self.response_names:
            return True
        form, parts = self.response_form, parse_name(name)
        return form is not None and parts is not None and form.fits(parts)
