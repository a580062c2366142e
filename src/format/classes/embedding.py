"""Indices -> float rows. The table stays packed: only the rows that are read are unpacked."""


class Embedding:
    # Stored, in this order.
    codes: Tensor
    scale: Tensor
    bits: int
    columns: int
    # Derived by prepare().
    packed: bool

    def prepare(self) -> None:
        self.packed = self.bits <= 4

    def forward(self, indices: Tensor) -> Tensor:
        rows = torch.embedding(self.codes, indices)
        if self.packed:
            low = torch.bitwise_and(rows, 15)
            high = torch.bitwise_right_shift(rows, 4)
            pairs = torch.stack([low, high], -1).flatten(-2)
            rows = torch.sub(pairs.narrow(-1, 0, self.columns).to(1), 8)
        return rows.to(6).mul_(torch.embedding(self.scale, indices))
