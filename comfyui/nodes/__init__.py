"""One node a file: what it shows, and its work in numbered steps."""
