class Net(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
  words : __torch__.torch.nn.modules.sparse.Embedding
  dense : __torch__.torch.nn.modules.conv.Conv1d
  depthwise : __torch__.torch.nn.modules.conv.___torch_mangle_0.Conv1d
  norm : __torch__.torch.nn.modules.normalization.LayerNorm
  qkv : __torch__.torch.nn.modules.linear.Linear
  out : __torch__.torch.nn.modules.linear.___torch_mangle_1.Linear
  head : __torch__.torch.nn.modules.linear.___torch_mangle_2.Linear
  def forward(self: __torch__.Net,
    ids: Tensor) -> Tensor:
    head = self.head
    out = self.out
    qkv = self.qkv
    norm = self.norm
    depthwise = self.depthwise
    dense = self.dense
    words = self.words
    _0 = (words).forward(ids, )
    input = torch.transpose(_0, 1, 2)
    input0 = torch.relu((dense).forward(input, ))
    _1 = torch.transpose((depthwise).forward(input0, ), 1, 2)
    input1 = torch.add(_0, _1)
    _2 = (qkv).forward((norm).forward(input1, ), )
    q, k, v, = torch.chunk(_2, 3, -1)
    _3 = torch.matmul(q, torch.transpose(k, -2, -1))
    input2 = torch.matmul(torch.softmax(_3, -1), v)
    x = torch.add(input1, (out).forward(input2, ))
    input3 = torch.gelu(x)
    return (head).forward(input3, )
