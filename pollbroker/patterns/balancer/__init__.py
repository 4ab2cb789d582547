"""The load balancer."""

from pollbroker.patterns.balancer.balancer import BALANCER, Balancer

__all__ = ["BALANCER", "Balancer"]
