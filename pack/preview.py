"""The command ``python -m pack.preview``: draws a contact sheet of pairs."""

from pack.inspect.preview import main

if __name__ == "__main__":
    main()
