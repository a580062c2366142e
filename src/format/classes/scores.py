"""Attention scores q k^T from int8 codes, one head at a time. Keys may have a zero point by channel.

Below about a million multiply-accumulates per head the calls of _int_mm cost more than they save:
then float32, which is as exact (every sum is below 2^24).
"""

INTEGER_WORK = 1000000


class Scores:
    # Stored, in this order.
    left_zero: Tensor
    right_zero: Tensor
    left_bits: int
    right_bits: int
    scale: Tensor
    raw: bool
    # Derived by prepare().
    integer: bool
    narrow_left: bool
    left_centred: bool
    right_centred: bool
    left_shift: Tensor

    def prepare(self) -> None:
        a = torch.full([32, 64], 127, dtype=1)
        b = torch.full([64, 32], 127, dtype=1)
        self.integer = bool(torch.all(torch.eq(torch._int_mm(a, b), 1032256)))
        self.narrow_left = self.left_bits <= 7
        self.left_shift = self.left_zero.to(3)
        self.left_centred = not bool(torch.any(torch.ne(self.left_zero, 0.0)))
        self.right_centred = not bool(torch.any(torch.ne(self.right_zero, 0.0)))
        if self.narrow_left:
            self.left_shift = self.left_zero.to(1)

    def integer_products(self, left: Tensor, right: Tensor) -> Tensor:
        rows = left.size(-2)
        columns = right.size(-1)
        shape = left.size()[:-1] + [columns]
        if self.narrow_left and not self.left_centred:
            left = torch.sub(left, self.left_shift)
        a = left.reshape([-1, rows, left.size(-1)])
        keys = right.transpose(-1, -2)
        b = keys.reshape([-1, columns, left.size(-1)])
        sums = torch.empty([a.size(0), rows, columns], dtype=3)
        for i in range(a.size(0)):
            torch._int_mm(a.select(0, i), b.select(0, i).t(), out=sums.select(0, i))
        products = sums.to(6).reshape(shape)
        if not self.narrow_left and not self.left_centred:
            correction = torch.mul(keys.to(6).sum(-1), self.left_zero.squeeze(-1))
            products = products.sub_(correction.unsqueeze(-2))
        return products

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        work = left.size(-2) * left.size(-1) * right.size(-1)
        if self.integer and work >= INTEGER_WORK and left.size()[:-2] == right.size()[:-2]:
            products = self.integer_products(left, right)
        else:
            products = torch.matmul(left.to(6).sub_(self.left_zero), right.to(6))
        if self.raw:
            return products
        if not self.right_centred:
            rows = torch.mul(left.to(6).sub_(self.left_zero), self.right_zero).sum(-1, True)
            products = products.sub_(rows)
        return products.mul_(self.scale)
