"""The tables, and tea in stock."""

from typing import Any, ClassVar

from django.db import migrations, models

from tests.apps.messages import PIECES


def fill(apps: Any, editor: Any) -> None:
    apps.get_model("django_project", "Stock").objects.create(name="tea", pieces=PIECES)


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar[list[Any]] = []
    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("number", models.CharField(max_length=40, db_index=True)),
            ],
            options={"db_table": "orders"},
        ),
        migrations.CreateModel(
            name="Stock",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True)),
                ("pieces", models.IntegerField()),
            ],
            options={"db_table": "stock"},
        ),
        migrations.RunPython(fill),
    ]
