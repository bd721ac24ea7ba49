"""The checks refuse small changes of the solutions, and the tool that asks them sees where one does not."""

import sys

import pytest

from course_utils import exercises
from course_utils.__main__ import main
from course_utils.commands.mutants import ask, examine, mutants
from course_utils.exercises.equivalents import EQUIVALENTS
from course_utils.exercises.question import Question, calls

HERE = f"{__name__}:"
SOLUTION = '''def area(width, height):
    """The area of a rectangle."""
    total = 0
    for _ in range(height):
        total += width
    return total'''
PARTS = {"title": "", "text": "", "fills": "area", "mistakes": (), "hints": (), "solution_code": SOLUTION}


def area(width, height):
    return width * height


# These two are found by their names, in the processes that ask them.
GOOD = Question(name="good", right=area, observe=calls(("3, 4", lambda: (3, 4)), ("5, 2", lambda: (5, 2))), **PARTS)
WEAK = Question(
    name="weak", right=area, observe=calls(("a line", lambda: (1, 0)), ("a point", lambda: (0, 0))), **PARTS
)


def test_a_weak_check_is_seen_and_a_good_one_is_left_alone():
    good, weak = examine(HERE + "GOOD", {}, 10), examine(HERE + "WEAK", {}, 10)
    assert good.surviving == good.stale == [] and good.refused >= 6
    assert "line 5: total += width -> total -= width" in weak.surviving
    assert "line 3: total = 0 -> total = 1" not in weak.surviving, "a check that sees nothing at all"


def test_an_equivalent_has_to_be_praised_and_to_be_a_change_of_the_solution():
    change = "line 5: total += width -> total -= width"
    assert change not in examine(HERE + "WEAK", {change: "why"}, 10).surviving
    assert examine(HERE + "GOOD", {change: "why"}, 10).stale == [change]
    assert examine(HERE + "GOOD", {"line 5: total += height -> pass": "why"}, 10, sample=1).stale


@pytest.mark.parametrize(
    "code, verdict",
    [
        (SOLUTION, "RIGHT"),
        ("def area(width, height):\n    return width", "NOT YET"),
        ("def area(width, height):\n    while True:\n        pass", None),
        ("area = 1 / 0", "ERROR"),
        ("import os\n\n\ndef area(width, height):\n    os._exit(0)", "ERROR"),
        ("import sys\nsys.exit()", "ERROR"),
    ],
)
def test_an_answer_may_loop_for_ever_or_end_its_process(code, verdict):
    assert ask(HERE + "GOOD", code, 3 if verdict is None else 60) == verdict


def test_what_an_answer_leaves_behind_does_not_reach_the_next():
    spoil = "import builtins\nopen('left', 'w').close()\nbuiltins.range = None\narea = 1"
    assert ask(HERE + "GOOD", spoil, 60) == "NOT YET"
    look = f"import os\nassert not os.path.exists('left')\n{SOLUTION}"
    assert ask(HERE + "GOOD", look, 60) == "RIGHT"


def test_each_kind_of_change_is_made_once():
    code = (
        'def f(a, b=2):\n    """Text."""\n    if a > 1 and not b:\n        print("x", end=True)\n'
        "    c = -a + 0.5\n    c *= b\n    return c"
    )
    changes = [change.partition(": ")[2].partition(" -> ")[2] for change, _ in mutants(code)]
    for change in (
        *("def f(a, b=3):", "def f(a, b=1):"),
        *("if a >= 1 and (not b):", "if a > 2 and (not b):", "if a > 1 or not b:", "if a > 1 and b:"),
        *("print('x_', end=True)", "print('x', end=False)", "print('x')"),
        *("c = a + 0.5", "c = -a - 0.5", "c = -a + 0.55", "c /= b"),
    ):
        assert changes.count(change) == 1, change
    assert changes.count("pass") == 5  # each statement, inside the `if` too
    assert changes.count("a = 1") == changes.count("b = 1") == 1
    assert not any("Text" in change for change in changes)


def test_the_equivalents_are_changes_of_the_solutions():
    solutions = {q.name: q.solution_code for questions in exercises.BY_NOTEBOOK.values() for q in questions}
    for name, reasons in EQUIVALENTS.items():
        assert set(reasons) <= set(dict(mutants(solutions[name]))), name
        assert all(len(reason) > 10 for reason in reasons.values()), name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="an import for each answer: minutes")
def test_a_sample_of_all_questions(capsys):
    assert main(["mutants", "--sample", "3"]) == 0, capsys.readouterr().out


def test_an_unknown_name_is_told_the_known_ones(capsys):
    assert main(["mutants", "los"]) == 1
    assert "There is no exercise los. There are: start.q1, " in capsys.readouterr().err
