"""The names that somebody may have meant."""

from __future__ import annotations

from catga_sync._suggestion import nearest
from tests.tables import every_row

KNOWN = frozenset(
    {"shop.stock.GetStock", "shop.stock.PlaceOrder", "shop.users.GetUser.v2", "Shop.Orders.Get_Order, Shop"}
)


@every_row(
    ("name", "meant"),
    [
        ("stock.GetStock", "shop.stock.GetStock"),
        ("__main__.GetStock", "shop.stock.GetStock"),
        ("GetStock", "shop.stock.GetStock"),
        ("shop.stock.getstock", "shop.stock.GetStock"),
        ("shop.stock.GetStok", "shop.stock.GetStock"),
        ("shop.inventory.GetStocks", "shop.stock.GetStock"),
        ("shop.users.GetUser", "shop.users.GetUser.v2"),
        ("shop.orders.GetOrder", "Shop.Orders.Get_Order, Shop"),
    ],
)
def test_a_name_is_like_another_that_differs_in_module_case_ending_or_by_a_slip(name: str, meant: str) -> None:
    assert nearest(name, KNOWN)[0] == meant


@every_row("name", ["shop.stock.CancelReservation", "billing.Invoice", "x", "", "...", "shop.stock.GetStock"])
def test_a_name_that_is_like_none_or_known_is_told_nothing(name: str) -> None:
    assert "shop.stock.PlaceOrder" not in nearest(name, KNOWN)
    assert "shop.stock.GetStock" not in nearest(name, KNOWN)


def test_at_most_three_names_are_told_the_likest_first() -> None:
    assert nearest("a.Get", frozenset(f"{letter}.Get" for letter in "bcdef") | {"A.get"}) == ("A.get", "b.Get", "c.Get")


def test_a_name_that_is_not_fit_for_a_line_of_text_is_not_told() -> None:
    assert nearest("a.Get", frozenset({"b.Get\x1b[31m", "c." * 100 + "Get"})) == ()
