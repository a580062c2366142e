"""float -> u8 or int8 codes clamp(round(x m + a), 0, max_code) - shift."""


class Quantize:
    # Stored, in this order.
    multiplier: Tensor
    offset: Tensor
    max_code: int
    quadratic: bool
    signed_codes: bool
    shift: int
    # Derived by prepare().
    scalar: bool
    factor: float
    addend: float
    high: float

    def prepare(self) -> None:
        self.scalar = self.multiplier.numel() == 1 and self.offset.numel() == 1
        self.factor = 1.0
        self.addend = 0.0
        if self.scalar:
            self.factor = float(self.multiplier)
            self.addend = float(self.offset)
        self.high = float(self.max_code)

    def forward(self, x: Tensor) -> Tensor:
        if self.scalar:
            y = torch.mul(x, self.factor).add_(self.addend).round_()
        else:
            y = torch.mul(x, self.multiplier).add_(self.offset).round_()
        if self.quadratic:
            y = y.clamp_(0.0, self.high * self.high).sqrt_().round_()
            q = y.to(1).to(0)
            return torch.mul(q, q)
        y = y.clamp_(0.0, self.high)
        if self.signed_codes:
            if self.shift != 0:
                y = y.sub_(float(self.shift))
            return y.to(1)
        if self.max_code <= 127:
            return y.to(1).to(0)
        return y.to(2).to(0)
