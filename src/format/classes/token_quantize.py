"""float -> u8 codes by a scale for each row, from the row itself.

plan/simulate.cpp computes the same values. The bound is the smallest normal float32, the scale of
a row of zeros.
"""


class TokenQuantize:
    # Stored, in this order.
    bits: int
    # Derived by prepare().
    top: float
    zero: float
    high: float

    def prepare(self) -> None:
        self.top = float((1 << (self.bits - 1)) - 1)
        self.zero = float(1 << (self.bits - 1))
        self.high = float((1 << self.bits) - 1)

    def forward(self, x: Tensor) -> Tensor:
        scales = torch.amax(torch.abs(x), [-1], True).div_(self.top).clamp_min_(1.1754943508222875e-38)
        y = torch.div(x, scales).round_().add_(self.zero).clamp_(0.0, self.high)
        if self.bits <= 7:
            return y.to(1).to(0)
        return y.to(2).to(0)
