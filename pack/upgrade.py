"""The command ``python -m pack.upgrade``: makes a dataset of an older format one of the newest."""

from pack.adopt.upgrade_command import main

if __name__ == "__main__":
    main()
