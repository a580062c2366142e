"""Keys or values of new tokens as a decoder keeps them: float [.., d] -> uint8 [.., d + 8], the codes
of each row on a grid of its own and behind them its smallest value and its step, as bytes of float32.
"""


class CacheQuantize:
    # Stored, in this order.
    bits: int
    # Derived by prepare().
    top: float

    def prepare(self) -> None:
        self.top = float((1 << self.bits) - 1)

    def forward(self, x: Tensor) -> Tensor:
        low = torch.amin(x, [-1], True)
        step = torch.amax(x, [-1], True).sub_(low).div_(self.top).clamp_min_(1.1754943508222875e-38)
        y = torch.sub(x, low).mul_(step.reciprocal()).round_().clamp_(0.0, self.top)
        grids = torch.cat([low, step], -1)
        return torch.cat([y.to(2).to(0), torch.view_copy(grids, dtype=0)], -1)
