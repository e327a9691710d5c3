"""The command ``python -m pack.preview``: draws some pairs and their differences in one image."""

from pack.inspect.preview import main

if __name__ == "__main__":
    main()
