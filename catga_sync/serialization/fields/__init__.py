"""The strict marshmallow fields: one file for each kind of value, with everything about that kind.

    base.py        the bases of all kinds                hashes.py     sets and dicts that are slow to build
    text.py  boolean.py  number.py  bytes.py  time.py  uuid.py         isotext.py    times as text
    choice.py      Enum, Flag, Literal                   container.py  list, tuple, set, dict
    object.py      dataclasses                           foreign.py    the user's marshmallow schemas
    anything.py    plain JSON data, and None

Rules of this package:
1. A field accepts values of its type only: ``"1"`` is not an int, ``1`` is not a str, and ``True`` is neither. Writing
   is as strict as reading, so that nothing is sent that cannot be read.
2. ``to_wire`` and ``from_wire`` convert values that are not None. Both marshmallow's own calls and the codec use them,
   so that the two cannot differ.
3. An error says what was expected and which type was found, and never shows the value.
4. A kind imports ``base.py``, and other kinds only if it is made of them.

Fields are immutable once they are bound, and thread-safe. ``../derive.py`` decides which field an annotation gets.
"""
