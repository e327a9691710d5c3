"""``python -m pack``: see `pack.command`."""

from pack.command import main

if __name__ == "__main__":
    main()
