"""The command ``python -m train.report``: writes the report of a run."""

from train.reports.command import main

if __name__ == "__main__":
    main()
