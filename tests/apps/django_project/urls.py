"""One page."""

from django.urls import path

from tests.apps.django_project.views import orders

urlpatterns = [path("orders", orders)]
