"""Which GPUs this node has, what is free on them, and what a sandbox must be given to use one.

device      the inventory as data
sense       NVML's raw answers -> an inventory that makes sense (pure)
inventory   the process that asks NVML, and the only file that imports its binding
watch       keeps that process running, and its last answer; survives one that hangs
passage     device files and driver libraries of a GPU, for `workers.sandbox.bundle`
"""
