class QuantizedModel(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  words : __torch__.repquant.Embedding
  dense : __torch__.repquant.WeightOnlyLinear
  depthwise : __torch__.repquant.Convolution
  qkv : __torch__.repquant.WeightOnlyLinear
  out : __torch__.repquant.WeightOnlyLinear
  head : __torch__.repquant.WeightOnlyLinear
  def forward(self: __torch__.repquant.QuantizedModel,
    ids: Tensor) -> Tensor:
    words = self.words
    _0 = (words).forward(ids, )
    input = torch.transpose(_0, 1, 2)
    x = torch.permute(input, [0, 2, 1])
    x0 = torch.constant_pad_nd(x, [0, 0, 1, 1])
    f = torch.unfold(x0, 1, 3, 1)
    _1 = torch.flatten(torch.permute(f, [0, 1, 3, 2]), 2)
    dense = self.dense
    input0 = torch.relu((dense).forward(_1, ))
    _2 = torch.permute(input0, [0, 2, 1])
    depthwise = self.depthwise
    _3 = torch.transpose((depthwise).forward(_2, ), 1, 2)
    input1 = torch.add(_0, _3)
    input00 = torch.layer_norm(input1, [8], CONSTANTS.c0, CONSTANTS.c1)
    qkv = self.qkv
    _4 = torch.chunk((qkv).forward(input00, ), 3, -1)
    q, k, v, = _4
    _5 = torch.matmul(q, torch.transpose(k, -2, -1))
    input2 = torch.matmul(torch.softmax(_5, -1), v)
    out = self.out
    x1 = torch.add(input1, (out).forward(input2, ))
    input3 = torch.gelu(x1)
    head = self.head
    return (head).forward(input3, )
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
      _6 = torch.narrow(pairs, -1, 0, columns)
      rows0 = torch.sub(torch.to(_6, 1), 8)
    else:
      rows0 = rows
    _7 = torch.to(rows0, 6)
    scale = self.scale
    _8 = torch.mul_(_7, torch.embedding(scale, indices))
    return _8
  def __getstate__(self: __torch__.repquant.Embedding) -> Tuple[Tensor, Tensor, int, int, bool]:
    codes = self.codes
    scale = self.scale
    bits = self.bits
    columns = self.columns
    training = self.training
    _9 = (codes, scale, bits, columns, training)
    return _9
  def __setstate__(self: __torch__.repquant.Embedding,
    state: Tuple[Tensor, Tensor, int, int, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bits = (state)[2]
    self.columns = (state)[3]
    self.training = (state)[4]
    _10 = (self).prepare()
    return None
class WeightOnlyLinear(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  codes : Tensor
  scale : Tensor
  bias : Tensor
  bits : int
  columns : int
  group_size : int
  weight : Tensor
  def prepare(self: __torch__.repquant.WeightOnlyLinear) -> NoneType:
    codes = self.codes
    bits = self.bits
    if torch.le(bits, 4):
      codes1 = self.codes
      low = torch.bitwise_and(codes1, 15)
      codes2 = self.codes
      high = torch.bitwise_right_shift(codes2, 4)
      pairs = torch.flatten(torch.stack([low, high], -1), 1)
      columns = self.columns
      _11 = torch.narrow(pairs, 1, 0, columns)
      codes0 = torch.sub(torch.to(_11, 1), 8)
    else:
      codes0 = codes
    scale = self.scale
    group_size = self.group_size
    if torch.gt(group_size, 0):
      group_size0 = self.group_size
      _12 = torch.repeat_interleave(scale, group_size0, 1)
      columns0 = self.columns
      scale0 = torch.narrow(_12, 1, 0, columns0)
    else:
      scale0 = torch.unsqueeze(scale, 1)
    _13 = torch.mul(torch.to(codes0, 6), scale0)
    self.weight = _13
    return None
  def forward(self: __torch__.repquant.WeightOnlyLinear,
    x: Tensor) -> Tensor:
    weight = self.weight
    bias = self.bias
    return torch.linear(x, weight, bias)
  def __getstate__(self: __torch__.repquant.WeightOnlyLinear) -> Tuple[Tensor, Tensor, Tensor, int, int, int, bool]:
    codes = self.codes
    scale = self.scale
    bias = self.bias
    bits = self.bits
    columns = self.columns
    group_size = self.group_size
    training = self.training
    _14 = (codes, scale, bias, bits, columns, group_size, training)
    return _14
  def __setstate__(self: __torch__.repquant.WeightOnlyLinear,
    state: Tuple[Tensor, Tensor, Tensor, int, int, int, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bias = (state)[2]
    self.bits = (state)[3]
    self.columns = (state)[4]
    self.group_size = (state)[5]
    self.training = (state)[6]
    _15 = (self).prepare()
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
      _16 = self.codes
    else:
      codes = self.codes
      low = torch.bitwise_and(codes, 15)
      codes3 = self.codes
      high = torch.bitwise_right_shift(codes3, 4)
      pairs = torch.flatten(torch.stack([low, high], -1), 1)
      columns = self.columns
      _17 = torch.narrow(pairs, 1, 0, columns)
      _16 = torch.sub(torch.to(_17, 1), 8)
    return _16
  def prepare(self: __torch__.repquant.Convolution) -> NoneType:
    rows = torch.to((self).unpack(), 6)
    _18 = [torch.size(rows, 0), -1]
    kernel = self.kernel
    _19 = torch.reshape(rows, torch.add(_18, kernel))
    self.weight = _19
    scale = self.scale
    _20 = [-1]
    _21 = annotate(List[int], [])
    kernel0 = self.kernel
    for _22 in range(torch.len(kernel0)):
      _23 = torch.append(_21, 1)
    _24 = torch.reshape(scale, torch.add(_20, _21))
    self.factor = _24
    bias = self.bias
    _25 = [-1]
    _26 = annotate(List[int], [])
    kernel1 = self.kernel
    for _27 in range(torch.len(kernel1)):
      _28 = torch.append(_26, 1)
    _29 = torch.reshape(bias, torch.add(_25, _26))
    self.addend = _29
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
      _31 = torch.conv1d(x, weight, None, stride, padding, dilation, groups)
      _30 = _31
    else:
      kernel2 = self.kernel
      if torch.eq(torch.len(kernel2), 2):
        weight0 = self.weight
        stride0 = self.stride
        padding0 = self.padding
        dilation0 = self.dilation
        groups0 = self.groups
        _33 = torch.conv2d(x, weight0, None, stride0, padding0, dilation0, groups0)
        _32 = _33
      else:
        weight1 = self.weight
        stride1 = self.stride
        padding1 = self.padding
        dilation1 = self.dilation
        groups1 = self.groups
        _34 = torch.conv3d(x, weight1, None, stride1, padding1, dilation1, groups1)
        _32 = _34
      _30 = _32
    return _30
  def forward(self: __torch__.repquant.Convolution,
    x: Tensor) -> Tensor:
    max_code = self.max_code
    if torch.gt(max_code, 0):
      multiplier = self.multiplier
      _35 = torch.mul(x, multiplier)
      zero_point = self.zero_point
      x3 = torch.round_(torch.add_(_35, zero_point))
      high = self.high
      _36 = torch.clamp_(x3, 0., high)
      zero_point0 = self.zero_point
      x2 = torch.sub_(_36, zero_point0)
    else:
      x2 = x
    _37 = (self).product(x2, )
    factor = self.factor
    _38 = torch.mul_(_37, factor)
    addend = self.addend
    return torch.add_(_38, addend)
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
    _39 = (codes, scale, bias, bits, columns, multiplier, zero_point, max_code, kernel, stride, padding, dilation, groups, training)
    return _39
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
    _40 = (self).prepare()
    return None
