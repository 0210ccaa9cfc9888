"""The marshmallow schema base: camelCase out, any letter case in, and an object made of it.

    class UserSchema(CatgaSchema):
        class Meta:
            model = User            # not needed where @message(schema=...) or register() says it

        user_id = fields.Str(required=True)      # "userId" on the wire

Rules of this file:
1. Works with marshmallow 3.26 and 4.
2. Hooks are pure: what was given is never changed.
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
    """``class Meta`` with two more rules: unknown properties are ignored, and ``model`` is the class to make."""

    def __init__(self, meta: type, *args: Any, **kwargs: Any) -> None:
        super().__init__(meta, *args, **kwargs)
        self.unknown = getattr(meta, "unknown", EXCLUDE)
        self.model: type | None = getattr(meta, "model", None)


class CatgaSchema(Schema):
    """
    Base for schemas of messages. Thread-safe, as long as nobody changes an instance.

    A field without a ``data_key`` gets its name in camelCase; a ``data_key`` is kept as it is. On load any letter case
    and snake_case are accepted, unknown properties are ignored, and the result is an object of the class that the
    schema was registered for, or of ``Meta.model``. With neither, it is a dict.

    Raises:
        RegistrationError: Two fields have the same name on the wire, where letter case and underscores do not count.

    .. versionadded:: 0.1
    """

    OPTIONS_CLASS = _Options

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The class whose objects ``load`` makes; set by the registry.
        self.makes: type | None = self.opts.model
        keys = {name: field.data_key or name for name, field in self.load_fields.items()}
        self._keys = WireKeys(keys, default_name(type(self)))

    @classmethod
    def derived(cls, model: type, declared: Mapping[str, _Field]) -> CatgaSchema:
        """Return the schema of a dataclass, for fields that were derived from its annotations."""
        attributes: dict[str, Any] = {}
        attributes.update(declared)
        if "Meta" in declared:  # the one name that a schema class needs for itself
            attributes["Meta_"] = copy.copy(declared["Meta"])
            attributes["Meta_"].attribute = "Meta"
        attributes["Meta"] = type("Meta", (), {"register": False, "model": model})
        derived: type[CatgaSchema] = type(f"{model.__name__}Schema", (_DerivedSchema,), attributes)
        return derived()

    def on_bind_field(self, field_name: str, field_obj: _Field) -> None:
        """Give the field its name on the wire, if it has none. For marshmallow."""
        if field_obj.data_key is None:
            field_obj.data_key = camel_case(field_name)

    @pre_load
    def _match_keys(self, data: Any, **kwargs: Any) -> Any:
        if not isinstance(data, Mapping):
            fail("object", data)
        return self._keys.match(data)

    @post_load
    def _make(self, data: Any, **kwargs: Any) -> Any:
        # A hook of the user's own may have made something already; of a part nothing can be made.
        if self.makes is None or not isinstance(data, Mapping) or kwargs.get("partial"):
            return data
        return construct(self.makes, data)


class _DerivedSchema(CatgaSchema):
    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        # marshmallow tries obj[attr] first, which a dataclass may use for something else.
        return getattr(obj, attr, default)
