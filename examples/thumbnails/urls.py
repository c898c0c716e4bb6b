"""The views of the thumbnails."""

from django.urls import path

from thumbnails import views

app_name = "thumbnails"
urlpatterns = [
    path("", views.page, name="page"),
    path("upload/", views.upload, name="upload"),
]
