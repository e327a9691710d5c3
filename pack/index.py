"""The command ``python -m pack.index``: adopts pair tars that somebody else made."""

from pack.adopt.command import main

if __name__ == "__main__":
    main()
