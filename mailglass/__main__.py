"""`python -m mailglass`: the command line, where its script is not on the path."""

from mailglass.cli import main

if __name__ == "__main__":
    main()
