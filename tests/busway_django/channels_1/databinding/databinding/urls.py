from django.contrib import admin
from django.urls import re_path
from values.views import index

urlpatterns = [
    re_path(r"^$", index),
    re_path(r"^admin/", admin.site.urls),
]
