"""Two pages."""

from django.urls import path

from tests.apps.django_project.views import orders, place_in_flask

urlpatterns = [path("orders", orders), path("place-in-flask/<str:number>", place_in_flask)]
