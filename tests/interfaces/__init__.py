"""Tests of the interfaces room."""
