"""float -> float; the weight is dequantized when the file is loaded.

Up to 4 bits a nibble is the number of one of `levels`, -8 .. 7 where weights are whole numbers.
"""


class WeightOnlyLinear:
    # Stored, in this order.
    codes: Tensor
    scale: Tensor
    bias: Tensor
    bits: int
    columns: int
    group_size: int
    levels: Tensor
    # Derived by prepare().
    weight: Tensor

    def prepare(self) -> None:
        codes = self.codes
        if self.bits <= 4:
            low = torch.bitwise_and(self.codes, 15)
            high = torch.bitwise_right_shift(self.codes, 4)
            pairs = torch.stack([low, high], -1).flatten(1)
            pairs = pairs.narrow(1, 0, self.columns)
            codes = torch.index_select(self.levels, 0, pairs.flatten().to(3)).view_as(pairs)
        scale = self.scale
        if self.group_size > 0:
            scale = torch.repeat_interleave(scale, self.group_size, 1).narrow(1, 0, self.columns)
        else:
            scale = scale.unsqueeze(1)
        self.weight = torch.mul(codes.to(6), scale)

    def forward(self, x: Tensor) -> Tensor:
        return torch.linear(x, self.weight, self.bias)
