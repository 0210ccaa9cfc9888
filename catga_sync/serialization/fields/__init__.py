"""The strict marshmallow fields: one file a kind of value, with all that is known of that kind.

    base.py        StrictField: what each kind has       hashes.py     sets and dicts that are slow to build
    text.py  boolean.py  number.py  bytes.py  time.py  uuid.py         isotext.py    times as text
    choice.py      Enum, Flag, Literal                   container.py  list, tuple, set, dict
    object.py      a dataclass as a whole                foreign.py    a schema of the user's own
    anything.py    plain JSON data, and None

Rules of this package:
1. A field converts nothing that is not its type: ``"1"`` is no int, ``1`` no str, ``True`` neither. Writing is as
   strict as reading, so what cannot be read is not sent.
2. ``to_wire`` and ``from_wire`` do the work for a value that is not None; marshmallow's own machinery and the codec
   both end there, so the two cannot differ.
3. An error says what was expected and which type was found, never the value.
4. A kind knows ``base.py``, and other kinds only where it is made of them.

Fields are immutable once they are bound, and thread-safe.
"""
