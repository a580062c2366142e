"""(float, the grids of its rows) -> u8 product codes: v = clamp(round((x - low) (1 / step)), 0, top),
or the level that is nearest to v where there is a codebook. Of two sets of levels [2, n] a row takes
the second if the mean of its v is above top / 2.
"""


class TokenQuantize:
    # Stored, in this order.
    top: int
    levels: Tensor
    # Derived by prepare().
    learned: bool
    two_sets: bool
    table: Tensor

    def prepare(self) -> None:
        count = self.levels.size(-1)
        self.two_sets = self.levels.dim() > 1
        self.learned = self.two_sets or count != self.top + 1
        tables: List[Tensor] = []
        for levels in self.levels.reshape([-1, count]).unbind():
            values = levels.to(6)
            middles = torch.add(values.narrow(0, 0, count - 1), values.narrow(0, 1, count - 1)).div_(2.0)
            nearest = torch.bucketize(torch.arange(256, dtype=6), middles)
            tables.append(torch.index_select(levels, 0, nearest))
        self.table = torch.cat(tables)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        y = torch.sub(x, rows.narrow(-1, 0, 1)).mul_(rows.narrow(-1, 1, 1).reciprocal()).round_().clamp_(0.0, float(self.top))
        if self.top <= 127:
            return y.to(1).to(0)
        codes = y.to(2).to(0)
        if not self.learned:
            return codes
        place = codes.to(3)
        if self.two_sets:  # sums of whole numbers, exact up to 65,793 of them
            upper = torch.gt(y.sum([-1], True), 127.5 * y.size(-1))
            place = torch.add(place, upper, alpha=256)
        return torch.index_select(self.table, 0, place.flatten()).view_as(codes)
