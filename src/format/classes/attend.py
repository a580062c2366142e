"""Softmax codes of the scores, times the value codes.

Codes c = round((rowmax - score) * steps * log2 e), weight 2^(-c / steps), the last code is zero.
Masked entries are -inf; rows that are masked throughout give 0. `factor` is what the model
multiplies its scores by, where it computes that number itself.
"""


class Attend:
    # Stored, in this order.
    factor: Tensor
    bits: int
    uniform: bool
    u8_table: bool
    zero_code: bool
    steps_per_octave: float
    row_maximum: bool
    log_scale: float
    fresh: bool
    value_zero: Tensor
    multiplier: Tensor
    offset: Tensor
    output_max_code: int
    # Derived by prepare().
    scalar: bool
    factor_value: float
    max_code: float
    step: float
    cut: float
    high: float
    shifted: Tensor

    def prepare(self) -> None:
        self.scalar = self.factor.numel() == 1
        self.factor_value = 1.0
        if self.scalar:
            self.factor_value = float(self.factor)
        self.max_code = float((1 << self.bits) - 1)
        self.step = 1.0 / self.steps_per_octave
        self.cut = 2.0 ** ((0.5 - self.max_code) * self.step)
        self.high = float(self.output_max_code) + 0.5
        self.shifted = self.offset + 0.5

    def octaves(self, scores: Tensor, factor: float) -> Tensor:
        if self.row_maximum:
            maximum = torch.amax(scores, [-1], True)
            if self.fresh:
                x = scores.sub_(maximum)
            else:
                x = torch.sub(scores, maximum.clamp_min_(-3.4028234663852886e+38))
        else:
            x = torch.log_softmax(scores, -1).sub_(self.log_scale)
            x = torch.nan_to_num(x, float("-inf"), float("inf"), float("-inf"))
        if self.scalar:
            return x.mul_(self.factor_value * factor)
        return x.mul_(torch.mul(self.factor, factor))

    def weights(self, scores: Tensor, factor: float) -> Tensor:
        if scores.numel() == 0:
            return scores  # rows of no keys have no maximum
        w = self.octaves(scores, factor)
        if self.uniform:
            return w.exp2_().mul_(self.max_code).round_().clamp_max_(self.max_code)
        w = w.round_()
        if not self.row_maximum:
            w = w.clamp_max_(0.0)
        if not self.zero_code:
            w = w.clamp_min_(-self.max_code)
        if self.steps_per_octave != 1.0:
            w = w.mul_(self.step)
        w = w.exp2_()
        if self.zero_code:
            w = torch.threshold_(w, self.cut, 0.0)
        elif not self.fresh:
            w = w.mul_(torch.gt(torch.amax(scores, [-1], True), float("-inf")))
        if self.u8_table:
            w = w.mul_(255.0).round_()
        return w

    def forward(self, scores: Tensor, value: Tensor, factor: float) -> Tensor:
        w = self.weights(scores, factor)
        y = torch.matmul(w, value.to(6).sub_(self.value_zero))
        if self.row_maximum:
            y = y.div_(w.sum(-1, True).clamp_min_(1.0))
        y = y.mul_(self.multiplier)
        if self.output_max_code == 0:
            return y
        y = y.add_(self.shifted).clamp_(0.5, self.high)
        if self.output_max_code <= 127:
            return y.to(1).to(0)
        return y.to(2).to(0)
