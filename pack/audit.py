"""The command ``python -m pack.audit``: looks for what a detector could cheat on."""

from pack.inspect.audit.command import main

if __name__ == "__main__":
    main()
