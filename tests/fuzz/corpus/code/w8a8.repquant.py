class QuantizedModel(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  words : __torch__.repquant.Embedding
  norm_quantize : __torch__.repquant.NormQuantize
  qkv : __torch__.repquant.Linear
  scores : __torch__.repquant.Scores
  attend : __torch__.repquant.Attend
  out : __torch__.repquant.Linear
  head_input : __torch__.repquant.Quantize
  head : __torch__.repquant.Linear
  def forward(self: __torch__.repquant.QuantizedModel,
    ids: Tensor) -> Tensor:
    words = self.words
    _0 = (words).forward(ids, )
    norm_quantize = self.norm_quantize
    _1 = (norm_quantize).forward(_0, )
    qkv = self.qkv
    _2 = torch.chunk((qkv).forward(_1, ), 3, -1)
    q, k, v, = _2
    _3 = torch.transpose(k, -2, -1)
    scores = self.scores
    _4 = (scores).forward(q, _3, )
    attend = self.attend
    _5 = (attend).forward(_4, v, 1., )
    out = self.out
    x = torch.add(_0, (out).forward(_5, ))
    input0 = torch.gelu(x)
    head_input = self.head_input
    _6 = (head_input).forward(input0, )
    head = self.head
    return (head).forward(_6, )
class Embedding(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  codes : Tensor
  scale : Tensor
  bits : int
  columns : int
  packed : bool
  def prepare(self: __torch__.repquant.Embedding) -> NoneType:
    bits = self.bits
    self.packed = torch.le(bits, 4)
    return None
  def forward(self: __torch__.repquant.Embedding,
    indices: Tensor) -> Tensor:
    codes = self.codes
    rows = torch.embedding(codes, indices)
    packed = self.packed
    if packed:
      low = torch.bitwise_and(rows, 15)
      high = torch.bitwise_right_shift(rows, 4)
      pairs = torch.flatten(torch.stack([low, high], -1), -2)
      columns = self.columns
      _7 = torch.narrow(pairs, -1, 0, columns)
      rows0 = torch.sub(torch.to(_7, 1), 8)
    else:
      rows0 = rows
    _8 = torch.to(rows0, 6)
    scale = self.scale
    _9 = torch.mul_(_8, torch.embedding(scale, indices))
    return _9
  def __getstate__(self: __torch__.repquant.Embedding) -> Tuple[Tensor, Tensor, int, int, bool]:
    codes = self.codes
    scale = self.scale
    bits = self.bits
    columns = self.columns
    training = self.training
    _10 = (codes, scale, bits, columns, training)
    return _10
  def __setstate__(self: __torch__.repquant.Embedding,
    state: Tuple[Tensor, Tensor, int, int, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bits = (state)[2]
    self.columns = (state)[3]
    self.training = (state)[4]
    _11 = (self).prepare()
    return None
class NormQuantize(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  weight : Tensor
  bias : Tensor
  shape : List[int]
  epsilon : float
  max_code : int
  root_mean_square : bool
  shifted : Tensor
  high : float
  def prepare(self: __torch__.repquant.NormQuantize) -> NoneType:
    bias = self.bias
    self.shifted = torch.add(bias, 0.5)
    max_code = self.max_code
    self.high = torch.add(float(max_code), 0.5)
    return None
  def forward(self: __torch__.repquant.NormQuantize,
    x: Tensor) -> Tensor:
    root_mean_square = self.root_mean_square
    if root_mean_square:
      shape = self.shape
      weight = self.weight
      epsilon = self.epsilon
      _12 = torch.rms_norm(x, shape, weight, epsilon)
      shifted = self.shifted
      y = torch.add_(_12, shifted)
    else:
      shape0 = self.shape
      weight0 = self.weight
      shifted0 = self.shifted
      epsilon0 = self.epsilon
      y0 = torch.layer_norm(x, shape0, weight0, shifted0, epsilon0, False)
      y = y0
    high = self.high
    y1 = torch.clamp_(y, 0.5, high)
    max_code = self.max_code
    if torch.le(max_code, 127):
      _13 = torch.to(torch.to(y1, 1), 0)
    else:
      _13 = torch.to(torch.to(y1, 2), 0)
    return _13
  def __getstate__(self: __torch__.repquant.NormQuantize) -> Tuple[Tensor, Tensor, List[int], float, int, bool, bool]:
    weight = self.weight
    bias = self.bias
    shape = self.shape
    epsilon = self.epsilon
    max_code = self.max_code
    root_mean_square = self.root_mean_square
    training = self.training
    _14 = (weight, bias, shape, epsilon, max_code, root_mean_square, training)
    return _14
  def __setstate__(self: __torch__.repquant.NormQuantize,
    state: Tuple[Tensor, Tensor, List[int], float, int, bool, bool]) -> NoneType:
    self.weight = (state)[0]
    self.bias = (state)[1]
    self.shape = (state)[2]
    self.epsilon = (state)[3]
    self.max_code = (state)[4]
    self.root_mean_square = (state)[5]
    self.training = (state)[6]
    _15 = (self).prepare()
    return None
class Linear(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  codes : Tensor
  scale : Tensor
  bias : Tensor
  bits : int
  columns : int
  zero_point : int
  max_product_code : int
  activation : str
  algorithm : str
  output : int
  output_low : int
  output_high : int
  output_scale : float
  output_zero : int
  output_max_code : int
  output_quadratic : bool
  packed : Tensor
  packed_rest : Tensor
  weight_zero : Tensor
  rows : int
  split : bool
  low : float
  high : float
  output_limit : int
  def unpack(self: __torch__.repquant.Linear) -> Tensor:
    bits = self.bits
    if torch.gt(bits, 4):
      _16 = self.codes
    else:
      codes = self.codes
      low = torch.bitwise_and(codes, 15)
      codes0 = self.codes
      high = torch.bitwise_right_shift(codes0, 4)
      pairs = torch.flatten(torch.stack([low, high], -1), 1)
      columns = self.columns
      _17 = torch.narrow(pairs, 1, 0, columns)
      _16 = torch.sub(torch.to(_17, 1), 8)
    return _16
  def saturates(self: __torch__.repquant.Linear) -> bool:
    weight = torch.full([32, 64], 127, dtype=1)
    packed = ops.onednn.qlinear_prepack(weight, None)
    scale = torch.ones([32], dtype=6)
    zero = torch.zeros([32], dtype=3)
    x = torch.full([32, 64], 255, dtype=0)
    _18 = annotate(List[Optional[number]], [])
    y = ops.onednn.qlinear_pointwise(x, 1., 0, packed, scale, zero, None, 1., 0, 6, "none", _18, "")
    _19 = bool(torch.all(torch.eq(y, 2072640.)))
    return torch.__not__(_19)
  def prepare(self: __torch__.repquant.Linear) -> NoneType:
    weight = (self).unpack()
    _20 = torch.zeros([torch.size(weight, 0)], dtype=3)
    self.weight_zero = _20
    self.rows = torch.size(weight, 0)
    if torch.gt(torch.numel(weight), 0):
      _21 = torch.max(torch.abs(torch.to(weight, 3)))
      largest = int(_21)
    else:
      largest = 0
    max_product_code = self.max_product_code
    _22 = torch.mul(torch.mul(2, max_product_code), largest)
    if torch.gt(_22, 32767):
      _23 = (self).saturates()
    else:
      _23 = False
    self.split = _23
    weight_zero = self.weight_zero
    self.packed_rest = weight_zero
    split = self.split
    if split:
      half = torch.div(torch.to(weight, 3), 2, rounding_mode="floor")
      _24 = torch.sub(torch.to(weight, 3), half)
      _25 = ops.onednn.qlinear_prepack(torch.to(_24, 1), None)
      self.packed_rest = _25
      weight1 = torch.to(half, 1)
    else:
      weight1 = weight
    _26 = ops.onednn.qlinear_prepack(torch.contiguous(weight1), None)
    self.packed = _26
    output_low = self.output_low
    self.low = float(output_low)
    output_high = self.output_high
    self.high = float(output_high)
    output_max_code = self.output_max_code
    self.output_limit = output_max_code
    output_quadratic = self.output_quadratic
    if output_quadratic:
      output_max_code0 = self.output_max_code
      output_max_code1 = self.output_max_code
      _27 = torch.mul(output_max_code0, output_max_code1)
      self.output_limit = _27
    else:
      pass
    return None
  def product_split(self: __torch__.repquant.Linear,
    x: Tensor) -> Tensor:
    zero_point = self.zero_point
    packed = self.packed
    scale = self.scale
    weight_zero = self.weight_zero
    bias = self.bias
    _28 = annotate(List[Optional[number]], [])
    y = ops.onednn.qlinear_pointwise(x, 1., zero_point, packed, scale, weight_zero, bias, 1., 0, 6, "none", _28, "")
    zero_point0 = self.zero_point
    packed_rest = self.packed_rest
    scale0 = self.scale
    weight_zero0 = self.weight_zero
    _29 = annotate(List[Optional[number]], [])
    z = ops.onednn.qlinear_pointwise(x, 1., zero_point0, packed_rest, scale0, weight_zero0, None, 1., 0, 6, "none", _29, "")
    y2 = torch.add_(y, z)
    activation = self.activation
    if torch.eq(activation, "gelu"):
      algorithm = self.algorithm
      y4 = torch.gelu(y2, approximate=algorithm)
      y3 = y4
    else:
      y3 = y2
    activation0 = self.activation
    if torch.eq(activation0, "relu"):
      y5 = torch.relu(y3)
    else:
      y5 = y3
    output = self.output
    if torch.eq(output, 1):
      _30 = torch.round_(y5)
      low = self.low
      high = self.high
      y7 = torch.to(torch.clamp_(_30, low, high), 1)
      y6 = y7
    else:
      y6 = y5
    output0 = self.output
    if torch.eq(output0, 2):
      output_scale = self.output_scale
      _31 = torch.round_(torch.div_(y6, output_scale))
      output_zero = self.output_zero
      y9 = torch.add_(_31, float(output_zero))
      output_limit = self.output_limit
      _32 = torch.clamp_(y9, 0., float(output_limit))
      y8 = torch.to(torch.to(_32, 2), 0)
    else:
      y8 = y6
    return y8
  def product(self: __torch__.repquant.Linear,
    x: Tensor) -> Tensor:
    split = self.split
    if split:
      _33 = (self).product_split(x, )
    else:
      output = self.output
      if torch.eq(output, 1):
        zero_point = self.zero_point
        packed = self.packed
        scale = self.scale
        weight_zero = self.weight_zero
        bias = self.bias
        low = self.low
        high = self.high
        _35 = annotate(List[Optional[number]], [low, high])
        _36 = ops.onednn.qlinear_pointwise(x, 1., zero_point, packed, scale, weight_zero, bias, 1., 0, 1, "hardtanh", _35, "")
        _34 = _36
      else:
        output1 = self.output
        if torch.eq(output1, 2):
          zero_point1 = self.zero_point
          packed0 = self.packed
          scale1 = self.scale
          weight_zero1 = self.weight_zero
          bias0 = self.bias
          output_scale = self.output_scale
          output_zero = self.output_zero
          activation = self.activation
          algorithm = self.algorithm
          _38 = annotate(List[Optional[number]], [])
          y = ops.onednn.qlinear_pointwise(x, 1., zero_point1, packed0, scale1, weight_zero1, bias0, output_scale, output_zero, 0, activation, _38, algorithm)
          output_limit = self.output_limit
          if torch.lt(output_limit, 255):
            output_limit0 = self.output_limit
            y11 = torch.clamp_max_(y, output_limit0)
            y10 = y11
          else:
            y10 = y
          _37 = y10
        else:
          zero_point2 = self.zero_point
          packed1 = self.packed
          scale2 = self.scale
          weight_zero2 = self.weight_zero
          bias1 = self.bias
          activation1 = self.activation
          algorithm0 = self.algorithm
          _39 = annotate(List[Optional[number]], [])
          _40 = ops.onednn.qlinear_pointwise(x, 1., zero_point2, packed1, scale2, weight_zero2, bias1, 1., 0, 6, activation1, _39, algorithm0)
          _37 = _40
        _34 = _37
      _33 = _34
    return _33
  def forward(self: __torch__.repquant.Linear,
    x: Tensor) -> Tensor:
    x0 = torch.contiguous(x)
    if torch.eq(torch.dim(x0), 2):
      _41 = True
    else:
      _41 = torch.eq(torch.dim(x0), 3)
    if _41:
      y = (self).product(x0, )
    else:
      columns = self.columns
      _42 = (self).product(torch.reshape(x0, [-1, columns]), )
      _43 = torch.slice(torch.size(x0), None, -1)
      rows = self.rows
      y12 = torch.reshape(_42, torch.add(_43, [rows]))
      y = y12
    output = self.output
    if torch.eq(output, 2):
      _44 = self.output_quadratic
    else:
      _44 = False
    if _44:
      _45 = torch.round_(torch.sqrt_(torch.to(y, 6)))
      q = torch.to(torch.to(_45, 1), 0)
      y13 = torch.mul(q, q)
    else:
      y13 = y
    return y13
  def __getstate__(self: __torch__.repquant.Linear) -> Tuple[Tensor, Tensor, Tensor, int, int, int, int, str, str, int, int, int, float, int, int, bool, bool]:
    codes = self.codes
    scale = self.scale
    bias = self.bias
    bits = self.bits
    columns = self.columns
    zero_point = self.zero_point
    max_product_code = self.max_product_code
    activation = self.activation
    algorithm = self.algorithm
    output = self.output
    output_low = self.output_low
    output_high = self.output_high
    output_scale = self.output_scale
    output_zero = self.output_zero
    output_max_code = self.output_max_code
    output_quadratic = self.output_quadratic
    training = self.training
    _46 = (codes, scale, bias, bits, columns, zero_point, max_product_code, activation, algorithm, output, output_low, output_high, output_scale, output_zero, output_max_code, output_quadratic, training)
    return _46
  def __setstate__(self: __torch__.repquant.Linear,
    state: Tuple[Tensor, Tensor, Tensor, int, int, int, int, str, str, int, int, int, float, int, int, bool, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bias = (state)[2]
    self.bits = (state)[3]
    self.columns = (state)[4]
    self.zero_point = (state)[5]
    self.max_product_code = (state)[6]
    self.activation = (state)[7]
    self.algorithm = (state)[8]
    self.output = (state)[9]
    self.output_low = (state)[10]
    self.output_high = (state)[11]
    self.output_scale = (state)[12]
    self.output_zero = (state)[13]
    self.output_max_code = (state)[14]
    self.output_quadratic = (state)[15]
    self.training = (state)[16]
    _47 = (self).prepare()
    return None
class Scores(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  left_zero : Tensor
  right_zero : Tensor
  left_bits : int
  right_bits : int
  scale : Tensor
  raw : bool
  integer : bool
  narrow_left : bool
  left_centred : bool
  right_centred : bool
  left_shift : Tensor
  def prepare(self: __torch__.repquant.Scores) -> NoneType:
    a = torch.full([32, 64], 127, dtype=1)
    b = torch.full([64, 32], 127, dtype=1)
    _48 = torch.eq(torch._int_mm(a, b), 1032256)
    self.integer = bool(torch.all(_48))
    left_bits = self.left_bits
    self.narrow_left = torch.le(left_bits, 7)
    left_zero = self.left_zero
    self.left_shift = torch.to(left_zero, 3)
    left_zero0 = self.left_zero
    _49 = bool(torch.any(torch.ne(left_zero0, 0.)))
    self.left_centred = torch.__not__(_49)
    right_zero = self.right_zero
    _50 = bool(torch.any(torch.ne(right_zero, 0.)))
    self.right_centred = torch.__not__(_50)
    narrow_left = self.narrow_left
    if narrow_left:
      left_zero1 = self.left_zero
      self.left_shift = torch.to(left_zero1, 1)
    else:
      pass
    return None
  def integer_products(self: __torch__.repquant.Scores,
    left: Tensor,
    right: Tensor) -> Tensor:
    rows = torch.size(left, -2)
    columns = torch.size(right, -1)
    _51 = torch.slice(torch.size(left), None, -1)
    shape = torch.add(_51, [columns])
    narrow_left = self.narrow_left
    if narrow_left:
      left_centred = self.left_centred
      _52 = torch.__not__(left_centred)
    else:
      _52 = False
    if _52:
      left_shift = self.left_shift
      left0 = torch.sub(left, left_shift)
    else:
      left0 = left
    a = torch.reshape(left0, [-1, rows, torch.size(left0, -1)])
    keys = torch.transpose(right, -1, -2)
    _53 = [-1, columns, torch.size(left0, -1)]
    b = torch.reshape(keys, _53)
    sums = torch.empty([torch.size(a, 0), rows, columns], dtype=3)
    for i in range(torch.size(a, 0)):
      _54 = torch._int_mm(torch.select(a, 0, i), torch.t(torch.select(b, 0, i)), out=torch.select(sums, 0, i))
    products = torch.reshape(torch.to(sums, 6), shape)
    narrow_left0 = self.narrow_left
    if torch.__not__(narrow_left0):
      left_centred0 = self.left_centred
      _55 = torch.__not__(left_centred0)
    else:
      _55 = False
    if _55:
      _56 = torch.sum(torch.to(keys, 6), [-1])
      left_zero = self.left_zero
      correction = torch.mul(_56, torch.squeeze(left_zero, -1))
      products1 = torch.sub_(products, torch.unsqueeze(correction, -2))
      products0 = products1
    else:
      products0 = products
    return products0
  def forward(self: __torch__.repquant.Scores,
    left: Tensor,
    right: Tensor) -> Tensor:
    _57 = torch.mul(torch.size(left, -2), torch.size(left, -1))
    work = torch.mul(_57, torch.size(right, -1))
    integer = self.integer
    if integer:
      _58 = torch.ge(work, 1000000)
    else:
      _58 = False
    if _58:
      _60 = torch.slice(torch.size(left), None, -2)
      _61 = torch.slice(torch.size(right), None, -2)
      _59 = torch.eq(_60, _61)
    else:
      _59 = False
    if _59:
      products2 = (self).integer_products(left, right, )
      products = products2
    else:
      _62 = torch.to(left, 6)
      left_zero = self.left_zero
      products3 = torch.matmul(torch.sub_(_62, left_zero), torch.to(right, 6))
      products = products3
    raw = self.raw
    if raw:
      _63 = products
    else:
      right_centred = self.right_centred
      if torch.__not__(right_centred):
        _64 = torch.to(left, 6)
        left_zero2 = self.left_zero
        rows = torch.sum(torch.sub_(_64, left_zero2), [-1], True)
        right_zero = self.right_zero
        products5 = torch.sub_(products, torch.mul(rows, right_zero))
        products4 = products5
      else:
        products4 = products
      scale = self.scale
      _63 = torch.mul_(products4, scale)
    return _63
  def __getstate__(self: __torch__.repquant.Scores) -> Tuple[Tensor, Tensor, int, int, Tensor, bool, bool]:
    left_zero = self.left_zero
    right_zero = self.right_zero
    left_bits = self.left_bits
    right_bits = self.right_bits
    scale = self.scale
    raw = self.raw
    training = self.training
    _65 = (left_zero, right_zero, left_bits, right_bits, scale, raw, training)
    return _65
  def __setstate__(self: __torch__.repquant.Scores,
    state: Tuple[Tensor, Tensor, int, int, Tensor, bool, bool]) -> NoneType:
    self.left_zero = (state)[0]
    self.right_zero = (state)[1]
    self.left_bits = (state)[2]
    self.right_bits = (state)[3]
    self.scale = (state)[4]
    self.raw = (state)[5]
    self.training = (state)[6]
    _66 = (self).prepare()
    return None
class Attend(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  factor : Tensor
  bits : int
  uniform : bool
  u8_table : bool
  zero_code : bool
  steps_per_octave : float
  row_maximum : bool
  log_scale : float
  fresh : bool
  value_zero : Tensor
  multiplier : Tensor
  offset : Tensor
  output_max_code : int
  scalar : bool
  factor_value : float
  max_code : float
  step : float
  cut : float
  high : float
  shifted : Tensor
  def prepare(self: __torch__.repquant.Attend) -> NoneType:
    factor = self.factor
    self.scalar = torch.eq(torch.numel(factor), 1)
    self.factor_value = 1.
    scalar = self.scalar
    if scalar:
      factor0 = self.factor
      self.factor_value = float(factor0)
    else:
      pass
    bits = self.bits
    _67 = torch.sub(torch.__lshift__(1, bits), 1)
    self.max_code = float(_67)
    steps_per_octave = self.steps_per_octave
    self.step = torch.div(1., steps_per_octave)
    max_code = self.max_code
    _68 = torch.sub(0.5, max_code)
    step = self.step
    self.cut = torch.pow(2., torch.mul(_68, step))
    output_max_code = self.output_max_code
    _69 = torch.add(float(output_max_code), 0.5)
    self.high = _69
    offset = self.offset
    self.shifted = torch.add(offset, 0.5)
    return None
  def octaves(self: __torch__.repquant.Attend,
    scores: Tensor,
    factor: float) -> Tensor:
    row_maximum = self.row_maximum
    if row_maximum:
      maximum = torch.amax(scores, [-1], True)
      fresh = self.fresh
      if fresh:
        x1 = torch.sub_(scores, maximum)
      else:
        _70 = torch.clamp_min_(maximum, -3.4028234663852886e+38)
        x1 = torch.sub(scores, _70)
      x = x1
    else:
      _71 = torch.log_softmax(scores, -1)
      log_scale = self.log_scale
      x2 = torch.sub_(_71, log_scale)
      x3 = torch.nan_to_num(x2, -inf, inf, -inf)
      x = x3
    scalar = self.scalar
    if scalar:
      factor_value = self.factor_value
      _73 = torch.mul_(x, torch.mul(factor_value, factor))
      _72 = _73
    else:
      factor1 = self.factor
      _74 = torch.mul_(x, torch.mul(factor1, factor))
      _72 = _74
    return _72
  def weights(self: __torch__.repquant.Attend,
    scores: Tensor,
    factor: float) -> Tensor:
    w = (self).octaves(scores, factor, )
    uniform = self.uniform
    if uniform:
      _76 = torch.exp2_(w)
      max_code = self.max_code
      _77 = torch.round_(torch.mul_(_76, max_code))
      max_code0 = self.max_code
      _75 = torch.clamp_max_(_77, max_code0)
    else:
      w0 = torch.round_(w)
      row_maximum = self.row_maximum
      if torch.__not__(row_maximum):
        w1 = torch.clamp_max_(w0, 0.)
      else:
        w1 = w0
      zero_code = self.zero_code
      if torch.__not__(zero_code):
        max_code1 = self.max_code
        w3 = torch.clamp_min_(w1, torch.neg(max_code1))
        w2 = w3
      else:
        w2 = w1
      steps_per_octave = self.steps_per_octave
      if torch.ne(steps_per_octave, 1.):
        step = self.step
        w4 = torch.mul_(w2, step)
      else:
        w4 = w2
      w5 = torch.exp2_(w4)
      zero_code0 = self.zero_code
      if zero_code0:
        cut = self.cut
        w6 = torch.threshold_(w5, cut, 0.)
      else:
        fresh = self.fresh
        if torch.__not__(fresh):
          _78 = torch.amax(scores, [-1], True)
          w8 = torch.mul_(w5, torch.gt(_78, -inf))
          w7 = w8
        else:
          w7 = w5
        w6 = w7
      u8_table = self.u8_table
      if u8_table:
        w10 = torch.round_(torch.mul_(w6, 255.))
        w9 = w10
      else:
        w9 = w6
      _75 = w9
    return _75
  def forward(self: __torch__.repquant.Attend,
    scores: Tensor,
    value: Tensor,
    factor: float) -> Tensor:
    w = (self).weights(scores, factor, )
    _79 = torch.to(value, 6)
    value_zero = self.value_zero
    y = torch.matmul(w, torch.sub_(_79, value_zero))
    row_maximum = self.row_maximum
    if row_maximum:
      _80 = torch.clamp_min_(torch.sum(w, [-1], True), 1.)
      y14 = torch.div_(y, _80)
    else:
      y14 = y
    multiplier = self.multiplier
    y15 = torch.mul_(y14, multiplier)
    output_max_code = self.output_max_code
    if torch.eq(output_max_code, 0):
      _81 = y15
    else:
      shifted = self.shifted
      _82 = torch.add_(y15, shifted)
      high = self.high
      y16 = torch.clamp_(_82, 0.5, high)
      output_max_code2 = self.output_max_code
      if torch.le(output_max_code2, 127):
        _83 = torch.to(torch.to(y16, 1), 0)
      else:
        _83 = torch.to(torch.to(y16, 2), 0)
      _81 = _83
    return _81
  def __getstate__(self: __torch__.repquant.Attend) -> Tuple[Tensor, int, bool, bool, bool, float, bool, float, bool, Tensor, Tensor, Tensor, int, bool]:
    factor = self.factor
    bits = self.bits
    uniform = self.uniform
    u8_table = self.u8_table
    zero_code = self.zero_code
    steps_per_octave = self.steps_per_octave
    row_maximum = self.row_maximum
    log_scale = self.log_scale
    fresh = self.fresh
    value_zero = self.value_zero
    multiplier = self.multiplier
    offset = self.offset
    output_max_code = self.output_max_code
    training = self.training
    _84 = (factor, bits, uniform, u8_table, zero_code, steps_per_octave, row_maximum, log_scale, fresh, value_zero, multiplier, offset, output_max_code, training)
    return _84
  def __setstate__(self: __torch__.repquant.Attend,
    state: Tuple[Tensor, int, bool, bool, bool, float, bool, float, bool, Tensor, Tensor, Tensor, int, bool]) -> NoneType:
    self.factor = (state)[0]
    self.bits = (state)[1]
    self.uniform = (state)[2]
    self.u8_table = (state)[3]
    self.zero_code = (state)[4]
    self.steps_per_octave = (state)[5]
    self.row_maximum = (state)[6]
    self.log_scale = (state)[7]
    self.fresh = (state)[8]
    self.value_zero = (state)[9]
    self.multiplier = (state)[10]
    self.offset = (state)[11]
    self.output_max_code = (state)[12]
    self.training = (state)[13]
    _85 = (self).prepare()
    return None
class Quantize(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  multiplier : Tensor
  offset : Tensor
  max_code : int
  quadratic : bool
  signed_codes : bool
  shift : int
  scalar : bool
  factor : float
  addend : float
  high : float
  def prepare(self: __torch__.repquant.Quantize) -> NoneType:
    multiplier = self.multiplier
    _86 = torch.eq(torch.numel(multiplier), 1)
    if _86:
      offset = self.offset
      _87 = torch.eq(torch.numel(offset), 1)
    else:
      _87 = False
    self.scalar = _87
    self.factor = 1.
    self.addend = 0.
    scalar = self.scalar
    if scalar:
      multiplier0 = self.multiplier
      self.factor = float(multiplier0)
      offset0 = self.offset
      self.addend = float(offset0)
    else:
      pass
    max_code = self.max_code
    self.high = float(max_code)
    return None
  def forward(self: __torch__.repquant.Quantize,
    x: Tensor) -> Tensor:
    scalar = self.scalar
    if scalar:
      factor = self.factor
      _88 = torch.mul(x, factor)
      addend = self.addend
      y17 = torch.round_(torch.add_(_88, addend))
      y = y17
    else:
      multiplier = self.multiplier
      _89 = torch.mul(x, multiplier)
      offset = self.offset
      y18 = torch.round_(torch.add_(_89, offset))
      y = y18
    quadratic = self.quadratic
    if quadratic:
      high = self.high
      high0 = self.high
      _91 = torch.clamp_(y, 0., torch.mul(high, high0))
      y19 = torch.round_(torch.sqrt_(_91))
      q = torch.to(torch.to(y19, 1), 0)
      _90 = torch.mul(q, q)
    else:
      high1 = self.high
      y20 = torch.clamp_(y, 0., high1)
      signed_codes = self.signed_codes
      if signed_codes:
        shift = self.shift
        if torch.ne(shift, 0):
          shift0 = self.shift
          y22 = torch.sub_(y20, float(shift0))
          y21 = y22
        else:
          y21 = y20
        _92 = torch.to(y21, 1)
      else:
        max_code = self.max_code
        if torch.le(max_code, 127):
          _93 = torch.to(torch.to(y20, 1), 0)
        else:
          _93 = torch.to(torch.to(y20, 2), 0)
        _92 = _93
      _90 = _92
    return _90
  def __getstate__(self: __torch__.repquant.Quantize) -> Tuple[Tensor, Tensor, int, bool, bool, int, bool]:
    multiplier = self.multiplier
    offset = self.offset
    max_code = self.max_code
    quadratic = self.quadratic
    signed_codes = self.signed_codes
    shift = self.shift
    training = self.training
    _94 = (multiplier, offset, max_code, quadratic, signed_codes, shift, training)
    return _94
  def __setstate__(self: __torch__.repquant.Quantize,
    state: Tuple[Tensor, Tensor, int, bool, bool, int, bool]) -> NoneType:
    self.multiplier = (state)[0]
    self.offset = (state)[1]
    self.max_code = (state)[2]
    self.quadratic = (state)[3]
    self.signed_codes = (state)[4]
    self.shift = (state)[5]
    self.training = (state)[6]
    _95 = (self).prepare()
    return None
