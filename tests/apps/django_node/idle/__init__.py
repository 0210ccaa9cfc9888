"""An app whose handlers are idle."""
