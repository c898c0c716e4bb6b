"""Tests of `busway.django`; a package called "django" here would hide Django itself."""
