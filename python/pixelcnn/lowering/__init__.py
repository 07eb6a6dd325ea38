"""Lowering: from a live PyTorch module to a graph of taps.

trace    the module's operations, recorded while it runs once
values   what an operation's operands are: affine sums over nodes, pending activations, encodings
lower    one rule per operation, on such values
place    values of any size become nodes of the size of a level
fuse     sum and gate, gate and residual, the two signs of an elu become one
check    causality, with the path; comparison with the module
export   the model file `pixelcnn-2`
"""
