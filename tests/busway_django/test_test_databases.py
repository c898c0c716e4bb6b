"""Databases in memory that become files for the length of a test."""

import sqlite3
from pathlib import Path

import pytest
from django.db import connection

from busway.django.test.databases import shared_databases
from busway_django.project.models import Note


@pytest.mark.django_db(transaction=True)
def test_a_database_in_memory_is_a_file_meanwhile() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the database is not SQLite's")
    name = connection.settings_dict["NAME"]
    Note.objects.create(text="before")
    with shared_databases(["default"]):
        path = Path(str(connection.settings_dict["NAME"]))
        Note.objects.create(text="meanwhile")
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT text FROM project_note ORDER BY id").fetchall() == [
                ("before",),
                ("meanwhile",),
            ]
        other.close()
    assert connection.settings_dict["NAME"] == name
    assert list(Note.objects.values_list("text", flat=True)) == ["before"]
    assert not path.parent.exists()
