"""The command ``python -m pack.index``: writes indexes and a manifest for pair tars made by others."""

from pack.adopt.command import main

if __name__ == "__main__":
    main()
