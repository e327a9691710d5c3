"""The command ``python -m pack.verify``: reads every byte of a dataset again and checks it."""

from pack.inspect.verify import main

if __name__ == "__main__":
    main()
