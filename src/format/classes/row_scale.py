"""The scale of each row of an attention's operand, from the row alone: its largest magnitude over
`top`, [.., 1]. plan/simulate.cpp computes the same values.
"""


class RowScale:
    # Stored, in this order.
    top: int
    # Derived by prepare().
    steps: float

    def prepare(self) -> None:
        self.steps = float(self.top)

    def forward(self, x: Tensor) -> Tensor:
        return torch.amax(torch.abs(x), [-1], True).div_(self.steps).clamp_min_(1.1754943508222875e-38)
