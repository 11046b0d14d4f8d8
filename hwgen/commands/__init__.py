"""The program's commands: each module has the arguments of its commands (``add_...``) and what they do
(``run_...``)."""
