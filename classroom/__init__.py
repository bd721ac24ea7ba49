"""What a teacher makes from the course: slides, and the notebooks with solutions."""
