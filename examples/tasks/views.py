"""The page of the list, and what it shows first."""

from django.http import JsonResponse
from django.shortcuts import render

from tasks.models import Task


def page(request):
    """Show the page."""
    return render(request, "tasks/list.html")


def everything(request):
    """Return all tasks, as the binding sends them."""
    tasks = [
        {"pk": task.pk, "data": {"title": task.title, "done": task.done}}
        for task in Task.objects.all()
    ]
    return JsonResponse({"tasks": tasks})
