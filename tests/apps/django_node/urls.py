"""The routes of the cluster, and one page."""

from django.urls import include, path

from tests.apps.django_node.views import place

urlpatterns = [path("", include("catga_sync.integrations.django.urls")), path("place/<str:number>", place)]
