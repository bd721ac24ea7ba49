"""Changes of a solution that leave it right: `make mutants` knows them, and a test that they are changes of today's.

{question: {the lines that differ, as the tool prints them: why the answer is still right}}
"""

EQUIVALENTS: dict[str, dict[str, str]] = {}
