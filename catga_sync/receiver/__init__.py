"""The receiving side of a node. No framework, no client."""
