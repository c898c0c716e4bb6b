from chat.views import index
from django.contrib import admin
from django.urls import include, re_path

urlpatterns = [
    re_path(r"^$", index),
    re_path(r"^accounts/", include("django.contrib.auth.urls")),
    re_path(r"^admin/", admin.site.urls),
]
