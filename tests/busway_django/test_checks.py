"""`manage.py check`."""

from django.core.management import call_command


def test_a_project_without_mistakes_passes() -> None:
    call_command("check", fail_level="WARNING")
