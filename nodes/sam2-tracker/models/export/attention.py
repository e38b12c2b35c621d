"""Attention as the exported graphs do it.

`fused` writes ONNX Runtime's MultiHeadAttention, whose CPU kernel works block by block and never holds the
queries x keys matrix (470 MB an object at 64x64 queries and seven memories). `plain` writes MatMul and Softmax
for runtimes that lack the operator. In PyTorch both run the same `scaled_dot_product_attention`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Added to a logit that must not count: exp(ABSENT) is 0 in every float type, and ABSENT / scale still fits float16.
ABSENT = -2000.0


class Attention:
    """How attention is written into the graph: `fused` or `plain`."""

    kinds = ("fused", "plain")

    def __init__(self, kind: str = "fused"):
        if kind not in self.kinds:
            raise ValueError(f"attention is one of {self.kinds}, got {kind!r}")
        self.kind = kind

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float | None = None) -> Tensor:
        """`query` BxLx(heads*D), `key` BxSx(heads*D), `value` BxSx(heads*E) -> BxLx(heads*E)."""
        scale = scale or (query.shape[-1] // heads) ** -0.5
        if torch.onnx.is_in_onnx_export() and self.kind == "fused":
            return torch.onnx.ops.symbolic(
                "com.microsoft::MultiHeadAttention",
                (query, key, value),
                dict(num_heads=heads, scale=scale),
                dtype=value.dtype,
                shape=(query.shape[0], query.shape[1], value.shape[2]),
                version=1,
            )
        query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
        if torch.onnx.is_in_onnx_export():
            out = torch.softmax((query * scale) @ key.transpose(-1, -2), dim=-1) @ value
        else:
            out = F.scaled_dot_product_attention(query, key, value, scale=scale)
        return out.transpose(1, 2).flatten(2)
