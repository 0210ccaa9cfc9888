# Written by "python manage.py makemigrations orders".

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Missing",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("item", models.CharField(max_length=40, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("item", models.CharField(max_length=40)),
                ("amount", models.PositiveIntegerField()),
                ("total", models.DecimalField(decimal_places=2, max_digits=12, null=True)),
                ("code", models.CharField(default="", max_length=40)),
                ("error", models.TextField(default="")),
            ],
        ),
    ]
