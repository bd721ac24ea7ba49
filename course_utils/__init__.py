"""What several notebooks of the course share. Start reading in training.py; README.md has the map."""
