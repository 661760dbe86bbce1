"""The HTTP API: two dialects over one set of operations."""
