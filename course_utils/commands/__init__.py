"""What is run from a terminal, one module a command: python -m course_utils <command>."""
