"""An app whose handlers are torn."""
