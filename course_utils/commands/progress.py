"""Show which exercises are solved: right, tried, or still open."""

from __future__ import annotations

import argparse

from course_utils.exercises import BY_NOTEBOOK
from course_utils.exercises.memory import remembered


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def run(args: argparse.Namespace) -> int:
    """Print a line an exercise."""
    states = remembered()
    for notebook, questions in BY_NOTEBOOK.items():
        right = sum(states.get(question.name) == "right" for question in questions)
        print(f"{notebook}: {right} of {len(questions)}")
        for question in questions:
            print(f"  {states.get(question.name, 'open'):5}  {question.name:15} {question.title}")
    return 0
