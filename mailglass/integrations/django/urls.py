"""URLs of the webhook endpoint: `path("mailglass/", include("mailglass.integrations.django.urls"))`."""

from __future__ import annotations

from django.urls import path

from mailglass.integrations.django.views import webhook

app_name = "mailglass"
urlpatterns = [
    path("webhooks/<str:account>", webhook, name="webhook"),
    path("webhooks/<str:tenant>/<str:account>", webhook, name="tenant_webhook"),
]
