"""Arrays in, picture files out."""
