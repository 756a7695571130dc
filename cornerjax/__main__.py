"""`python -m cornerjax NAME ...`: the same as the program `cornerjax`."""

from cornerjax.commands import main

if __name__ == "__main__":
    main()
