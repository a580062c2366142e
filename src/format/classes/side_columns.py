"""Adds the contribution of side columns to a Linear's float output."""


class SideColumns:
    # Stored, in this order.
    codes: Tensor
    weight_scale: Tensor
    channels: Tensor
    scale: Tensor
    zero_point: Tensor
    bits: int
    # Derived by prepare().
    weight: Tensor
    inverse: Tensor
    high: float

    def prepare(self) -> None:
        self.inverse = torch.reciprocal(self.scale)
        self.high = float((1 << self.bits) - 1)
        rows = torch.mul(self.codes.to(6), self.weight_scale.unsqueeze(1))
        self.weight = torch.mul(rows, self.scale).t().contiguous()

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        q = torch.index_select(x, -1, self.channels)
        q = torch.mul(q, self.inverse).add_(self.zero_point).round_().clamp_(0.0, self.high)
        return y.add_(torch.matmul(q.sub_(self.zero_point), self.weight))
