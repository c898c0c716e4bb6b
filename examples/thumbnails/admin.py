"""Pictures in the admin."""

from django.contrib import admin

from thumbnails.models import Picture

admin.site.register(Picture)
