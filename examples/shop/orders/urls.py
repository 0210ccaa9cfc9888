"""The routes of the cluster, and the pages."""

from django.urls import include, path

from orders.views import healthz, missing, place, show

urlpatterns = [
    path("", include("catga_sync.integrations.django.urls")),
    path("orders/<str:item>/<int:amount>", place),
    path("orders/<int:number>", show),
    path("missing", missing),
    path("healthz", healthz),
]
