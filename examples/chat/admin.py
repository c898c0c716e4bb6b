"""Rooms and posts in the admin."""

from django.contrib import admin

from chat.models import Post, Room


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    """Make rooms, and rename them."""

    list_display = ["title", "slug"]
    prepopulated_fields = {"slug": ["title"]}


@admin.register(Post)
class PostAdmin(admin.ModelAdmin):
    """Look for what was said, and remove it."""

    list_display = ["sent", "room", "author", "text"]
    list_filter = ["room"]
    search_fields = ["text"]
