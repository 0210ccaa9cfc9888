"""Names of properties and of types."""

import sys
from dataclasses import dataclass

import pytest
from marshmallow import ValidationError

from catga_sync.errors import RegistrationError
from catga_sync.serialization.propertynames import WireKeys, camel_case, fold
from catga_sync.serialization.typenames import check_name, default_name, short_name
from tests.tables import every_row


@every_row(
    ("name", "wire"),
    [
        ("user_id", "userId"),
        ("user", "user"),
        ("class_", "class"),
        ("_internal_id", "_internalId"),
        ("__dunder__", "__dunder"),
        ("line_1_total", "line1Total"),
        ("a__b", "aB"),
        ("UserId", "userId"),
        ("URL", "url"),
        ("MAX_SIZE", "maxSize"),
        ("_", "_"),
        ("straße_nr", "straßeNr"),
        ("x_ßy", "xßy"),
    ],
)
def test_an_attribute_is_written_in_camel_case(name, wire):
    assert camel_case(name) == wire
    assert fold(wire) == fold(name)


@every_row("spelling", ["userId", "user_id", "USERID", "UserId", "User_ID", "userid", "user_id_"])
def test_any_spelling_of_a_property_finds_its_field(spelling):
    assert WireKeys({"user_id": "userId"}, "C").match({spelling: 1}) == {"userId": 1}


def test_a_leading_underscore_counts():
    assert WireKeys({"user_id": "userId"}, "C").match({"_userId": 1}) == {"_userId": 1}


def test_data_under_the_exact_names_is_not_copied():
    data = {"userId": 1}
    assert WireKeys({"user_id": "userId", "b": "b"}, "C").match(data) is data


def test_matching_changes_nothing_that_was_given():
    data = {"user_id": 1, "other": 2}
    assert WireKeys({"user_id": "userId"}, "C").match(data) == {"userId": 1, "other": 2}
    assert data == {"user_id": 1, "other": 2}


def test_two_spellings_of_one_property_are_refused():
    with pytest.raises(ValidationError, match=r"userId.*twice"):
        WireKeys({"user_id": "userId"}, "C").match({"userId": 1, "USERID": 2})


@pytest.mark.parametrize("names", [{"a_b": "aB", "ab": "ab"}, {"a_b": "aB", "aB": "aB"}])
def test_two_fields_that_are_one_name_on_the_wire_cannot_be(names):
    with pytest.raises(RegistrationError, match=r"m\.C: the fields 'a_b' and '(ab|aB)'"):
        WireKeys(names, "m.C")


@every_row(
    ("name", "short"),
    [
        ("messages.GetUser", "messages.GetUser"),
        ("Acme.Get, Acme, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null", "Acme.Get"),
        ("Acme.Get,Acme", "Acme.Get"),
        ("Acme.Page`1[[Acme.User, Acme, Version=1.0.0.0]], Acme.Paging", "Acme.Page`1[[Acme.User]]"),
        ("M`2[[A, X],[B`1[[C, Y]], Z]], W", "M`2[[A],[B`1[[C]]]]"),
        ("Acme.User[], Acme", "Acme.User[]"),
        ("Acme.Grid[,], Acme", "Acme.Grid[,]"),
        ("Acme.Outer+Inner, Acme", "Acme.Outer+Inner"),
        ("list[dict[str, int]]", "list[dict[str, int]]"),
        ("]], x", "]]"),
    ],
)
def test_the_short_form_of_a_name_has_no_assembly(name, short):
    assert short_name(name) == short
    assert short_name(short) == short


@every_row("name", ["", "x" * 1025, "a\nb", "a\0b", "\u202ename", ", Assembly", 7, None])
def test_a_name_that_cannot_be_is_refused(name):
    with pytest.raises(RegistrationError, match=r"^m\.C: name:"):
        check_name(name, "m.C")


def test_a_name_of_1024_characters_can_be():
    assert check_name("x" * 1024, "C") == "x" * 1024


def test_the_default_name_is_module_and_qualname():
    @dataclass
    class Inner:
        pass

    assert default_name(Inner) == f"{__name__}.test_the_default_name_is_module_and_qualname.<locals>.Inner"


def test_main_is_named_after_its_file(monkeypatch):
    cls = type("C", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/srv/app/users.py", raising=False)
    assert default_name(cls) == "users.C"
    monkeypatch.delattr(sys.modules["__main__"], "__file__")
    assert default_name(cls) == "__main__.C"
