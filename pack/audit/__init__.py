"""What a detector could cheat on: `python -m pack.audit`."""
