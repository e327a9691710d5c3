"""``python -m pack``: see `pack.run`."""

from pack.run import main

if __name__ == "__main__":
    main()
