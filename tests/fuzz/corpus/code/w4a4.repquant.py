class QuantizedModel(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  words : __torch__.repquant.Embedding
  qkv_range : __torch__.repquant.TokenRange
  qkv_input : __torch__.repquant.TokenQuantize
  qkv : __torch__.repquant.Linear
  qkv_scale : __torch__.repquant.TokenScale
  scores : __torch__.repquant.Scores
  attend : __torch__.repquant.Attend
  out_range : __torch__.repquant.TokenRange
  out_input : __torch__.repquant.TokenQuantize
  out : __torch__.repquant.Linear
  out_scale : __torch__.repquant.TokenScale
  head_range : __torch__.repquant.TokenRange
  head_input : __torch__.repquant.TokenQuantize
  head : __torch__.repquant.Linear
  head_scale : __torch__.repquant.TokenScale
  def forward(self: __torch__.repquant.QuantizedModel,
    ids: Tensor) -> Tensor:
    words = self.words
    _0 = (words).forward(ids, )
    input = torch.layer_norm(_0, [8], CONSTANTS.c0, CONSTANTS.c1)
    qkv_range = self.qkv_range
    _1 = (qkv_range).forward(input, )
    qkv_input = self.qkv_input
    _2 = (qkv_input).forward(input, _1, )
    qkv = self.qkv
    _3 = (qkv).forward(_2, )
    qkv_scale = self.qkv_scale
    _4 = torch.chunk((qkv_scale).forward(_3, _1, ), 3, -1)
    q, k, v, = _4
    _5 = torch.transpose(k, -2, -1)
    scores = self.scores
    _6 = (scores).forward(q, _5, )
    attend = self.attend
    _7 = (attend).forward(_6, v, 1., )
    out_range = self.out_range
    _8 = (out_range).forward(_7, )
    out_input = self.out_input
    _9 = (out_input).forward(_7, _8, )
    out = self.out
    _10 = (out).forward(_9, )
    out_scale = self.out_scale
    x = torch.add(_0, (out_scale).forward(_10, _8, ))
    input0 = torch.gelu(x)
    head_range = self.head_range
    _11 = (head_range).forward(input0, )
    head_input = self.head_input
    _12 = (head_input).forward(input0, _11, )
    head = self.head
    _13 = (head).forward(_12, )
    head_scale = self.head_scale
    return (head_scale).forward(_13, _11, )
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
      _14 = torch.narrow(pairs, -1, 0, columns)
      rows0 = torch.sub(torch.to(_14, 1), 8)
    else:
      rows0 = rows
    _15 = torch.to(rows0, 6)
    scale = self.scale
    _16 = torch.mul_(_15, torch.embedding(scale, indices))
    return _16
  def __getstate__(self: __torch__.repquant.Embedding) -> Tuple[Tensor, Tensor, int, int, bool]:
    codes = self.codes
    scale = self.scale
    bits = self.bits
    columns = self.columns
    training = self.training
    _17 = (codes, scale, bits, columns, training)
    return _17
  def __setstate__(self: __torch__.repquant.Embedding,
    state: Tuple[Tensor, Tensor, int, int, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bits = (state)[2]
    self.columns = (state)[3]
    self.training = (state)[4]
    _18 = (self).prepare()
    return None
class TokenRange(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  top : int
  steps : float
  def prepare(self: __torch__.repquant.TokenRange) -> NoneType:
    top = self.top
    self.steps = float(top)
    return None
  def forward(self: __torch__.repquant.TokenRange,
    x: Tensor) -> Tensor:
    low = torch.amin(x, [-1], True)
    _19 = torch.sub_(torch.amax(x, [-1], True), low)
    steps = self.steps
    step = torch.clamp_min_(torch.div_(_19, steps), 1.1754943508222875e-38)
    return torch.cat([low, step], -1)
  def __getstate__(self: __torch__.repquant.TokenRange) -> Tuple[int, bool]:
    top = self.top
    training = self.training
    return (top, training)
  def __setstate__(self: __torch__.repquant.TokenRange,
    state: Tuple[int, bool]) -> NoneType:
    self.top = (state)[0]
    self.training = (state)[1]
    _20 = (self).prepare()
    return None
class TokenQuantize(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  top : int
  levels : Tensor
  learned : bool
  table : Tensor
  def prepare(self: __torch__.repquant.TokenQuantize) -> NoneType:
    levels = self.levels
    count = torch.numel(levels)
    top = self.top
    self.learned = torch.ne(count, torch.add(top, 1))
    levels0 = self.levels
    values = torch.to(levels0, 6)
    _21 = torch.narrow(values, 0, 0, torch.sub(count, 1))
    _22 = torch.narrow(values, 0, 1, torch.sub(count, 1))
    middles = torch.div_(torch.add(_21, _22), 2.)
    nearest = torch.bucketize(torch.arange(256, dtype=6), middles)
    levels1 = self.levels
    _23 = torch.index_select(levels1, 0, nearest)
    self.table = _23
    return None
  def forward(self: __torch__.repquant.TokenQuantize,
    x: Tensor,
    rows: Tensor) -> Tensor:
    _24 = torch.sub(x, torch.narrow(rows, -1, 0, 1))
    _25 = torch.reciprocal(torch.narrow(rows, -1, 1, 1))
    _26 = torch.round_(torch.mul_(_24, _25))
    top = self.top
    y = torch.clamp_(_26, 0., float(top))
    top0 = self.top
    if torch.le(top0, 127):
      _27 = torch.to(torch.to(y, 1), 0)
    else:
      codes = torch.to(torch.to(y, 2), 0)
      learned = self.learned
      if learned:
        table = self.table
        _29 = torch.to(torch.flatten(codes), 3)
        _30 = torch.index_select(table, 0, _29)
        _28 = torch.view_as(_30, codes)
      else:
        _28 = codes
      _27 = _28
    return _27
  def __getstate__(self: __torch__.repquant.TokenQuantize) -> Tuple[int, Tensor, bool]:
    top = self.top
    levels = self.levels
    training = self.training
    return (top, levels, training)
  def __setstate__(self: __torch__.repquant.TokenQuantize,
    state: Tuple[int, Tensor, bool]) -> NoneType:
    self.top = (state)[0]
    self.levels = (state)[1]
    self.training = (state)[2]
    _31 = (self).prepare()
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
  levels : Tensor
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
      _32 = self.codes
    else:
      codes = self.codes
      low = torch.bitwise_and(codes, 15)
      codes0 = self.codes
      high = torch.bitwise_right_shift(codes0, 4)
      _33 = torch.flatten(torch.stack([low, high], -1), 1)
      columns = self.columns
      pairs = torch.narrow(_33, 1, 0, columns)
      levels = self.levels
      _34 = torch.index_select(levels, 0, torch.to(torch.flatten(pairs), 3))
      _32 = torch.view_as(_34, pairs)
    return _32
  def saturates(self: __torch__.repquant.Linear) -> bool:
    weight = torch.full([32, 64], 127, dtype=1)
    packed = ops.onednn.qlinear_prepack(weight, None)
    scale = torch.ones([32], dtype=6)
    zero = torch.zeros([32], dtype=3)
    x = torch.full([32, 64], 255, dtype=0)
    _35 = annotate(List[Optional[number]], [])
    y = ops.onednn.qlinear_pointwise(x, 1., 0, packed, scale, zero, None, 1., 0, 6, "none", _35, "")
    _36 = bool(torch.all(torch.eq(y, 2072640.)))
    return torch.__not__(_36)
  def prepare(self: __torch__.repquant.Linear) -> NoneType:
    weight = (self).unpack()
    _37 = torch.zeros([torch.size(weight, 0)], dtype=3)
    self.weight_zero = _37
    self.rows = torch.size(weight, 0)
    if torch.gt(torch.numel(weight), 0):
      _38 = torch.max(torch.abs(torch.to(weight, 3)))
      largest = int(_38)
    else:
      largest = 0
    max_product_code = self.max_product_code
    _39 = torch.mul(torch.mul(2, max_product_code), largest)
    if torch.gt(_39, 32767):
      _40 = (self).saturates()
    else:
      _40 = False
    self.split = _40
    weight_zero = self.weight_zero
    self.packed_rest = weight_zero
    split = self.split
    if split:
      half = torch.div(torch.to(weight, 3), 2, rounding_mode="floor")
      _41 = torch.sub(torch.to(weight, 3), half)
      _42 = ops.onednn.qlinear_prepack(torch.to(_41, 1), None)
      self.packed_rest = _42
      weight0 = torch.to(half, 1)
    else:
      weight0 = weight
    _43 = ops.onednn.qlinear_prepack(torch.contiguous(weight0), None)
    self.packed = _43
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
      _44 = torch.mul(output_max_code0, output_max_code1)
      self.output_limit = _44
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
    _45 = annotate(List[Optional[number]], [])
    y = ops.onednn.qlinear_pointwise(x, 1., zero_point, packed, scale, weight_zero, bias, 1., 0, 6, "none", _45, "")
    zero_point0 = self.zero_point
    packed_rest = self.packed_rest
    scale0 = self.scale
    weight_zero0 = self.weight_zero
    _46 = annotate(List[Optional[number]], [])
    z = ops.onednn.qlinear_pointwise(x, 1., zero_point0, packed_rest, scale0, weight_zero0, None, 1., 0, 6, "none", _46, "")
    y0 = torch.add_(y, z)
    activation = self.activation
    if torch.eq(activation, "gelu"):
      algorithm = self.algorithm
      y2 = torch.gelu(y0, approximate=algorithm)
      y1 = y2
    else:
      y1 = y0
    activation0 = self.activation
    if torch.eq(activation0, "relu"):
      y3 = torch.relu(y1)
    else:
      y3 = y1
    output = self.output
    if torch.eq(output, 1):
      _47 = torch.round_(y3)
      low = self.low
      high = self.high
      y5 = torch.to(torch.clamp_(_47, low, high), 1)
      y4 = y5
    else:
      y4 = y3
    output0 = self.output
    if torch.eq(output0, 2):
      output_scale = self.output_scale
      _48 = torch.round_(torch.div_(y4, output_scale))
      output_zero = self.output_zero
      y7 = torch.add_(_48, float(output_zero))
      output_limit = self.output_limit
      _49 = torch.clamp_(y7, 0., float(output_limit))
      y6 = torch.to(torch.to(_49, 2), 0)
    else:
      y6 = y4
    return y6
  def product(self: __torch__.repquant.Linear,
    x: Tensor) -> Tensor:
    split = self.split
    if split:
      _50 = (self).product_split(x, )
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
        _52 = annotate(List[Optional[number]], [low, high])
        _53 = ops.onednn.qlinear_pointwise(x, 1., zero_point, packed, scale, weight_zero, bias, 1., 0, 1, "hardtanh", _52, "")
        _51 = _53
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
          _55 = annotate(List[Optional[number]], [])
          y = ops.onednn.qlinear_pointwise(x, 1., zero_point1, packed0, scale1, weight_zero1, bias0, output_scale, output_zero, 0, activation, _55, algorithm)
          output_limit = self.output_limit
          if torch.lt(output_limit, 255):
            output_limit0 = self.output_limit
            y9 = torch.clamp_max_(y, output_limit0)
            y8 = y9
          else:
            y8 = y
          _54 = y8
        else:
          zero_point2 = self.zero_point
          packed1 = self.packed
          scale2 = self.scale
          weight_zero2 = self.weight_zero
          bias1 = self.bias
          activation1 = self.activation
          algorithm0 = self.algorithm
          _56 = annotate(List[Optional[number]], [])
          _57 = ops.onednn.qlinear_pointwise(x, 1., zero_point2, packed1, scale2, weight_zero2, bias1, 1., 0, 6, activation1, _56, algorithm0)
          _54 = _57
        _51 = _54
      _50 = _51
    return _50
  def forward(self: __torch__.repquant.Linear,
    x: Tensor) -> Tensor:
    x0 = torch.contiguous(x)
    if torch.eq(torch.dim(x0), 2):
      _58 = True
    else:
      _58 = torch.eq(torch.dim(x0), 3)
    if _58:
      _59 = torch.gt(torch.numel(x0), 0)
    else:
      _59 = False
    if _59:
      y = (self).product(x0, )
    else:
      columns = self.columns
      _60 = (self).product(torch.reshape(x0, [-1, columns]), )
      _61 = torch.slice(torch.size(x0), None, -1)
      rows = self.rows
      y10 = torch.reshape(_60, torch.add(_61, [rows]))
      y = y10
    output = self.output
    if torch.eq(output, 2):
      _62 = self.output_quadratic
    else:
      _62 = False
    if _62:
      _63 = torch.round_(torch.sqrt_(torch.to(y, 6)))
      q = torch.to(torch.to(_63, 1), 0)
      y11 = torch.mul(q, q)
    else:
      y11 = y
    return y11
  def __getstate__(self: __torch__.repquant.Linear) -> Tuple[Tensor, Tensor, Tensor, int, int, Tensor, int, int, str, str, int, int, int, float, int, int, bool, bool]:
    codes = self.codes
    scale = self.scale
    bias = self.bias
    bits = self.bits
    columns = self.columns
    levels = self.levels
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
    _64 = (codes, scale, bias, bits, columns, levels, zero_point, max_product_code, activation, algorithm, output, output_low, output_high, output_scale, output_zero, output_max_code, output_quadratic, training)
    return _64
  def __setstate__(self: __torch__.repquant.Linear,
    state: Tuple[Tensor, Tensor, Tensor, int, int, Tensor, int, int, str, str, int, int, int, float, int, int, bool, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bias = (state)[2]
    self.bits = (state)[3]
    self.columns = (state)[4]
    self.levels = (state)[5]
    self.zero_point = (state)[6]
    self.max_product_code = (state)[7]
    self.activation = (state)[8]
    self.algorithm = (state)[9]
    self.output = (state)[10]
    self.output_low = (state)[11]
    self.output_high = (state)[12]
    self.output_scale = (state)[13]
    self.output_zero = (state)[14]
    self.output_max_code = (state)[15]
    self.output_quadratic = (state)[16]
    self.training = (state)[17]
    _65 = (self).prepare()
    return None
class TokenScale(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  sums : Tensor
  bias : Tensor
  output : int
  output_low : int
  output_high : int
  low : float
  high : float
  def prepare(self: __torch__.repquant.TokenScale) -> NoneType:
    output_low = self.output_low
    self.low = float(output_low)
    output_high = self.output_high
    self.high = float(output_high)
    return None
  def forward(self: __torch__.repquant.TokenScale,
    y: Tensor,
    rows: Tensor) -> Tensor:
    _66 = torch.mul_(y, torch.narrow(rows, -1, 1, 1))
    _67 = torch.narrow(rows, -1, 0, 1)
    sums = self.sums
    _68 = torch.addcmul_(_66, _67, sums)
    bias = self.bias
    y12 = torch.add_(_68, bias)
    output = self.output
    if torch.eq(output, 1):
      _70 = torch.round_(y12)
      low = self.low
      high = self.high
      _71 = torch.to(torch.clamp_(_70, low, high), 1)
      _69 = _71
    else:
      _69 = y12
    return _69
  def __getstate__(self: __torch__.repquant.TokenScale) -> Tuple[Tensor, Tensor, int, int, int, bool]:
    sums = self.sums
    bias = self.bias
    output = self.output
    output_low = self.output_low
    output_high = self.output_high
    training = self.training
    _72 = (sums, bias, output, output_low, output_high, training)
    return _72
  def __setstate__(self: __torch__.repquant.TokenScale,
    state: Tuple[Tensor, Tensor, int, int, int, bool]) -> NoneType:
    self.sums = (state)[0]
    self.bias = (state)[1]
    self.output = (state)[2]
    self.output_low = (state)[3]
    self.output_high = (state)[4]
    self.training = (state)[5]
    _73 = (self).prepare()
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
    _74 = torch.eq(torch._int_mm(a, b), 1032256)
    self.integer = bool(torch.all(_74))
    left_bits = self.left_bits
    self.narrow_left = torch.le(left_bits, 7)
    left_zero = self.left_zero
    self.left_shift = torch.to(left_zero, 3)
    left_zero0 = self.left_zero
    _75 = bool(torch.any(torch.ne(left_zero0, 0.)))
    self.left_centred = torch.__not__(_75)
    right_zero = self.right_zero
    _76 = bool(torch.any(torch.ne(right_zero, 0.)))
    self.right_centred = torch.__not__(_76)
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
    _77 = torch.slice(torch.size(left), None, -1)
    shape = torch.add(_77, [columns])
    narrow_left = self.narrow_left
    if narrow_left:
      left_centred = self.left_centred
      _78 = torch.__not__(left_centred)
    else:
      _78 = False
    if _78:
      left_shift = self.left_shift
      left0 = torch.sub(left, left_shift)
    else:
      left0 = left
    a = torch.reshape(left0, [-1, rows, torch.size(left0, -1)])
    keys = torch.transpose(right, -1, -2)
    _79 = [-1, columns, torch.size(left0, -1)]
    b = torch.reshape(keys, _79)
    sums = torch.empty([torch.size(a, 0), rows, columns], dtype=3)
    for i in range(torch.size(a, 0)):
      _80 = torch._int_mm(torch.select(a, 0, i), torch.t(torch.select(b, 0, i)), out=torch.select(sums, 0, i))
    products = torch.reshape(torch.to(sums, 6), shape)
    narrow_left0 = self.narrow_left
    if torch.__not__(narrow_left0):
      left_centred0 = self.left_centred
      _81 = torch.__not__(left_centred0)
    else:
      _81 = False
    if _81:
      _82 = torch.sum(torch.to(keys, 6), [-1])
      left_zero = self.left_zero
      correction = torch.mul(_82, torch.squeeze(left_zero, -1))
      products1 = torch.sub_(products, torch.unsqueeze(correction, -2))
      products0 = products1
    else:
      products0 = products
    return products0
  def forward(self: __torch__.repquant.Scores,
    left: Tensor,
    right: Tensor) -> Tensor:
    _83 = torch.mul(torch.size(left, -2), torch.size(left, -1))
    work = torch.mul(_83, torch.size(right, -1))
    integer = self.integer
    if integer:
      _84 = torch.ge(work, 1000000)
    else:
      _84 = False
    if _84:
      _86 = torch.slice(torch.size(left), None, -2)
      _87 = torch.slice(torch.size(right), None, -2)
      _85 = torch.eq(_86, _87)
    else:
      _85 = False
    if _85:
      products2 = (self).integer_products(left, right, )
      products = products2
    else:
      _88 = torch.to(left, 6)
      left_zero = self.left_zero
      products3 = torch.matmul(torch.sub_(_88, left_zero), torch.to(right, 6))
      products = products3
    raw = self.raw
    if raw:
      _89 = products
    else:
      right_centred = self.right_centred
      if torch.__not__(right_centred):
        _90 = torch.to(left, 6)
        left_zero2 = self.left_zero
        _91 = torch.sub_(_90, left_zero2)
        right_zero = self.right_zero
        rows = torch.sum(torch.mul(_91, right_zero), [-1], True)
        products4 = torch.sub_(products, rows)
      else:
        products4 = products
      scale = self.scale
      _89 = torch.mul_(products4, scale)
    return _89
  def __getstate__(self: __torch__.repquant.Scores) -> Tuple[Tensor, Tensor, int, int, Tensor, bool, bool]:
    left_zero = self.left_zero
    right_zero = self.right_zero
    left_bits = self.left_bits
    right_bits = self.right_bits
    scale = self.scale
    raw = self.raw
    training = self.training
    _92 = (left_zero, right_zero, left_bits, right_bits, scale, raw, training)
    return _92
  def __setstate__(self: __torch__.repquant.Scores,
    state: Tuple[Tensor, Tensor, int, int, Tensor, bool, bool]) -> NoneType:
    self.left_zero = (state)[0]
    self.right_zero = (state)[1]
    self.left_bits = (state)[2]
    self.right_bits = (state)[3]
    self.scale = (state)[4]
    self.raw = (state)[5]
    self.training = (state)[6]
    _93 = (self).prepare()
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
    _94 = torch.sub(torch.__lshift__(1, bits), 1)
    self.max_code = float(_94)
    steps_per_octave = self.steps_per_octave
    self.step = torch.div(1., steps_per_octave)
    max_code = self.max_code
    _95 = torch.sub(0.5, max_code)
    step = self.step
    self.cut = torch.pow(2., torch.mul(_95, step))
    output_max_code = self.output_max_code
    _96 = torch.add(float(output_max_code), 0.5)
    self.high = _96
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
        _97 = torch.clamp_min_(maximum, -3.4028234663852886e+38)
        x1 = torch.sub(scores, _97)
      x = x1
    else:
      _98 = torch.log_softmax(scores, -1)
      log_scale = self.log_scale
      x2 = torch.sub_(_98, log_scale)
      x3 = torch.nan_to_num(x2, -inf, inf, -inf)
      x = x3
    scalar = self.scalar
    if scalar:
      factor_value = self.factor_value
      _100 = torch.mul_(x, torch.mul(factor_value, factor))
      _99 = _100
    else:
      factor1 = self.factor
      _101 = torch.mul_(x, torch.mul(factor1, factor))
      _99 = _101
    return _99
  def weights(self: __torch__.repquant.Attend,
    scores: Tensor,
    factor: float) -> Tensor:
    if torch.eq(torch.numel(scores), 0):
      _102 = scores
    else:
      w = (self).octaves(scores, factor, )
      uniform = self.uniform
      if uniform:
        _104 = torch.exp2_(w)
        max_code = self.max_code
        _105 = torch.round_(torch.mul_(_104, max_code))
        max_code0 = self.max_code
        _106 = torch.clamp_max_(_105, max_code0)
        _103 = _106
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
            _107 = torch.amax(scores, [-1], True)
            w8 = torch.mul_(w5, torch.gt(_107, -inf))
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
        _103 = w9
      _102 = _103
    return _102
  def forward(self: __torch__.repquant.Attend,
    scores: Tensor,
    value: Tensor,
    factor: float) -> Tensor:
    w = (self).weights(scores, factor, )
    _108 = torch.to(value, 6)
    value_zero = self.value_zero
    y = torch.matmul(w, torch.sub_(_108, value_zero))
    row_maximum = self.row_maximum
    if row_maximum:
      _109 = torch.clamp_min_(torch.sum(w, [-1], True), 1.)
      y13 = torch.div_(y, _109)
    else:
      y13 = y
    multiplier = self.multiplier
    y14 = torch.mul_(y13, multiplier)
    output_max_code = self.output_max_code
    if torch.eq(output_max_code, 0):
      _110 = y14
    else:
      shifted = self.shifted
      _111 = torch.add_(y14, shifted)
      high = self.high
      y15 = torch.clamp_(_111, 0.5, high)
      output_max_code2 = self.output_max_code
      if torch.le(output_max_code2, 127):
        _112 = torch.to(torch.to(y15, 1), 0)
      else:
        _112 = torch.to(torch.to(y15, 2), 0)
      _110 = _112
    return _110
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
    _113 = (factor, bits, uniform, u8_table, zero_code, steps_per_octave, row_maximum, log_scale, fresh, value_zero, multiplier, offset, output_max_code, training)
    return _113
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
    _114 = (self).prepare()
    return None
