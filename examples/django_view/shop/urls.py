"""The routes of the cluster, and one page."""

from django.urls import include, path

from shop.views import euro

urlpatterns = [
    path("", include("catga_sync.integrations.django.urls")),
    path("euro/<int:amount>/<str:currency>", euro),
]
