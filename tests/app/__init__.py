"""Tests of the app room."""
