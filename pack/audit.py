"""The command ``python -m pack.audit``: looks for differences other than the decoder's trace."""

from pack.inspect.audit.command import main

if __name__ == "__main__":
    main()
