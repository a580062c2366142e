"""What CacheQuantize wrote, joined over tokens, back to floating point: low + step code.

Codes that were joined to an empty past of float32 have become float32: to(0) makes bytes of them.
"""


class CacheDequantize:
    # Stored, in this order.
    bits: int
    # Derived by prepare().
    grid_bytes: int

    def prepare(self) -> None:
        self.grid_bytes = 8

    def forward(self, codes: Tensor) -> Tensor:
        codes = codes.to(0)
        width = codes.size(-1) - self.grid_bytes
        grids = torch.view_copy(codes.narrow(-1, width, self.grid_bytes).contiguous(), dtype=6)
        x = codes.narrow(-1, 0, width).to(6)
        return x.mul_(grids.narrow(-1, 1, 1)).add_(grids.narrow(-1, 0, 1))
