class Net(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
  words : __torch__.torch.nn.modules.sparse.Embedding
  norm : __torch__.torch.nn.modules.normalization.LayerNorm
  qkv : __torch__.torch.nn.modules.linear.Linear
  out : __torch__.torch.nn.modules.linear.___torch_mangle_0.Linear
  head : __torch__.torch.nn.modules.linear.___torch_mangle_1.Linear
  def forward(self: __torch__.Net,
    ids: Tensor) -> Tensor:
    head = self.head
    out = self.out
    qkv = self.qkv
    norm = self.norm
    words = self.words
    _0 = (words).forward(ids, )
    _1 = (qkv).forward((norm).forward(_0, ), )
    q, k, v, = torch.chunk(_1, 3, -1)
    _2 = torch.matmul(q, torch.transpose(k, -2, -1))
    input = torch.matmul(torch.softmax(_2, -1), v)
    x = torch.add(_0, (out).forward(input, ))
    input0 = torch.gelu(x)
    return (head).forward(input0, )
