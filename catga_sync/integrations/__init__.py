"""Where a mediator plugs into a web framework or server: each file imports one foreign library."""
