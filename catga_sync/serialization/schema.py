"""The base of marshmallow schemas for messages: writes camelCase, reads any letter case, makes an object.

    class UserSchema(CatgaSchema):
        class Meta:
            model = User            # not needed with @message(schema=...) or register(schema=...)

        user_id = fields.Str(required=True)      # "userId" on the wire

Rules of this file:
1. It works with marshmallow 3.26 and 4.
2. Hooks never change their input.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from marshmallow import EXCLUDE, Schema, SchemaOpts, fields, post_load, pre_load

from catga_sync.serialization.fielderrors import construct, fail
from catga_sync.serialization.propertynames import WireKeys, camel_case
from catga_sync.serialization.typenames import default_name

if TYPE_CHECKING:
    _Field = fields.Field[Any]
else:
    _Field = fields.Field

__all__ = ["CatgaSchema"]


class _Options(SchemaOpts):
    """``class Meta`` with two changes: unknown properties are ignored, and ``model`` is the class to make."""

    def __init__(self, meta: type, *args: Any, **kwargs: Any) -> None:
        super().__init__(meta, *args, **kwargs)
        self.unknown = getattr(meta, "unknown", EXCLUDE)
        self.model: type | None = getattr(meta, "model", None)


class CatgaSchema(Schema):
    """
    Base for schemas of messages. Thread-safe as long as no instance is changed.

    A field without a ``data_key`` gets its name in camelCase; a given ``data_key`` is kept. ``load`` accepts any letter
    case and snake_case and ignores unknown properties. It returns an object of the class that the schema was registered
    for, or of ``Meta.model``; with neither, a dict.

    Raises:
        RegistrationError: Two fields have the same name on the wire, where letter case and underscores are ignored.

    .. versionadded:: 0.1
    """

    OPTIONS_CLASS = _Options

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The class of the objects that ``load`` returns; set by the registry.
        self.makes: type | None = self.opts.model
        keys = {name: field.data_key or name for name, field in self.load_fields.items()}
        self._keys = WireKeys(keys, default_name(type(self)))

    @classmethod
    def derived(cls, model: type, declared: Mapping[str, _Field]) -> CatgaSchema:
        """Return the schema of a dataclass with the fields that were derived from its annotations."""
        attributes: dict[str, Any] = {}
        attributes.update(declared)
        if "Meta" in declared:  # the one name that a schema class reserves
            attributes["Meta_"] = copy.copy(declared["Meta"])
            attributes["Meta_"].attribute = "Meta"
        attributes["Meta"] = type("Meta", (), {"register": False, "model": model})
        derived: type[CatgaSchema] = type(f"{model.__name__}Schema", (_DerivedSchema,), attributes)
        return derived()

    def on_bind_field(self, field_name: str, field_obj: _Field) -> None:
        """Set the field's name on the wire if it has none. Called by marshmallow."""
        if field_obj.data_key is None:
            field_obj.data_key = camel_case(field_name)

    @pre_load
    def _match_keys(self, data: Any, **kwargs: Any) -> Any:
        if not isinstance(data, Mapping):
            fail("object", data)
        return self._keys.match(data)

    @post_load
    def _make(self, data: Any, **kwargs: Any) -> Any:
        # A user's hook may have made an object already, and a partial load cannot make one.
        if self.makes is None or not isinstance(data, Mapping) or kwargs.get("partial"):
            return data
        return construct(self.makes, data)


class _DerivedSchema(CatgaSchema):
    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        # marshmallow tries obj[attr] first, which a dataclass may define with another meaning.
        return getattr(obj, attr, default)
