"""float -> float: each group of columns rounded to the grid of its own range, which is found here.

A group's values are low + step v with v = clamp(round((x - low) (1 / step)), 0, top), or the level
that is nearest to v where there is a codebook. A last group that is not full is as wide as what is
left of the row. plan/simulate.cpp computes the same values.
"""


class GroupQuantize:
    # Stored, in this order.
    group_size: int
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
        self.table = torch.index_select(values, 0, nearest)

    def forward(self, x: Tensor) -> Tensor:
        columns = x.size(-1)
        groups = (columns + self.group_size - 1) // self.group_size
        rest = groups * self.group_size - columns
        y = x
        if rest > 0:
            y = torch.cat([x, x.narrow(-1, columns - 1, 1).expand(x.size()[:-1] + [rest])], -1)
        y = y.reshape(x.size()[:-1] + [groups, self.group_size])
        low = torch.amin(y, [-1], True)
        step = torch.amax(y, [-1], True).sub_(low).div_(float(self.top)).clamp_min_(1.1754943508222875e-38)
        y = torch.sub(y, low).mul_(step.reciprocal()).round_().clamp_(0.0, float(self.top))
        if self.learned:
            y = torch.index_select(self.table, 0, y.to(2).to(0).flatten().to(3)).view_as(y)
        y = y.mul_(step).add_(low).flatten(-2, -1)
        if rest > 0:
            y = y.narrow(-1, 0, columns)
        return y
