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

__all__ = ["MAX_NAME", "Form", "contract_text", "fits"]

#: Characters in the longest type name that is registered, sent or read. .NET's have those of the parameters in them,
#: each with its assembly.
MAX_NAME = 1024

#: wire name -> (kind, may be null, must be there)
Form = dict[str, tuple[str, bool, bool]]


def contract_text(request: Form, answer: Form) -> str:
    """Return the contract of a request type with these forms."""
    return f"{_side(request)}|{_side(answer)}"


@functools.lru_cache(4096)
def fits(sender: str, receiver: str) -> bool:
    """
    Return whether a node with the contract ``receiver`` can read what one with ``sender`` sends, and is understood.

    A text that is no contract fits nothing but itself.
    """
    if sender == receiver:
        return True
    try:
        asked, answered = (_parse(side) for side in sender.split("|"))
        wanted, given = (_parse(side) for side in receiver.split("|"))
    except ValueError:
        return False
    return _can_read(asked, wanted) and _can_read(given, answered)


def _can_read(written: Form, expected: Form) -> bool:
    for name, (kind, nullable, required) in expected.items():
        found = written.get(name)
        if found is None:
            if required:
                return False
        elif found[0] != kind or (found[1] and not nullable):
            return False
    return True


def _side(form: Form) -> str:
    return ",".join(
        f"{_quoted(name)}:{kind}{'?' if nullable else ''}{'!' if required else ''}"
        for name, (kind, nullable, required) in sorted(form.items())
    )


def _quoted(name: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else f"%{ord(char):x};" for char in name)


def _parse(side: str) -> Form:
    form: Form = {}
    for part in filter(None, side.split(",")):
        name, colon, rest = part.partition(":")
        kind = rest.rstrip("?!")
        if not colon or not kind:
            raise ValueError(part)
        form[name] = (kind, "?" in rest, "!" in rest)
    return form
