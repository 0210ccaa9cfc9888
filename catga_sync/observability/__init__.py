"""What a node tells of itself to other systems: metrics, traces, logs. Each file imports one foreign library."""
