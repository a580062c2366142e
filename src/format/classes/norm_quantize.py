"""LayerNorm or RMSNorm, then u8 codes.

Rounds half up by truncating y + 1/2: one pass less than rounding. It differs from rounding half
to even on exact ties only, by one code.
"""


class NormQuantize:
    # Stored, in this order.
    weight: Tensor
    bias: Tensor
    shape: List[int]
    epsilon: float
    max_code: int
    root_mean_square: bool
    # Derived by prepare().
    shifted: Tensor
    high: float

    def prepare(self) -> None:
        self.shifted = self.bias + 0.5
        self.high = float(self.max_code) + 0.5

    def forward(self, x: Tensor) -> Tensor:
        if self.root_mean_square:
            y = torch.rms_norm(x, self.shape, self.weight, self.epsilon).add_(self.shifted)
        else:
            y = torch.layer_norm(x, self.shape, self.weight, self.shifted, self.epsilon, False)
        y = y.clamp_(0.5, self.high)
        if self.max_code <= 127:
            return y.to(1).to(0)
        return y.to(2).to(0)
