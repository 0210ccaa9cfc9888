"""``catga-sync``, the command."""
