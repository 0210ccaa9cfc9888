"""One page."""

from django.urls import path

from shop.views import euro

urlpatterns = [path("euro/<int:amount>/<str:currency>", euro)]
