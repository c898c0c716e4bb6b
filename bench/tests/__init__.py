"""Tests of the benchmark itself: pytest bench."""
