"""What travels between nodes: envelopes, headers, signatures. Bytes in, bytes out; no I/O."""
