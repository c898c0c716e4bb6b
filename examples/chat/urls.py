"""The pages of the chat: ordinary views."""

from django.urls import path
from django.views.generic import DetailView, ListView

from chat.models import Room

app_name = "chat"
urlpatterns = [
    path("", ListView.as_view(model=Room, ordering="title"), name="rooms"),
    path("<slug:slug>/", DetailView.as_view(model=Room), name="room"),
]
