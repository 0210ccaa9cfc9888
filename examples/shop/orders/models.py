"""What the shop writes down."""

from django.db import models


class Order(models.Model):
    item = models.CharField(max_length=40)
    amount = models.PositiveIntegerField()
    #: None for an order that has failed; ``error`` says why.
    total = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    code = models.CharField(max_length=40, default="")
    error = models.TextField(default="")


class Missing(models.Model):
    """An item of which the stock has said that there is none left."""

    item = models.CharField(max_length=40, unique=True)
