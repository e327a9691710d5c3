"""How long a test waits for what comes at once on an idle machine: only one that hangs waits so long."""

PATIENCE_S = 900.0
