"""What the command `doctor` rests on: facts about the machine, and what only an installed package can tell."""
