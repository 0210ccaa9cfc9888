"""The handlers, which use the session of Flask-SQLAlchemy: one for each app context."""

from __future__ import annotations

from flask import current_app
from sqlalchemy import func, select, update

from catga_sync import BusinessError, Mediator
from catga_sync.integrations.flask import mediator
from tests.apps.flask_project.models import Order, Stock, db
from tests.apps.messages import BreakConnection, CountOrders, CrashAfterWrite, PlaceInFlask, PlaceOrder, ReadAndAsk

__all__ = ["register_handlers"]


def place_order(request: PlaceOrder) -> int:
    if not request.number:
        raise BusinessError("an order needs a number", code="NO_NUMBER")
    take = update(Stock).where(Stock.name == "tea").values(pieces=Stock.pieces - 1).returning(Stock.pieces)
    left = db.session.execute(take).scalar_one()
    db.session.add(Order(number=request.number))
    db.session.commit()
    current_app.logger.info("order %s", request.number)
    return left


def place_in_flask(request: PlaceInFlask) -> int:
    return place_order(PlaceOrder(request.number))


def count_orders(query: CountOrders) -> int:
    return db.session.scalar(select(func.count()).where(Order.number == query.number)) or 0


def crash_after_write(request: CrashAfterWrite) -> None:
    db.session.add(Order(number=request.number))
    db.session.flush()
    raise RuntimeError("the printer is on fire")


def break_connection(request: BreakConnection) -> None:
    db.session.connection().connection.driver_connection.close()
    db.session.scalar(select(func.count(Order.id)))


def read_and_ask(query: ReadAndAsk) -> int:
    orders = db.session.scalars(select(Order).order_by(Order.id)).all()
    total = sum(mediator.send(CountOrders(order.number)).unwrap() for order in orders)
    assert all(order in db.session for order in orders), "a nested call has removed the session of its caller"
    return total


def register_handlers(local: Mediator) -> Mediator:
    """Register them all, and return the mediator."""
    for handler in (place_order, place_in_flask, count_orders, crash_after_write, break_connection, read_and_ask):
        local.handler(handler)
    return local
