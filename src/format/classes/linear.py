"""u8 codes -> float32, int8 operand codes or u8 codes of the next Linear.

Without VNNI, oneDNN adds pairs of u8 x s8 products in 16 bits with saturation. prepare() looks
whether this processor does so, and whether these codes can reach the limit (2 u w > 32767). If
both, the weight is split into two halves of at most 64, whose pairs cannot saturate.

Up to 4 bits a nibble is the number of one of `levels`, -8 .. 7 where weights are whole numbers.
"""


class Linear:
    # Stored, in this order.
    codes: Tensor
    scale: Tensor
    bias: Tensor
    bits: int
    columns: int
    levels: Tensor
    zero_point: int
    max_product_code: int
    activation: str
    algorithm: str
    output: int
    output_low: int
    output_high: int
    output_scale: float
    output_zero: int
    output_max_code: int
    output_quadratic: bool
    # Derived by prepare().
    packed: Tensor
    packed_rest: Tensor
    weight_zero: Tensor
    rows: int
    split: bool
    low: float
    high: float
    output_limit: int

    def unpack(self) -> Tensor:
        if self.bits > 4:
            return self.codes
        low = torch.bitwise_and(self.codes, 15)
        high = torch.bitwise_right_shift(self.codes, 4)
        pairs = torch.stack([low, high], -1).flatten(1).narrow(1, 0, self.columns)
        return torch.index_select(self.levels, 0, pairs.flatten().to(3)).view_as(pairs)

    def saturates(self) -> bool:
        weight = torch.full([32, 64], 127, dtype=1)
        packed = onednn.qlinear_prepack(weight, None)
        scale = torch.ones([32], dtype=6)
        zero = torch.zeros([32], dtype=3)
        x = torch.full([32, 64], 255, dtype=0)
        y = onednn.qlinear_pointwise(x, 1.0, 0, packed, scale, zero, None, 1.0, 0, 6, "none", [], "")
        return not bool(torch.all(torch.eq(y, 2072640.0)))

    def prepare(self) -> None:
        weight = self.unpack()
        self.weight_zero = torch.zeros([weight.size(0)], dtype=3)
        self.rows = weight.size(0)
        largest = 0
        if weight.numel() > 0:
            largest = int(torch.max(torch.abs(weight.to(3))))
        self.split = 2 * self.max_product_code * largest > 32767 and self.saturates()
        self.packed_rest = self.weight_zero
        if self.split:
            half = torch.div(weight.to(3), 2, rounding_mode="floor")
            self.packed_rest = onednn.qlinear_prepack(torch.sub(weight.to(3), half).to(1), None)
            weight = half.to(1)
        self.packed = onednn.qlinear_prepack(weight.contiguous(), None)
        self.low = float(self.output_low)
        self.high = float(self.output_high)
        self.output_limit = self.output_max_code
        if self.output_quadratic:
            self.output_limit = self.output_max_code * self.output_max_code

    def product_split(self, x: Tensor) -> Tensor:
        y = onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed, self.scale, self.weight_zero,
                                     self.bias, 1.0, 0, 6, "none", [], "")
        z = onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed_rest, self.scale,
                                     self.weight_zero, None, 1.0, 0, 6, "none", [], "")
        y = y.add_(z)
        if self.activation == "gelu":
            y = torch.gelu(y, approximate=self.algorithm)
        if self.activation == "relu":
            y = torch.relu(y)
        if self.output == 1:
            y = y.round_().clamp_(self.low, self.high).to(1)
        if self.output == 2:
            y = y.div_(self.output_scale).round_().add_(float(self.output_zero))
            y = y.clamp_(0.0, float(self.output_limit)).to(2).to(0)
        return y

    def product(self, x: Tensor) -> Tensor:
        if self.split:
            return self.product_split(x)
        if self.output == 1:
            return onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed, self.scale,
                                            self.weight_zero, self.bias, 1.0, 0, 1, "hardtanh",
                                            annotate(List[Optional[number]], [self.low, self.high]), "")
        if self.output == 2:
            y = onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed, self.scale,
                                         self.weight_zero, self.bias, self.output_scale,
                                         self.output_zero, 0, self.activation, [], self.algorithm)
            if self.output_limit < 255:
                y = y.clamp_max_(self.output_limit)
            return y
        return onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed, self.scale,
                                        self.weight_zero, self.bias, 1.0, 0, 6, self.activation, [],
                                        self.algorithm)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        # Of no rows oneDNN gives back [0, rows], whatever the sizes in front.
        if (x.dim() == 2 or x.dim() == 3) and x.numel() > 0:
            y = self.product(x)
        else:
            y = self.product(x.reshape([-1, self.columns])).reshape(x.size()[:-1] + [self.rows])
        if self.output == 2 and self.output_quadratic:
            q = y.to(6).sqrt_().round_().to(1).to(0)
            y = torch.mul(q, q)
        return y
