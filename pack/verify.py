"""The command ``python -m pack.verify``: re-reads every byte of a dataset."""

from pack.inspect.verify import main

if __name__ == "__main__":
    main()
