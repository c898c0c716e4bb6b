"""Headlines in the admin."""

from django.contrib import admin

from news.models import Headline

admin.site.register(Headline)
