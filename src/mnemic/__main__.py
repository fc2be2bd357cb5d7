"""`python -m mnemic`: the command, where its script is not on the path."""

from mnemic.surfaces.cli import main

if __name__ == "__main__":
    main()
