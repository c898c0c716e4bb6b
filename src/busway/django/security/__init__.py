"""What keeps others out."""
