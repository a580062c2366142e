"""Brings a product of TokenQuantize's codes back to the rows' units: y step + low sums + bias.

`sums` are those of the dequantized weight's rows. With `output` 1 it goes on to int8 operand codes.
"""


class TokenScale:
    # Stored, in this order.
    sums: Tensor
    bias: Tensor
    output: int
    output_low: int
    output_high: int
    # Derived by prepare().
    low: float
    high: float

    def prepare(self) -> None:
        self.low = float(self.output_low)
        self.high = float(self.output_high)

    def forward(self, y: Tensor, rows: Tensor) -> Tensor:
        y = y.mul_(rows.narrow(-1, 1, 1)).addcmul_(rows.narrow(-1, 0, 1), self.sums).add_(self.bias)
        if self.output == 1:
            return y.round_().clamp_(self.low, self.high).to(1)
        return y
