"""The cluster side of a mediator: nodes, membership, life of this node, failover, and the mediator over them."""
