"""Type name <-> class <-> schema and codec. All type names from the wire are resolved here.

Rules of this file:
1. A look-up is one read of a dict that never changes. Registering makes new dicts and swaps them under the lock.
2. A name never leads to an import or to getattr.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from catga_sync import _fork
from catga_sync.errors import RegistrationError, UnknownTypeError
from catga_sync.messages import options_of
from catga_sync.serialization.fields.object import Shape
from catga_sync.serialization.message_type import MessageType
from catga_sync.serialization.registration import Draft
from catga_sync.serialization.typenames import MAX_NAME, default_name, short_name

__all__ = ["MessageRegistry"]


class MessageRegistry:
    """
    The message types of a process. Thread-safe; look-ups take no lock.

    Iterating yields a ``MessageType`` for each class, in the order of registration.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        # The lock guards the swap of the three dicts. It is re-entrant because a user's schema is instantiated under
        # it and may itself register a class.
        self._lock = threading.RLock()
        self._by_type: dict[type, MessageType] = {}
        self._by_name: dict[str, MessageType] = {}
        self._shapes: dict[Any, Shape] = {}
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.RLock()

    def register(
        self,
        cls: type,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        schema: Any = None,
        response_name: str | None = None,
        response_schema: Any = None,
        idempotent: bool | None = None,
        route: str | None = None,
        key: str | None = None,
        remote: bool | None = None,
    ) -> MessageType:
        """
        Register a class, and the class of its response with it.

        The options given here override those of ``@message``. A class can be registered again as long as no option
        differs from the first time.

        Args:
            cls: A ``Request``, an ``Event``, or the class of a response.
            name, aliases, schema, response_name, response_schema, idempotent, route, key, remote: See ``message``. None
                (or no aliases) means the value given to ``@message``.

        Returns:
            The entry of the class.

        Raises:
            RegistrationError: The class cannot be registered; the text says why and what to do. The registry stays as
                it was.
        """
        if not isinstance(cls, type):
            raise RegistrationError(f"register: give a class, not {cls!r}")
        if isinstance(aliases, str):
            raise RegistrationError(f"aliases: give a list or tuple of names, not the string {aliases!r}")
        given = {
            "name": name,
            "aliases": tuple(aliases) or None,
            "schema": schema,
            "response_name": response_name,
            "response_schema": response_schema,
            "idempotent": idempotent,
            "route": route,
            "key": key,
            "remote": remote,
        }
        given = {option: value for option, value in given.items() if value is not None}
        with self._lock:
            known = self._by_type.get(cls)
            if known is not None:
                _check_same(known, given)
                return known
            draft = Draft(self._by_type, self._by_name, self._shapes)
            entry = draft.add(cls, replace(options_of(cls), **given))
            # Merged, since a schema may have registered another class meanwhile.
            self._by_name = {**self._by_name, **draft.by_name}
            self._shapes = {**self._shapes, **draft.shapes}
            self._by_type = {**self._by_type, **draft.by_type}
            return entry

    def ensure(self, cls: type) -> MessageType:
        """
        Return the entry of a class, and register the class on first use.

        Raises:
            RegistrationError: As ``register``.
        """
        entry = self._by_type.get(cls)
        return self.register(cls) if entry is None else entry

    def by_name(self, name: str) -> MessageType:
        """
        Return the type with this name, alias, or .NET name, of whatever assembly version.

        Raises:
            UnknownTypeError: No registered type has this name.
        """
        entry = self.find(name)
        if entry is None:
            shown = name if isinstance(name, str) and len(name) <= MAX_NAME else f"{str(name)[:80]}..."
            raise UnknownTypeError(
                f"{shown!r} is not registered here; register a class of that name, or give a class this alias with "
                "@message(aliases=[...])"
            )
        return entry

    def by_type(self, cls: type) -> MessageType:
        """
        Return the entry of a class.

        Raises:
            UnknownTypeError: The class is not registered.
        """
        entry = self._by_type.get(cls)
        if entry is None:
            shown = default_name(cls) if isinstance(cls, type) else repr(cls)
            raise UnknownTypeError(f"{shown} is not registered; call register() with it")
        return entry

    def find(self, name: str) -> MessageType | None:
        """Return what ``by_name`` returns, or None if there is none."""
        if not isinstance(name, str) or len(name) > MAX_NAME:
            return None
        names = self._by_name
        entry = names.get(name)
        if entry is None and "," in name:
            entry = names.get(short_name(name))
        return entry

    def __contains__(self, item: object) -> bool:
        if isinstance(item, type):
            return item in self._by_type
        return isinstance(item, str) and self.find(item) is not None

    def __iter__(self) -> Iterator[MessageType]:
        return iter(tuple(self._by_type.values()))

    def __len__(self) -> int:
        return len(self._by_type)


def _check_same(known: MessageType, given: dict[str, Any]) -> None:
    for option, value in given.items():
        if option == "aliases":
            same = set(value) <= {known.name, *known.aliases}
        elif option == "schema":
            same = known.schema is value or type(known.schema) is value
        elif option == "response_schema":
            used = getattr(known.response_codec and known.response_codec.field, "schema", None)
            same = used is not None and (used is value or type(used) is value)
        else:
            same = getattr(known, option) == value
        if not same:
            raise RegistrationError(
                f"{default_name(known.cls)}: {option}: the class is registered already with another value; give the "
                "option before a handler or a call uses the class, or in @message"
            )
