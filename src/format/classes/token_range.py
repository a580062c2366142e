"""The grid of each row, from the row itself: its smallest value and the step of its codes, [.., 2].

plan/simulate.cpp computes the same values. The bound is the smallest normal float32, the step of a
row whose values are all equal.
"""


class TokenRange:
    # Stored, in this order.
    top: int
    # Derived by prepare().
    steps: float

    def prepare(self) -> None:
        self.steps = float(self.top)

    def forward(self, x: Tensor) -> Tensor:
        low = torch.amin(x, [-1], True)
        step = torch.amax(x, [-1], True).sub_(low).div_(self.steps).clamp_min_(1.1754943508222875e-38)
        return torch.cat([low, step], -1)
