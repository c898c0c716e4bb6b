"""Tasks in the admin: what is changed here is seen in the list at once."""

from django.contrib import admin

from tasks.models import Task


@admin.register(Task)
class TaskAdmin(admin.ModelAdmin):
    """Add, change and delete."""

    list_display = ["title", "done"]
    list_editable = ["done"]
