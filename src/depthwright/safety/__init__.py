"""What is refused, and why: the prompt policy."""
