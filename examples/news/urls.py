"""The views of the news."""

from django.urls import path

from news import views

app_name = "news"
urlpatterns = [
    path("", views.page, name="page"),
    path("after/<int:pk>/", views.following, name="following"),
]
