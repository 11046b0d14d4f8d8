"""What the program's commands do; hwgen/cli.py has their words."""
