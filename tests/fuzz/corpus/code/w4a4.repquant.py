class QuantizedModel(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  words : __torch__.repquant.Embedding
  dense_input : __torch__.repquant.Quantize
  dense : __torch__.repquant.Linear
  depthwise : __torch__.repquant.Convolution
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
    _1 = [0, 2, 1]
    _2 = [0, 0, 1, 1]
    _3 = [0, 1, 3, 2]
    dense_input = self.dense_input
    input = torch.transpose((dense_input).forward(_0, ), 1, 2)
    x = torch.permute(input, _1)
    x0 = torch.constant_pad_nd(x, _2, 106.)
    f = torch.unfold(x0, 1, 3, 1)
    _4 = torch.flatten(torch.permute(f, _3), 2)
    dense = self.dense
    _5 = torch.permute((dense).forward(_4, ), [0, 2, 1])
    depthwise = self.depthwise
    _6 = torch.transpose((depthwise).forward(_5, ), 1, 2)
    input1 = torch.add(_0, _6)
    input0 = torch.layer_norm(input1, [8], CONSTANTS.c0, CONSTANTS.c1)
    qkv_range = self.qkv_range
    _7 = (qkv_range).forward(input0, )
    qkv_input = self.qkv_input
    _8 = (qkv_input).forward(input0, _7, )
    qkv = self.qkv
    _9 = (qkv).forward(_8, )
    qkv_scale = self.qkv_scale
    _10 = torch.chunk((qkv_scale).forward(_9, _7, ), 3, -1)
    q, k, v, = _10
    _11 = torch.transpose(k, -2, -1)
    scores = self.scores
    _12 = (scores).forward(q, _11, )
    attend = self.attend
    _13 = torch.mul((attend).forward(_12, v, 1., ), CONSTANTS.c2)
    out_range = self.out_range
    _14 = (out_range).forward(_13, )
    out_input = self.out_input
    _15 = (out_input).forward(_13, _14, )
    out = self.out
    _16 = (out).forward(_15, )
    out_scale = self.out_scale
    x1 = torch.add(input1, (out_scale).forward(_16, _14, ))
    input3 = torch.gelu(x1)
    head_range = self.head_range
    _17 = (head_range).forward(input3, )
    head_input = self.head_input
    _18 = (head_input).forward(input3, _17, )
    head = self.head
    _19 = (head).forward(_18, )
    head_scale = self.head_scale
    return (head_scale).forward(_19, _17, )
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
      _20 = torch.narrow(pairs, -1, 0, columns)
      rows0 = torch.sub(torch.to(_20, 1), 8)
    else:
      rows0 = rows
    _21 = torch.to(rows0, 6)
    scale = self.scale
    _22 = torch.mul_(_21, torch.embedding(scale, indices))
    return _22
  def __getstate__(self: __torch__.repquant.Embedding) -> Tuple[Tensor, Tensor, int, int, bool]:
    codes = self.codes
    scale = self.scale
    bits = self.bits
    columns = self.columns
    training = self.training
    _23 = (codes, scale, bits, columns, training)
    return _23
  def __setstate__(self: __torch__.repquant.Embedding,
    state: Tuple[Tensor, Tensor, int, int, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bits = (state)[2]
    self.columns = (state)[3]
    self.training = (state)[4]
    _24 = (self).prepare()
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
    _25 = torch.eq(torch.numel(multiplier), 1)
    if _25:
      offset = self.offset
      _26 = torch.eq(torch.numel(offset), 1)
    else:
      _26 = False
    self.scalar = _26
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
      _27 = torch.mul(x, factor)
      addend = self.addend
      y0 = torch.round_(torch.add_(_27, addend))
      y = y0
    else:
      multiplier = self.multiplier
      _28 = torch.mul(x, multiplier)
      offset = self.offset
      y1 = torch.round_(torch.add_(_28, offset))
      y = y1
    quadratic = self.quadratic
    if quadratic:
      high = self.high
      high0 = self.high
      _30 = torch.clamp_(y, 0., torch.mul(high, high0))
      y2 = torch.round_(torch.sqrt_(_30))
      q = torch.to(torch.to(y2, 1), 0)
      _29 = torch.mul(q, q)
    else:
      high1 = self.high
      y3 = torch.clamp_(y, 0., high1)
      signed_codes = self.signed_codes
      if signed_codes:
        shift = self.shift
        if torch.ne(shift, 0):
          shift0 = self.shift
          y4 = torch.sub_(y3, float(shift0))
        else:
          y4 = y3
        _31 = torch.to(y4, 1)
      else:
        max_code = self.max_code
        if torch.le(max_code, 127):
          _32 = torch.to(torch.to(y3, 1), 0)
        else:
          _32 = torch.to(torch.to(y3, 2), 0)
        _31 = _32
      _29 = _31
    return _29
  def __getstate__(self: __torch__.repquant.Quantize) -> Tuple[Tensor, Tensor, int, bool, bool, int, bool]:
    multiplier = self.multiplier
    offset = self.offset
    max_code = self.max_code
    quadratic = self.quadratic
    signed_codes = self.signed_codes
    shift = self.shift
    training = self.training
    _33 = (multiplier, offset, max_code, quadratic, signed_codes, shift, training)
    return _33
  def __setstate__(self: __torch__.repquant.Quantize,
    state: Tuple[Tensor, Tensor, int, bool, bool, int, bool]) -> NoneType:
    self.multiplier = (state)[0]
    self.offset = (state)[1]
    self.max_code = (state)[2]
    self.quadratic = (state)[3]
    self.signed_codes = (state)[4]
    self.shift = (state)[5]
    self.training = (state)[6]
    _34 = (self).prepare()
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
      _35 = self.codes
    else:
      codes = self.codes
      low = torch.bitwise_and(codes, 15)
      codes0 = self.codes
      high = torch.bitwise_right_shift(codes0, 4)
      _36 = torch.flatten(torch.stack([low, high], -1), 1)
      columns = self.columns
      pairs = torch.narrow(_36, 1, 0, columns)
      levels = self.levels
      _37 = torch.index_select(levels, 0, torch.to(torch.flatten(pairs), 3))
      _35 = torch.view_as(_37, pairs)
    return _35
  def saturates(self: __torch__.repquant.Linear) -> bool:
    weight = torch.full([32, 64], 127, dtype=1)
    packed = ops.onednn.qlinear_prepack(weight, None)
    scale = torch.ones([32], dtype=6)
    zero = torch.zeros([32], dtype=3)
    x = torch.full([32, 64], 255, dtype=0)
    _38 = annotate(List[Optional[number]], [])
    y = ops.onednn.qlinear_pointwise(x, 1., 0, packed, scale, zero, None, 1., 0, 6, "none", _38, "")
    _39 = bool(torch.all(torch.eq(y, 2072640.)))
    return torch.__not__(_39)
  def prepare(self: __torch__.repquant.Linear) -> NoneType:
    weight = (self).unpack()
    _40 = torch.zeros([torch.size(weight, 0)], dtype=3)
    self.weight_zero = _40
    self.rows = torch.size(weight, 0)
    if torch.gt(torch.numel(weight), 0):
      _41 = torch.max(torch.abs(torch.to(weight, 3)))
      largest = int(_41)
    else:
      largest = 0
    max_product_code = self.max_product_code
    _42 = torch.mul(torch.mul(2, max_product_code), largest)
    if torch.gt(_42, 32767):
      _43 = (self).saturates()
    else:
      _43 = False
    self.split = _43
    weight_zero = self.weight_zero
    self.packed_rest = weight_zero
    split = self.split
    if split:
      half = torch.div(torch.to(weight, 3), 2, rounding_mode="floor")
      _44 = torch.sub(torch.to(weight, 3), half)
      _45 = ops.onednn.qlinear_prepack(torch.to(_44, 1), None)
      self.packed_rest = _45
      weight0 = torch.to(half, 1)
    else:
      weight0 = weight
    _46 = ops.onednn.qlinear_prepack(torch.contiguous(weight0), None)
    self.packed = _46
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
      _47 = torch.mul(output_max_code0, output_max_code1)
      self.output_limit = _47
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
    _48 = annotate(List[Optional[number]], [])
    y = ops.onednn.qlinear_pointwise(x, 1., zero_point, packed, scale, weight_zero, bias, 1., 0, 6, "none", _48, "")
    zero_point0 = self.zero_point
    packed_rest = self.packed_rest
    scale0 = self.scale
    weight_zero0 = self.weight_zero
    _49 = annotate(List[Optional[number]], [])
    z = ops.onednn.qlinear_pointwise(x, 1., zero_point0, packed_rest, scale0, weight_zero0, None, 1., 0, 6, "none", _49, "")
    y5 = torch.add_(y, z)
    activation = self.activation
    if torch.eq(activation, "gelu"):
      algorithm = self.algorithm
      y7 = torch.gelu(y5, approximate=algorithm)
      y6 = y7
    else:
      y6 = y5
    activation0 = self.activation
    if torch.eq(activation0, "relu"):
      y8 = torch.relu(y6)
    else:
      y8 = y6
    output = self.output
    if torch.eq(output, 1):
      _50 = torch.round_(y8)
      low = self.low
      high = self.high
      y10 = torch.to(torch.clamp_(_50, low, high), 1)
      y9 = y10
    else:
      y9 = y8
    output0 = self.output
    if torch.eq(output0, 2):
      output_scale = self.output_scale
      _51 = torch.round_(torch.div_(y9, output_scale))
      output_zero = self.output_zero
      y12 = torch.add_(_51, float(output_zero))
      output_limit = self.output_limit
      _52 = torch.clamp_(y12, 0., float(output_limit))
      y11 = torch.to(torch.to(_52, 2), 0)
    else:
      y11 = y9
    return y11
  def product(self: __torch__.repquant.Linear,
    x: Tensor) -> Tensor:
    split = self.split
    if split:
      _53 = (self).product_split(x, )
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
        _55 = annotate(List[Optional[number]], [low, high])
        _56 = ops.onednn.qlinear_pointwise(x, 1., zero_point, packed, scale, weight_zero, bias, 1., 0, 1, "hardtanh", _55, "")
        _54 = _56
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
          _58 = annotate(List[Optional[number]], [])
          y = ops.onednn.qlinear_pointwise(x, 1., zero_point1, packed0, scale1, weight_zero1, bias0, output_scale, output_zero, 0, activation, _58, algorithm)
          output_limit = self.output_limit
          if torch.lt(output_limit, 255):
            output_limit0 = self.output_limit
            y14 = torch.clamp_max_(y, output_limit0)
            y13 = y14
          else:
            y13 = y
          _57 = y13
        else:
          zero_point2 = self.zero_point
          packed1 = self.packed
          scale2 = self.scale
          weight_zero2 = self.weight_zero
          bias1 = self.bias
          activation1 = self.activation
          algorithm0 = self.algorithm
          _59 = annotate(List[Optional[number]], [])
          _60 = ops.onednn.qlinear_pointwise(x, 1., zero_point2, packed1, scale2, weight_zero2, bias1, 1., 0, 6, activation1, _59, algorithm0)
          _57 = _60
        _54 = _57
      _53 = _54
    return _53
  def forward(self: __torch__.repquant.Linear,
    x: Tensor) -> Tensor:
    x2 = torch.contiguous(x)
    if torch.eq(torch.dim(x2), 2):
      _61 = True
    else:
      _61 = torch.eq(torch.dim(x2), 3)
    if _61:
      _62 = torch.gt(torch.numel(x2), 0)
    else:
      _62 = False
    if _62:
      y = (self).product(x2, )
    else:
      columns = self.columns
      _63 = (self).product(torch.reshape(x2, [-1, columns]), )
      _64 = torch.slice(torch.size(x2), None, -1)
      rows = self.rows
      y15 = torch.reshape(_63, torch.add(_64, [rows]))
      y = y15
    output = self.output
    if torch.eq(output, 2):
      _65 = self.output_quadratic
    else:
      _65 = False
    if _65:
      _66 = torch.round_(torch.sqrt_(torch.to(y, 6)))
      q = torch.to(torch.to(_66, 1), 0)
      y16 = torch.mul(q, q)
    else:
      y16 = y
    return y16
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
    _67 = (codes, scale, bias, bits, columns, levels, zero_point, max_product_code, activation, algorithm, output, output_low, output_high, output_scale, output_zero, output_max_code, output_quadratic, training)
    return _67
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
    _68 = (self).prepare()
    return None
class Convolution(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  codes : Tensor
  scale : Tensor
  bias : Tensor
  bits : int
  columns : int
  multiplier : Tensor
  zero_point : Tensor
  max_code : int
  kernel : List[int]
  stride : List[int]
  padding : List[int]
  dilation : List[int]
  groups : int
  weight : Tensor
  factor : Tensor
  addend : Tensor
  high : float
  def unpack(self: __torch__.repquant.Convolution) -> Tensor:
    bits = self.bits
    if torch.gt(bits, 4):
      _69 = self.codes
    else:
      codes = self.codes
      low = torch.bitwise_and(codes, 15)
      codes1 = self.codes
      high = torch.bitwise_right_shift(codes1, 4)
      pairs = torch.flatten(torch.stack([low, high], -1), 1)
      columns = self.columns
      _70 = torch.narrow(pairs, 1, 0, columns)
      _69 = torch.sub(torch.to(_70, 1), 8)
    return _69
  def prepare(self: __torch__.repquant.Convolution) -> NoneType:
    rows = torch.to((self).unpack(), 6)
    _71 = [torch.size(rows, 0), -1]
    kernel = self.kernel
    _72 = torch.reshape(rows, torch.add(_71, kernel))
    self.weight = _72
    scale = self.scale
    _73 = [-1]
    _74 = annotate(List[int], [])
    kernel0 = self.kernel
    for _75 in range(torch.len(kernel0)):
      _76 = torch.append(_74, 1)
    _77 = torch.reshape(scale, torch.add(_73, _74))
    self.factor = _77
    bias = self.bias
    _78 = [-1]
    _79 = annotate(List[int], [])
    kernel1 = self.kernel
    for _80 in range(torch.len(kernel1)):
      _81 = torch.append(_79, 1)
    _82 = torch.reshape(bias, torch.add(_78, _79))
    self.addend = _82
    max_code = self.max_code
    self.high = float(max_code)
    return None
  def product(self: __torch__.repquant.Convolution,
    x: Tensor) -> Tensor:
    kernel = self.kernel
    if torch.eq(torch.len(kernel), 1):
      weight = self.weight
      stride = self.stride
      padding = self.padding
      dilation = self.dilation
      groups = self.groups
      _84 = torch.conv1d(x, weight, None, stride, padding, dilation, groups)
      _83 = _84
    else:
      kernel2 = self.kernel
      if torch.eq(torch.len(kernel2), 2):
        weight1 = self.weight
        stride0 = self.stride
        padding0 = self.padding
        dilation0 = self.dilation
        groups0 = self.groups
        _86 = torch.conv2d(x, weight1, None, stride0, padding0, dilation0, groups0)
        _85 = _86
      else:
        weight2 = self.weight
        stride1 = self.stride
        padding1 = self.padding
        dilation1 = self.dilation
        groups1 = self.groups
        _87 = torch.conv3d(x, weight2, None, stride1, padding1, dilation1, groups1)
        _85 = _87
      _83 = _85
    return _83
  def forward(self: __torch__.repquant.Convolution,
    x: Tensor) -> Tensor:
    max_code = self.max_code
    if torch.gt(max_code, 0):
      multiplier = self.multiplier
      _88 = torch.mul(x, multiplier)
      zero_point = self.zero_point
      x4 = torch.round_(torch.add_(_88, zero_point))
      high = self.high
      _89 = torch.clamp_(x4, 0., high)
      zero_point3 = self.zero_point
      x3 = torch.sub_(_89, zero_point3)
    else:
      x3 = x
    _90 = (self).product(x3, )
    factor = self.factor
    _91 = torch.mul_(_90, factor)
    addend = self.addend
    return torch.add_(_91, addend)
  def __getstate__(self: __torch__.repquant.Convolution) -> Tuple[Tensor, Tensor, Tensor, int, int, Tensor, Tensor, int, List[int], List[int], List[int], List[int], int, bool]:
    codes = self.codes
    scale = self.scale
    bias = self.bias
    bits = self.bits
    columns = self.columns
    multiplier = self.multiplier
    zero_point = self.zero_point
    max_code = self.max_code
    kernel = self.kernel
    stride = self.stride
    padding = self.padding
    dilation = self.dilation
    groups = self.groups
    training = self.training
    _92 = (codes, scale, bias, bits, columns, multiplier, zero_point, max_code, kernel, stride, padding, dilation, groups, training)
    return _92
  def __setstate__(self: __torch__.repquant.Convolution,
    state: Tuple[Tensor, Tensor, Tensor, int, int, Tensor, Tensor, int, List[int], List[int], List[int], List[int], int, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bias = (state)[2]
    self.bits = (state)[3]
    self.columns = (state)[4]
    self.multiplier = (state)[5]
    self.zero_point = (state)[6]
    self.max_code = (state)[7]
    self.kernel = (state)[8]
    self.stride = (state)[9]
    self.padding = (state)[10]
    self.dilation = (state)[11]
    self.groups = (state)[12]
    self.training = (state)[13]
    _93 = (self).prepare()
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
    _94 = torch.sub_(torch.amax(x, [-1], True), low)
    steps = self.steps
    step = torch.clamp_min_(torch.div_(_94, steps), 1.1754943508222875e-38)
    return torch.cat([low, step], -1)
  def __getstate__(self: __torch__.repquant.TokenRange) -> Tuple[int, bool]:
    top = self.top
    training = self.training
    return (top, training)
  def __setstate__(self: __torch__.repquant.TokenRange,
    state: Tuple[int, bool]) -> NoneType:
    self.top = (state)[0]
    self.training = (state)[1]
    _95 = (self).prepare()
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
    _96 = torch.narrow(values, 0, 0, torch.sub(count, 1))
    _97 = torch.narrow(values, 0, 1, torch.sub(count, 1))
    middles = torch.div_(torch.add(_96, _97), 2.)
    nearest = torch.bucketize(torch.arange(256, dtype=6), middles)
    levels1 = self.levels
    _98 = torch.index_select(levels1, 0, nearest)
    self.table = _98
    return None
  def forward(self: __torch__.repquant.TokenQuantize,
    x: Tensor,
    rows: Tensor) -> Tensor:
    _99 = torch.sub(x, torch.narrow(rows, -1, 0, 1))
    _100 = torch.reciprocal(torch.narrow(rows, -1, 1, 1))
    _101 = torch.round_(torch.mul_(_99, _100))
    top = self.top
    y = torch.clamp_(_101, 0., float(top))
    top0 = self.top
    if torch.le(top0, 127):
      _102 = torch.to(torch.to(y, 1), 0)
    else:
      codes = torch.to(torch.to(y, 2), 0)
      learned = self.learned
      if learned:
        table = self.table
        _104 = torch.to(torch.flatten(codes), 3)
        _105 = torch.index_select(table, 0, _104)
        _103 = torch.view_as(_105, codes)
      else:
        _103 = codes
      _102 = _103
    return _102
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
    _106 = (self).prepare()
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
    _107 = torch.mul_(y, torch.narrow(rows, -1, 1, 1))
    _108 = torch.narrow(rows, -1, 0, 1)
    sums = self.sums
    _109 = torch.addcmul_(_107, _108, sums)
    bias = self.bias
    y17 = torch.add_(_109, bias)
    output = self.output
    if torch.eq(output, 1):
      _111 = torch.round_(y17)
      low = self.low
      high = self.high
      _112 = torch.to(torch.clamp_(_111, low, high), 1)
      _110 = _112
    else:
      _110 = y17
    return _110
  def __getstate__(self: __torch__.repquant.TokenScale) -> Tuple[Tensor, Tensor, int, int, int, bool]:
    sums = self.sums
    bias = self.bias
    output = self.output
    output_low = self.output_low
    output_high = self.output_high
    training = self.training
    _113 = (sums, bias, output, output_low, output_high, training)
    return _113
  def __setstate__(self: __torch__.repquant.TokenScale,
    state: Tuple[Tensor, Tensor, int, int, int, bool]) -> NoneType:
    self.sums = (state)[0]
    self.bias = (state)[1]
    self.output = (state)[2]
    self.output_low = (state)[3]
    self.output_high = (state)[4]
    self.training = (state)[5]
    _114 = (self).prepare()
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
    _115 = torch.eq(torch._int_mm(a, b), 1032256)
    self.integer = bool(torch.all(_115))
    left_bits = self.left_bits
    self.narrow_left = torch.le(left_bits, 7)
    left_zero = self.left_zero
    self.left_shift = torch.to(left_zero, 3)
    left_zero0 = self.left_zero
    _116 = bool(torch.any(torch.ne(left_zero0, 0.)))
    self.left_centred = torch.__not__(_116)
    right_zero = self.right_zero
    _117 = bool(torch.any(torch.ne(right_zero, 0.)))
    self.right_centred = torch.__not__(_117)
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
    _118 = torch.slice(torch.size(left), None, -1)
    shape = torch.add(_118, [columns])
    narrow_left = self.narrow_left
    if narrow_left:
      left_centred = self.left_centred
      _119 = torch.__not__(left_centred)
    else:
      _119 = False
    if _119:
      left_shift = self.left_shift
      left0 = torch.sub(left, left_shift)
    else:
      left0 = left
    a = torch.reshape(left0, [-1, rows, torch.size(left0, -1)])
    keys = torch.transpose(right, -1, -2)
    _120 = [-1, columns, torch.size(left0, -1)]
    b = torch.reshape(keys, _120)
    sums = torch.empty([torch.size(a, 0), rows, columns], dtype=3)
    for i in range(torch.size(a, 0)):
      _121 = torch._int_mm(torch.select(a, 0, i), torch.t(torch.select(b, 0, i)), out=torch.select(sums, 0, i))
    products = torch.reshape(torch.to(sums, 6), shape)
    narrow_left0 = self.narrow_left
    if torch.__not__(narrow_left0):
      left_centred0 = self.left_centred
      _122 = torch.__not__(left_centred0)
    else:
      _122 = False
    if _122:
      _123 = torch.sum(torch.to(keys, 6), [-1])
      left_zero = self.left_zero
      correction = torch.mul(_123, torch.squeeze(left_zero, -1))
      products1 = torch.sub_(products, torch.unsqueeze(correction, -2))
      products0 = products1
    else:
      products0 = products
    return products0
  def forward(self: __torch__.repquant.Scores,
    left: Tensor,
    right: Tensor) -> Tensor:
    _124 = torch.mul(torch.size(left, -2), torch.size(left, -1))
    work = torch.mul(_124, torch.size(right, -1))
    integer = self.integer
    if integer:
      _125 = torch.ge(work, 1000000)
    else:
      _125 = False
    if _125:
      _127 = torch.slice(torch.size(left), None, -2)
      _128 = torch.slice(torch.size(right), None, -2)
      _126 = torch.eq(_127, _128)
    else:
      _126 = False
    if _126:
      products2 = (self).integer_products(left, right, )
      products = products2
    else:
      _129 = torch.to(left, 6)
      left_zero = self.left_zero
      products3 = torch.matmul(torch.sub_(_129, left_zero), torch.to(right, 6))
      products = products3
    raw = self.raw
    if raw:
      _130 = products
    else:
      right_centred = self.right_centred
      if torch.__not__(right_centred):
        _131 = torch.to(left, 6)
        left_zero2 = self.left_zero
        _132 = torch.sub_(_131, left_zero2)
        right_zero = self.right_zero
        rows = torch.sum(torch.mul(_132, right_zero), [-1], True)
        products4 = torch.sub_(products, rows)
      else:
        products4 = products
      scale = self.scale
      _130 = torch.mul_(products4, scale)
    return _130
  def __getstate__(self: __torch__.repquant.Scores) -> Tuple[Tensor, Tensor, int, int, Tensor, bool, bool]:
    left_zero = self.left_zero
    right_zero = self.right_zero
    left_bits = self.left_bits
    right_bits = self.right_bits
    scale = self.scale
    raw = self.raw
    training = self.training
    _133 = (left_zero, right_zero, left_bits, right_bits, scale, raw, training)
    return _133
  def __setstate__(self: __torch__.repquant.Scores,
    state: Tuple[Tensor, Tensor, int, int, Tensor, bool, bool]) -> NoneType:
    self.left_zero = (state)[0]
    self.right_zero = (state)[1]
    self.left_bits = (state)[2]
    self.right_bits = (state)[3]
    self.scale = (state)[4]
    self.raw = (state)[5]
    self.training = (state)[6]
    _134 = (self).prepare()
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
    _135 = torch.sub(torch.__lshift__(1, bits), 1)
    self.max_code = float(_135)
    steps_per_octave = self.steps_per_octave
    self.step = torch.div(1., steps_per_octave)
    max_code = self.max_code
    _136 = torch.sub(0.5, max_code)
    step = self.step
    _137 = torch.pow(2., torch.mul(_136, step))
    self.cut = _137
    output_max_code = self.output_max_code
    _138 = torch.add(float(output_max_code), 0.5)
    self.high = _138
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
        x5 = torch.sub_(scores, maximum)
      else:
        _139 = torch.clamp_min_(maximum, -3.4028234663852886e+38)
        x5 = torch.sub(scores, _139)
      x = x5
    else:
      _140 = torch.log_softmax(scores, -1)
      log_scale = self.log_scale
      x6 = torch.sub_(_140, log_scale)
      x7 = torch.nan_to_num(x6, -inf, inf, -inf)
      x = x7
    scalar = self.scalar
    if scalar:
      factor_value = self.factor_value
      _142 = torch.mul_(x, torch.mul(factor_value, factor))
      _141 = _142
    else:
      factor1 = self.factor
      _143 = torch.mul_(x, torch.mul(factor1, factor))
      _141 = _143
    return _141
  def weights(self: __torch__.repquant.Attend,
    scores: Tensor,
    factor: float) -> Tensor:
    if torch.eq(torch.numel(scores), 0):
      _144 = scores
    else:
      w = (self).octaves(scores, factor, )
      uniform = self.uniform
      if uniform:
        _146 = torch.exp2_(w)
        max_code = self.max_code
        _147 = torch.round_(torch.mul_(_146, max_code))
        max_code0 = self.max_code
        _148 = torch.clamp_max_(_147, max_code0)
        _145 = _148
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
            _149 = torch.amax(scores, [-1], True)
            w8 = torch.mul_(w5, torch.gt(_149, -inf))
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
        _145 = w9
      _144 = _145
    return _144
  def forward(self: __torch__.repquant.Attend,
    scores: Tensor,
    value: Tensor,
    factor: float) -> Tensor:
    w = (self).weights(scores, factor, )
    _150 = torch.to(value, 6)
    value_zero = self.value_zero
    y = torch.matmul(w, torch.sub_(_150, value_zero))
    row_maximum = self.row_maximum
    if row_maximum:
      _151 = torch.clamp_min_(torch.sum(w, [-1], True), 1.)
      y18 = torch.div_(y, _151)
    else:
      y18 = y
    multiplier = self.multiplier
    y19 = torch.mul_(y18, multiplier)
    output_max_code = self.output_max_code
    if torch.eq(output_max_code, 0):
      _152 = y19
    else:
      shifted = self.shifted
      _153 = torch.add_(y19, shifted)
      high = self.high
      y20 = torch.clamp_(_153, 0.5, high)
      output_max_code2 = self.output_max_code
      if torch.le(output_max_code2, 127):
        _154 = torch.to(torch.to(y20, 1), 0)
      else:
        _154 = torch.to(torch.to(y20, 2), 0)
      _152 = _154
    return _152
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
    _155 = (factor, bits, uniform, u8_table, zero_code, steps_per_octave, row_maximum, log_scale, fresh, value_zero, multiplier, offset, output_max_code, training)
    return _155
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
    _156 = (self).prepare()
    return None
