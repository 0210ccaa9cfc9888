"""Keeps failures from spreading: a retry budget, ejection of failing nodes, and limits on concurrent calls."""
