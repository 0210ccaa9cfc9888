"""Ready-made pipeline behaviours: one file each, added with ``mediator.add_behavior``."""

from catga_sync.behaviors.logs import logging_behavior
from catga_sync.behaviors.retry import retry_behavior
from catga_sync.behaviors.timing import timing_behavior
from catga_sync.behaviors.validation import validation_behavior

__all__ = ["logging_behavior", "retry_behavior", "timing_behavior", "validation_behavior"]
