"""What the course's speed and memory are measured by: python -m benchmarks. README.md says how to read the table."""
