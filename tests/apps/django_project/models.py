"""Orders and the stock that they take from."""

from django.db import models


class Order(models.Model):
    """One order. Its number is not unique: a call that ran twice is to be seen."""

    number = models.CharField(max_length=40, db_index=True)

    class Meta:
        db_table = "orders"


class Stock(models.Model):
    """How many pieces there are."""

    name = models.CharField(max_length=40, primary_key=True)
    pieces = models.IntegerField()

    class Meta:
        db_table = "stock"
