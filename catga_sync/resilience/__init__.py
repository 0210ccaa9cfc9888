"""What keeps failures from spreading: a budget for further tries, and the ejection of nodes that fail."""
