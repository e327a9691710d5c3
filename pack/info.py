"""The command ``python -m pack.info``: shows what a dataset holds."""

from pack.inspect.info import main

if __name__ == "__main__":
    main()
