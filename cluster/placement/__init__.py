"""Where does a job run? Pure: (its need, the nodes as data) -> a node and its GPUs, wait, or never with the reason.

    needs      what a job asks for
    views      the cluster as data: nodes, their pools, their host and its GPUs
    answers    Placed, Wait, Never
    decision   `place`: the one question, for both kinds of need
    fleet      the nodes in the order in which they are tried, so that a decision does not look at all of them
    filters    which host and which GPUs could take it
    reasons    why nothing could: what is short, and by how much
    claims     what a placed job holds, booked at placement and given back at its end
    circuit    which node failed so often that it is left alone for a while

Equal input gives equal placement: ties end by name. Nothing here waits, reads a clock or remembers.
"""

from cluster.placement.answers import Answer, Never, Placed, Wait
from cluster.placement.claims import Claim, claim_of, give_back, hold
from cluster.placement.decision import PIPELINE, has_place, place
from cluster.placement.fleet import Fleet
from cluster.placement.needs import GpuNeed, Need, SandboxNeed
from cluster.placement.views import GpuView, HostView, Node, PoolView

__all__ = [
    "PIPELINE",
    "Answer",
    "Claim",
    "Fleet",
    "GpuNeed",
    "GpuView",
    "HostView",
    "Need",
    "Never",
    "Node",
    "Placed",
    "PoolView",
    "SandboxNeed",
    "Wait",
    "claim_of",
    "give_back",
    "has_place",
    "hold",
    "place",
]
