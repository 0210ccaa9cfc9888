"""Orders and the stock that they take from."""

from __future__ import annotations

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Order", "Stock", "db"]


class Base(DeclarativeBase):
    """Of all models."""


db = SQLAlchemy(model_class=Base)


class Order(db.Model):  # type: ignore[name-defined,misc]  # made at run time
    """One order. Its number is not unique: a call that ran twice is to be seen."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(index=True)


class Stock(db.Model):  # type: ignore[name-defined,misc]  # made at run time
    """How many pieces there are."""

    __tablename__ = "stock"
    name: Mapped[str] = mapped_column(primary_key=True)
    pieces: Mapped[int]
