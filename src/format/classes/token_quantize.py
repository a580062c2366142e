"""(float, the grids of its rows) -> u8 product codes: v = clamp(round((x - low) (1 / step)), 0, top),
or the level that is nearest to v where there is a codebook.
"""


class TokenQuantize:
    # Stored, in this order.
    top: int
    levels: Tensor
    # Derived by prepare().
    learned: bool
    table: Tensor

    def prepare(self) -> None:
        count = self.levels.numel()
        self.learned = count != self.top + 1
        values = self.levels.to(6)
        middles = torch.add(values.narrow(0, 0, count - 1), values.narrow(0, 1, count - 1)).div_(2.0)
        nearest = torch.bucketize(torch.arange(256, dtype=6), middles)
        self.table = torch.index_select(self.levels, 0, nearest)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        y = torch.sub(x, rows.narrow(-1, 0, 1)).mul_(rows.narrow(-1, 1, 1).reciprocal()).round_().clamp_(0.0, float(self.top))
        if self.top <= 127:
            return y.to(1).to(0)
        codes = y.to(2).to(0)
        if self.learned:
            return torch.index_select(self.table, 0, codes.flatten().to(3)).view_as(codes)
        return codes
