// Which values share memory, and which lists, tuples and dicts hold such tensors.
#pragma once

#include <map>
#include <unordered_set>
#include <vector>

namespace torch::jit {
struct Block;
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

class Sizes;

/// True for a list, a tuple or a dict.
bool is_container(const torch::jit::Value* value);

/// x[:] of a tensor, which TorchScript puts in front of x[:, 1:], too.
bool is_whole_slice(const torch::jit::Node* node);

/// True if `node` writes into its operand `i`.
bool writes_into(const torch::jit::Node* node, std::size_t i);

/// The tensor that `value` is a view of, or the very tensor that a list, tuple or dict gives back;
/// null if it is none.
torch::jit::Value* base_of(const torch::jit::Value* value);

/// The tensor that `value` is a view of a view of .. of.
torch::jit::Value* root_of(torch::jit::Value* value);

/// True for an operator that gives a view of its operand or a copy of it, by how that one's
/// elements lie in memory or by its type: reshape, contiguous, to.
bool gives_copy_or_view(const torch::jit::Node* node);

/// What `value` is a copy of, given by such an operator; null for what counts as a view, and for
/// all else.
torch::jit::Value* copied_by(const torch::jit::Value* value);

/// True for a reshape of places that lie apart, which is a view of them or a copy by what the sizes
/// are when the model runs: x[:, 1:].reshape(-1, 8) is a view for one sample alone.
bool sizes_decide(const torch::jit::Node* node, const Sizes& sizes);

/// What a value is read from, and the value: a tensor and its slice, a list and its element.
using Reads = std::map<const torch::jit::Value*, const torch::jit::Value*>;

/// True for reads from one value that have no element in common: select(x, 0, 1) and
/// select(x, 0, 2), x[:, 0] and x[:, 1:], two parts of one split, two keys of one dict.
bool are_apart(const torch::jit::Value* a, const torch::jit::Value* b);

enum class Copies { kShareNothing, kShare };

/// The values that are computed before a node and may share memory with a value, or hold a tensor
/// that does; the value itself among them. Operators that give a copy only at times (contiguous,
/// reshape) count as views unless what they read is turned; `to` does not.
class Sharing {
 public:
  /// `written`: of these reads, others that are apart from them share nothing. `copies`: whether
  /// what gives_copy_or_view() always counts as a view.
  Sharing(torch::jit::Value* root, const torch::jit::Node* before, Reads written,
          Copies copies = Copies::kShareNothing);

  bool has(const torch::jit::Value* value) const { return known_.count(value) > 0; }
  const std::vector<torch::jit::Value*>& values() const { return values_; }

 private:
  bool add(torch::jit::Value* value);
  bool look_at(torch::jit::Node* node);
  bool look_at_branches(torch::jit::Node* node);
  bool look_at_loop(torch::jit::Node* node);
  bool look_through(torch::jit::Block* block);

  const torch::jit::Node* before_;
  Reads written_;
  Copies copies_;
  std::unordered_set<const torch::jit::Value*> known_;
  std::vector<torch::jit::Value*> values_;
};

}  // namespace repquant
