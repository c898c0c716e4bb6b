"""Tests of the web interface server."""
