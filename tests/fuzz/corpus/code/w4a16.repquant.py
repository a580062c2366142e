class QuantizedModel(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  words : __torch__.repquant.Embedding
  qkv : __torch__.repquant.WeightOnlyLinear
  out : __torch__.repquant.WeightOnlyLinear
  head : __torch__.repquant.WeightOnlyLinear
  def forward(self: __torch__.repquant.QuantizedModel,
    ids: Tensor) -> Tensor:
    words = self.words
    _0 = (words).forward(ids, )
    input = torch.layer_norm(_0, [8], CONSTANTS.c0, CONSTANTS.c1)
    qkv = self.qkv
    _1 = torch.chunk((qkv).forward(input, ), 3, -1)
    q, k, v, = _1
    _2 = torch.matmul(q, torch.transpose(k, -2, -1))
    input0 = torch.matmul(torch.softmax(_2, -1), v)
    out = self.out
    x = torch.add(_0, (out).forward(input0, ))
    input00 = torch.gelu(x)
    head = self.head
    return (head).forward(input00, )
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
      _3 = torch.narrow(pairs, -1, 0, columns)
      rows0 = torch.sub(torch.to(_3, 1), 8)
    else:
      rows0 = rows
    _4 = torch.to(rows0, 6)
    scale = self.scale
    _5 = torch.mul_(_4, torch.embedding(scale, indices))
    return _5
  def __getstate__(self: __torch__.repquant.Embedding) -> Tuple[Tensor, Tensor, int, int, bool]:
    codes = self.codes
    scale = self.scale
    bits = self.bits
    columns = self.columns
    training = self.training
    _6 = (codes, scale, bits, columns, training)
    return _6
  def __setstate__(self: __torch__.repquant.Embedding,
    state: Tuple[Tensor, Tensor, int, int, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bits = (state)[2]
    self.columns = (state)[3]
    self.training = (state)[4]
    _7 = (self).prepare()
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
      _8 = torch.narrow(pairs, 1, 0, columns)
      codes0 = torch.sub(torch.to(_8, 1), 8)
    else:
      codes0 = codes
    scale = self.scale
    group_size = self.group_size
    if torch.gt(group_size, 0):
      group_size0 = self.group_size
      _9 = torch.repeat_interleave(scale, group_size0, 1)
      columns0 = self.columns
      scale0 = torch.narrow(_9, 1, 0, columns0)
    else:
      scale0 = torch.unsqueeze(scale, 1)
    _10 = torch.mul(torch.to(codes0, 6), scale0)
    self.weight = _10
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
    _11 = (codes, scale, bias, bits, columns, group_size, training)
    return _11
  def __setstate__(self: __torch__.repquant.WeightOnlyLinear,
    state: Tuple[Tensor, Tensor, Tensor, int, int, int, bool]) -> NoneType:
    self.codes = (state)[0]
    self.scale = (state)[1]
    self.bias = (state)[2]
    self.bits = (state)[3]
    self.columns = (state)[4]
    self.group_size = (state)[5]
    self.training = (state)[6]
    _12 = (self).prepare()
    return None
