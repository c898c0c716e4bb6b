"""The views of the list."""

from django.urls import path

from tasks import views

app_name = "tasks"
urlpatterns = [
    path("", views.page, name="list"),
    path("all/", views.everything, name="all"),
]
