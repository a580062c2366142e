"""(float, the scales of its rows) -> int8 codes: round(x / scale) with 8 bits, else the nearest odd
number, of which there are as many on both sides of 0.
"""


class RowQuantize:
    # Stored, in this order.
    bits: int
    # Derived by prepare().
    odd: bool
    top: float

    def prepare(self) -> None:
        self.odd = self.bits < 8
        self.top = 127.0
        if self.odd:
            self.top = float((1 << self.bits) - 1)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        y = torch.mul(x, scale.reciprocal())
        if self.odd:
            y = y.sub_(1.0).mul_(0.5).round_().mul_(2.0).add_(1.0)
        else:
            y = y.round_()
        return y.clamp_(-self.top, self.top).to(1)
