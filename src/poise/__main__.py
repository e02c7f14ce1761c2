"""``python -m poise``: the command line, for when the ``poise`` command is not on the path."""

from poise.cli import run

if __name__ == "__main__":
    run()
