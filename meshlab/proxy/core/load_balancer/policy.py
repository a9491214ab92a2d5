"""Which balancer a cluster's `lb_policy` names."""

from meshlab.proxy.core.cluster import Cluster
from meshlab.proxy.core.load_balancer.base import Balancer, Dice, Host, MakePicker, Picker
from meshlab.proxy.core.load_balancer.least_request import LeastRequest
from meshlab.proxy.core.load_balancer.random import Random
from meshlab.proxy.core.load_balancer.round_robin import RoundRobin


def make_picker(config: Cluster) -> MakePicker:
    def make(hosts: list[Host], dice: Dice) -> Picker:
        if config.lb_policy == "least_request":
            return LeastRequest(hosts, dice, config.choice_count, config.active_request_bias)
        if config.lb_policy == "random":
            return Random(hosts)
        return RoundRobin(hosts, dice)

    return make


def balancer(config: Cluster) -> Balancer:
    return Balancer(config, make_picker(config))
