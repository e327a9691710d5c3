"""`python -m pack.audit`: see `pack.audit.command`."""

from pack.audit.command import main

if __name__ == "__main__":
    main()
