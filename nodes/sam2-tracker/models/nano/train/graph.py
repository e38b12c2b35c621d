"""ONNX graphs whose nodes have graphs of their own, as both branches of a condition do."""
from graphlib import TopologicalSorter

import onnx


def branches(node):
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def taken(node):
    """Every tensor that a node takes, in its branches, too."""
    return set(node.input).union(*map(names_used, branches(node)))


def names_used(graph):
    """Every tensor that a node or an output takes, in the branches, too."""
    return {output.name for output in graph.output}.union(*map(taken, graph.node))


def rename(graph, names):
    """Lets nodes and outputs take tensors by other names, in the branches, too."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for branch in branches(node):
            rename(branch, names)
    for output in graph.output:
        output.name = names.get(output.name, output.name)


def rearrange(graph, nodes):
    """Gives a graph these nodes, in the order of computing."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def sort(graph):
    """Puts each node after those that make what it takes, in its branches, too."""
    makers = {tensor: at for at, node in enumerate(graph.node) for tensor in node.output}
    needed = {at: sorted(makers[tensor] for tensor in taken(node) if tensor in makers) for at, node in enumerate(graph.node)}
    rearrange(graph, [graph.node[at] for at in TopologicalSorter(needed).static_order()])
