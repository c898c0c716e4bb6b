"""Fill the databases: ``python django_prepare.py ALIAS…``."""

import os
import sys

import django
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_settings")
django.setup()

from django_items.models import Item  # noqa: E402 (needs the settings)

for alias in sys.argv[1:]:
    connection = connections[alias]
    with connection.schema_editor() as editor:
        if "django_items_item" in connection.introspection.table_names():
            editor.delete_model(Item)
        editor.create_model(Item)
    Item.objects.using(alias).bulk_create(Item(pk=n, name=f"item {n}") for n in range(1, 100))
