"""Multiplies a Linear's output by the scales that TokenQuantize found, and adds the bias."""


class TokenScale:
    # Stored, in this order.
    bias: Tensor
    bits: int
    # Derived by prepare().
    top: float

    def prepare(self) -> None:
        self.top = float((1 << (self.bits - 1)) - 1)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        scales = torch.amax(torch.abs(x), [-1], True).div_(self.top).clamp_min_(1.1754943508222875e-38)
        return y.mul_(scales).add_(self.bias)
