"""The registry's entry for one class: its names, schema and codec, and those of its response.

Only a record: ``registration.py`` makes it and ``registry.py`` keeps it.
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
    """What a registered class is used for."""

    REQUEST = "REQUEST"
    EVENT = "EVENT"
    #: A response, or any other class.
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
    #: Further names by which it is found.
    aliases: tuple[str, ...]
    kind: MessageKind
    #: The marshmallow schema of ``cls``, the user's or the derived one.
    schema: Schema = field(repr=False)
    codec: Codec = field(repr=False)
    idempotent: bool
    route: str | None
    key: str | None
    remote: bool
    #: What the type looks like on the wire, to be compared with that of another node; see ``contract.py``.
    contract: str
    #: The parameter of ``Request[...]``; ``Any`` for a bare ``Request``. None for a class that is not a request, as is
    #: all that follows.
    response_type: Any = None
    #: The type name of the response; empty if there is none.
    response_name: str = ""
    #: All names of the response type, in full and short.
    response_names: frozenset[str] = field(default=frozenset(), repr=False)
    #: The .NET names of the response type.
    response_form: Form | None = field(default=None, repr=False)
    response_codec: Codec | None = field(default=None, repr=False)
    #: The classes to check a response that is not None against. None means that it cannot be checked.
    response_check: tuple[type, ...] | None = field(default=None, repr=False)

    @property
    def response_may_be_none(self) -> bool:
        """Whether None is a valid response: the type allows it or was not given, or this is an event."""
        return self.response_codec is None or self.response_codec.nullable

    def accepts_response(self, name: str) -> bool:
        """Return whether a name means the response type: in full, with another assembly version, or by .NET's rules."""
        if name in self.response_names or short_name(name) in self.response_names:
            return True
        form, parsed = self.response_form, parse_name(name)
        return form is not None and parsed is not None and form.fits(parsed)
