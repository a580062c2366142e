"""Layers of the random transformers, each in the spellings of the grammar."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from grammar import Block, Spec
from torch import nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class GroupNorm(nn.Module):  # over channels, as in convolutional transformers
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def make_norm(kind: str, width: int) -> nn.Module:
    return {
        "layer": lambda: nn.LayerNorm(width),
        "rms": lambda: RMSNorm(width),
        "rms_module": lambda: nn.RMSNorm(width, eps=1e-6),
        "layer_plain": lambda: nn.LayerNorm(width, elementwise_affine=False),
        "group": lambda: GroupNorm(width),
    }[kind]()


def activation_of(kind: str) -> Callable[[torch.Tensor], torch.Tensor]:
    return {
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
        "relu": F.relu,
        "silu": F.silu,
        "squared_relu": lambda x: F.relu(x).square(),
    }[kind]


class Attention(nn.Module):
    """Self-attention in one of many spellings of softmax(q k^T) v and its variants."""

    def __init__(self, spec: Spec, block: Block) -> None:
        super().__init__()
        self.block, self.heads, self.size = block, spec.heads, spec.width // spec.heads
        width, bias = spec.width, block.qkv != "bias_free"
        self.key_heads = max(1, spec.heads // 2) if block.qkv == "grouped" else spec.heads
        if block.mask == "relative_bias":
            self.bias = nn.Parameter(torch.zeros(spec.heads, 64, 64))
        if block.attention == "module":
            self.inner = nn.MultiheadAttention(width, spec.heads, batch_first=True)
            return
        if block.qkv in ("fused", "chunk", "unbind", "bias_free"):
            self.qkv = nn.Linear(width, 3 * width, bias=bias)
        else:
            self.q = nn.Linear(width, width)
            self.k = nn.Linear(width, self.key_heads * self.size)
            self.v = nn.Linear(width, self.key_heads * self.size)
        if block.attention == "rotary":
            frequencies = 0.3 ** torch.arange(self.size // 2)
            self.register_buffer("frequencies", frequencies)
        if block.attention == "cosine":
            self.logit_scale = nn.Parameter(torch.ones(spec.heads, 1, 1))
        if block.attention == "multi_query":
            self.kv = nn.Linear(width, 2 * self.size)
        if block.attention == "memory":
            self.memory = nn.Parameter(torch.zeros(6, width))
            self.memory_kv = nn.Linear(width, 2 * width)
        if block.attention == "heads_apart":
            self.each = nn.ModuleList(nn.Linear(width, 3 * self.size) for _ in range(spec.heads))
        self.proj = nn.Linear(width, width)
        if block.extra == "sink":
            self.sink = nn.Parameter(torch.zeros(spec.heads))
        if block.extra == "talking":
            self.talk = nn.Linear(spec.heads, spec.heads, bias=False)

    def projections(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        b, t, _ = x.shape
        kind = self.block.qkv
        if kind in ("fused", "bias_free"):
            q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        elif kind == "unbind":
            q, k, v = self.qkv(x).view(b, t, 3, self.heads, self.size).transpose(1, 3).unbind(2)
        elif kind == "chunk":
            q, k, v = (
                y.view(b, t, self.heads, self.size).transpose(1, 2)
                for y in self.qkv(x).chunk(3, dim=-1)
            )
        else:
            q = self.q(x).view(b, t, self.heads, self.size).transpose(1, 2)
            k = self.k(x).view(b, t, self.key_heads, self.size).transpose(1, 2)
            v = self.v(x).view(b, t, self.key_heads, self.size).transpose(1, 2)
            if self.key_heads != self.heads:
                k = k.repeat_interleave(self.heads // self.key_heads, dim=1)
                v = v.repeat_interleave(self.heads // self.key_heads, dim=1)
        return q, k, v

    def mask(self, t: int, x: torch.Tensor) -> torch.Tensor | None:
        kind = self.block.mask
        if kind == "causal":
            return torch.ones(t, t, dtype=torch.bool, device=x.device).tril()
        if kind == "boolean":
            i = torch.arange(t)
            return (i.unsqueeze(0) - i.unsqueeze(1)).abs() < 4
        if kind == "additive":
            i = torch.arange(t)
            return -0.1 * (i.unsqueeze(0) - i.unsqueeze(1)).abs().to(x.dtype)
        if kind == "relative_bias":
            return self.bias[:, :t, :t]
        return None

    def masked(self, scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if mask is None:
            return scores
        if mask.dtype == torch.bool:
            return scores.masked_fill(~mask, float("-inf"))
        return scores + mask

    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        extra = self.block.extra
        if extra == "soft_cap":
            scores = 20 * torch.tanh(scores / 20)
        if extra == "talking":
            scores = self.talk(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if extra == "sink":
            b, h, t, _ = scores.shape
            sink = self.sink.view(1, h, 1, 1).expand(b, h, t, 1)
            return torch.cat((scores, sink), dim=-1).softmax(-1)[..., :-1]
        weights = scores.softmax(-1)
        if extra == "renormalised":
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        if extra == "nan_to_num":
            weights = torch.nan_to_num(weights)
        return weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, width = x.shape
        kind = self.block.attention
        mask = self.mask(t, x)
        if kind == "module":
            if mask is not None and mask.dtype == torch.bool:
                mask = ~mask
            if mask is not None and mask.dim() == 3:
                mask = mask.repeat(b, 1, 1)
            return self.inner(x, x, x, attn_mask=mask, need_weights=False)[0]
        if kind == "heads_apart":
            outs = []
            for i, layer in enumerate(self.each):
                q, k, v = layer(x).chunk(3, dim=-1)
                m = mask[i] if mask is not None and mask.dim() == 3 else mask
                scores = self.masked(q @ k.transpose(1, 2) * self.size**-0.5, m)
                outs.append(scores.softmax(-1) @ v)
            return self.proj(torch.cat(outs, dim=-1))
        scale = self.size**-0.5
        if kind == "windows":
            return self.in_windows(x)
        q, k, v = self.projections(x)
        if kind == "single_head":
            q, k, v = (y.transpose(1, 2).reshape(b, t, width) for y in (q, k, v))
            m = mask.mean(0) if mask is not None and mask.dim() == 3 else mask
            y = self.masked(torch.bmm(q, k.transpose(1, 2)) * scale, m).softmax(-1) @ v
            return self.proj(y)
        if kind == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        elif kind == "linear":
            q, k = F.elu(q) + 1, F.elu(k) + 1
            state = k.transpose(-2, -1) @ v
            y = (q @ state) / (q @ k.sum(dim=2).unsqueeze(-1) + 1e-6)
        elif kind in ("folded_bmm", "folded_softmax_open"):
            q, k, v = (z.reshape(b * self.heads, t, self.size) for z in (q, k, v))
            scores = torch.bmm(q, k.transpose(1, 2)) * scale
            if kind == "folded_softmax_open" or (mask is not None and mask.dim() == 3):
                scores = self.masked(scores.view(b, self.heads, t, t), mask)
                weights = scores.softmax(-1).view(b * self.heads, t, t)
            else:
                weights = self.masked(scores, mask).softmax(-1)
            y = torch.bmm(weights, v).view(b, self.heads, t, self.size)
        elif kind == "einsum":
            scores = self.masked(torch.einsum("bhid,bhjd->bhij", q, k) * scale, mask)
            y = torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), v)
        elif kind == "value_left":
            scores = self.masked(q @ k.transpose(-2, -1) * scale, mask)
            y = (v.transpose(-2, -1) @ scores.softmax(-1).transpose(-2, -1)).transpose(-2, -1)
        elif kind == "softmax_first":  # keys first, softmax over dimension -2
            scores = k @ q.transpose(-2, -1) * scale
            if mask is not None:
                scores = self.masked(scores, mask.transpose(-2, -1))
            y = scores.softmax(-2).transpose(-2, -1) @ v
        elif kind == "rotary":
            q, k = self.rotated(q), self.rotated(k)
            y = self.masked(q @ k.transpose(-2, -1) * scale, mask).softmax(-1) @ v
        elif kind == "cosine":
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
            scores = q @ k.transpose(-2, -1) * self.logit_scale.clamp(max=4.6).exp()
            y = self.masked(scores, mask).softmax(-1) @ v
        elif kind == "multi_query":  # all heads read the same keys and values
            k, v = self.kv(x).unsqueeze(1).chunk(2, dim=-1)
            y = self.masked(q @ k.transpose(-2, -1) * scale, mask).softmax(-1) @ v
        elif kind == "memory":  # keys and values that no input changes
            k, v = self.memory_kv(self.memory).view(6, 2, self.heads, self.size).permute(1, 2, 0, 3)
            y = (q @ k.transpose(-2, -1) * scale).softmax(-1) @ v
        elif kind == "late_value":
            weights = self.masked(q @ k.transpose(-2, -1) * scale, mask).softmax(-1)
            y = weights @ (v + 0.1 * torch.tanh(v))
        else:
            if kind == "manual_scaled_q":
                scores = (q * scale) @ k.transpose(-2, -1)
            elif kind == "divided":
                scores = q @ k.transpose(-2, -1) / math.sqrt(self.size)
            else:
                scores = torch.matmul(q, k.transpose(-1, -2)) * scale
            y = self.weights(self.masked(scores, mask)) @ v
        return self.proj(y.transpose(1, 2).reshape(b, t, width))


    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        half = self.size // 2
        angles = torch.outer(torch.arange(x.shape[2]).to(x.dtype), self.frequencies.to(x.dtype))
        a, b = x[..., :half], x[..., half:]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)

    def in_windows(self, x: torch.Tensor) -> torch.Tensor:
        """Attention inside windows of four tokens; padding completes the last one."""
        b, t, width = x.shape
        x = F.pad(x, (0, 0, 0, -t % 4))
        q, k, v = self.projections(x.reshape(-1, 4, width))
        y = F.scaled_dot_product_attention(q, k, v)
        y = self.proj(y.transpose(1, 2).reshape(-1, 4, width))
        return y.reshape(b, -1, width)[:, :t]


class Mlp(nn.Module):
    def __init__(self, spec: Spec, block: Block) -> None:
        super().__init__()
        self.kind, hidden = block.mlp, 2 * spec.width
        self.activation = activation_of(block.activation)
        if self.kind == "experts":
            self.gate = nn.Linear(spec.width, 2)
            self.experts = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(spec.width, hidden), nn.GELU(), nn.Linear(hidden, spec.width)
                )
                for _ in range(2)
            )
            return
        if self.kind == "raw_weights":
            self.w1 = nn.Parameter(torch.zeros(spec.width, hidden))
            self.w2 = nn.Parameter(torch.zeros(hidden, spec.width))
            self.bias = nn.Parameter(torch.zeros(hidden))
            return
        self.fc1 = nn.Linear(spec.width, 2 * hidden if self.kind == "gated" else hidden)
        self.fc2 = nn.Linear(hidden, spec.width)
        if self.kind == "gate_apart":
            self.gate = nn.Linear(spec.width, hidden, bias=False)
        if self.kind == "depthwise":
            self.depthwise = nn.Conv1d(hidden, hidden, 3, padding=1, groups=hidden)
        if self.kind == "two_readers":
            self.other = nn.Linear(spec.width, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "experts":
            share = self.gate(x).softmax(-1)
            return sum(share[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))
        if self.kind == "raw_weights":
            return self.activation(x @ self.w1 + self.bias) @ self.w2
        h = self.fc1(x)
        if self.kind == "gate_apart":
            return self.fc2(self.activation(self.gate(x)) * h)
        if self.kind == "gated":
            a, g = h.chunk(2, dim=-1)
            return self.fc2(self.activation(g) * a)
        if self.kind == "depthwise":
            h = self.depthwise(h.transpose(1, 2)).transpose(1, 2)
        h = self.activation(h)
        if self.kind == "two_readers":  # reads a part of the tokens only
            h = h + self.other(x[:, :1])
        return self.fc2(h)


class Layer(nn.Module):
    def __init__(self, spec: Spec, block: Block) -> None:
        super().__init__()
        self.block = block
        self.norm1, self.norm2 = (
            make_norm(block.norm, spec.width),
            make_norm(block.norm, spec.width),
        )
        if block.position == "sandwich":
            self.norm3, self.norm4 = (
                make_norm(block.norm, spec.width),
                make_norm(block.norm, spec.width),
            )
        self.attention, self.mlp = Attention(spec, block), Mlp(spec, block)
        if block.residual == "layer_scale":
            self.gamma = nn.Parameter(torch.full((spec.width,), 0.5))
        if block.residual == "constant":
            self.constant = nn.Parameter(torch.zeros(spec.width))

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        kind = self.block.residual
        if kind == "swapped":
            return y + x
        if kind == "method":
            return y.add(x)
        if kind == "in_place":
            y += x
            return y
        if kind == "layer_scale":
            return x + self.gamma * y
        if kind == "constant":
            return x + (y + self.constant)
        return x + y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        position = self.block.position
        if position == "parallel":
            h = self.norm1(x)
            return self.add(self.add(x, self.attention(h)), self.mlp(h))
        if position == "post":
            x = self.norm1(self.add(x, self.attention(x)))
            return self.norm2(self.add(x, self.mlp(x)))
        y = self.attention(self.norm1(x))
        if position == "sandwich":
            y = self.norm3(y)
        x = y if self.block.residual == "none_first" else self.add(x, y)
        y = self.mlp(self.norm2(x))
        if position == "sandwich":
            y = self.norm4(y)
        return self.add(x, y)
