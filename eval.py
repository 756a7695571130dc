"""`cornerjax eval`, for a checkout."""

from cornerjax.commands import main

if __name__ == "__main__":
    main("eval")
