from django.contrib import admin

from .models import Board, IntegerValue

admin.site.register(Board)
admin.site.register(IntegerValue)
