"""float -> float: a convolution whose input goes through codes, with a grid for each group.

The codes are made and used here: products of such small groups are sums of a few terms, which
float32 does as fast. max_code 0 leaves the input as it is.
"""


class Convolution:
    # Stored, in this order.
    codes: Tensor
    scale: Tensor
    bias: Tensor
    bits: int
    columns: int
    multiplier: Tensor
    zero_point: Tensor
    max_code: int
    kernel: List[int]
    stride: List[int]
    padding: List[int]
    dilation: List[int]
    groups: int
    # Derived by prepare().
    weight: Tensor
    factor: Tensor
    addend: Tensor
    high: float

    def unpack(self) -> Tensor:
        if self.bits > 4:
            return self.codes
        low = torch.bitwise_and(self.codes, 15)
        high = torch.bitwise_right_shift(self.codes, 4)
        pairs = torch.stack([low, high], -1).flatten(1)
        return torch.sub(pairs.narrow(1, 0, self.columns).to(1), 8)

    def prepare(self) -> None:
        rows = self.unpack().to(6)
        self.weight = rows.reshape([rows.size(0), -1] + self.kernel)
        self.factor = self.scale.reshape([-1] + [1 for k in self.kernel])
        self.addend = self.bias.reshape([-1] + [1 for k in self.kernel])
        self.high = float(self.max_code)

    def product(self, x: Tensor) -> Tensor:
        if len(self.kernel) == 1:
            return torch.conv1d(x, self.weight, None, self.stride, self.padding, self.dilation,
                                self.groups)
        if len(self.kernel) == 2:
            return torch.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation,
                                self.groups)
        return torch.conv3d(x, self.weight, None, self.stride, self.padding, self.dilation,
                            self.groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.max_code > 0:
            x = torch.mul(x, self.multiplier).add_(self.zero_point).round_()
            x = x.clamp_(0.0, self.high).sub_(self.zero_point)
        # Sums of integers are exact, so that scale and bias round as in the simulation.
        return self.product(x).mul_(self.factor).add_(self.addend)
