"""Whether two nodes that mean the same message by name can read each other's form of it.

A contract is a line of text that a node tells of each type: for every property of request and answer its wire name, a
hash of its kind, whether null is allowed (``?``) and whether it must be there (``!``):

    userId:3f2a9c01!,page:77b0c2d4?|name:1c4e5a90!

Sending a newer form to an older node, or the other way round, is fine as long as the reader finds what it needs: what
it does not know it ignores. So a rolling deploy that adds a property with a default keeps going, and one that changes
a property's kind never sends a message to a node that cannot read it.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator

__all__ = ["MAX_NAME", "Form", "contract_text", "differences"]

#: Characters in the longest type name that is registered, sent or read. .NET's have those of the parameters in them,
#: each with its assembly.
MAX_NAME = 1024
#: Characters of a property's name that a text shows.
_LONGEST_NAME = 64

#: wire name -> (kind, may be null, must be there)
Form = dict[str, tuple[str, bool, bool]]


def contract_text(request: Form, answer: Form) -> str:
    """Return the contract of a request type with these forms."""
    return f"{_side(request)}|{_side(answer)}"


@functools.lru_cache(4096)
def differences(sender: str, receiver: str) -> tuple[str, ...]:
    """
    Return in words what the receiver cannot read of a request, and the sender of its response; empty if they can.

    "Here" is the sender, "there" the receiver. A contract holds hashes of kinds: that two kinds differ can be said, and
    not how. A text that is no contract fits nothing but itself.
    """
    if sender == receiver:
        return ()
    try:
        asked, answered = (_parse(side) for side in sender.split("|"))
        wanted, given = (_parse(side) for side in receiver.split("|"))
    except ValueError:
        return ("its contract is in no form that this version can read",)
    return (
        *_obstacles(asked, wanted, "the request", writer="here", reader="there"),
        *_obstacles(given, answered, "the response", writer="there", reader="here"),
    )


def _obstacles(written: Form, expected: Form, whole: str, *, writer: str, reader: str) -> Iterator[str]:
    for name, (kind, nullable, required) in expected.items():
        found = written.get(name)
        # The form of what is no object has one nameless part.
        part = f"`{_unquoted(name)}`" if name else whole
        if name and whole == "the response":
            part += " of the response"
        if found is None:
            if required:
                yield f"{part} is required {reader}, absent {writer}"
        elif found[0] != kind:
            yield f"{part} is another kind of value there"
        elif found[1] and not nullable:
            yield f"{part} may be null {writer} and not {reader}"


def _side(form: Form) -> str:
    return ",".join(
        f"{_quoted(name)}:{kind}{'?' if nullable else ''}{'!' if required else ''}"
        for name, (kind, nullable, required) in sorted(form.items())
    )


def _quoted(name: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else f"%{ord(char):x};" for char in name)


def _unquoted(name: str) -> str:
    text = re.sub(r"%([0-9a-f]{1,6});", lambda match: _char(int(match[1], 16)), name)
    # A contract comes from another node, and this is read by people.
    return "".join(char if char.isprintable() else "?" for char in text[:_LONGEST_NAME])


def _char(code: int) -> str:
    return chr(code) if code <= sys.maxunicode else "?"


def _parse(side: str) -> Form:
    form: Form = {}
    for part in filter(None, side.split(",")):
        name, colon, rest = part.partition(":")
        kind = rest.rstrip("?!")
        if not colon or not kind:
            raise ValueError(part)
        form[name] = (kind, "?" in rest, "!" in rest)
    return form
