#include "graph/walker.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/interned_strings.h>
#include <torch/csrc/jit/frontend/error_report.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <algorithm>
#include <string>

#include "base/text_table.h"
#include "graph/inputs.h"
#include "graph/site_path.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {
namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

constexpr int kMaxLoopTrips = 1 << 20;  // a model file cannot hang the tool

const c10::IValue& input(const Node* node, std::size_t i, const Values& values) {
  const auto found = values.find(node->input(i));
  if (found == values.end()) {
    throw Error(ErrorKind::kInternal,
                {.what = "a value is read before it is computed or after its last use",
                 .where = describe_node(node),
                 .got = "%" + node->input(i)->debugName()});
  }
  return found->second;
}

void run_block(const Block* block, Values& values, const NodeHook& hook) {
  for (const Node* node : block->nodes()) {
    if (!hook || !hook(node, values)) run_node(node, values, hook);
  }
}

void bind_block_outputs(const Block* block, const Node* node, Values& values) {
  for (std::size_t i = 0; i < node->outputs().size(); ++i) {
    values[node->output(i)] = values.at(block->outputs()[i]);
  }
}

void run_if(const Node* node, Values& values, const NodeHook& hook) {
  const Block* block = node->blocks()[input(node, 0, values).toBool() ? 0 : 1];
  run_block(block, values, hook);
  bind_block_outputs(block, node, values);
}

void run_loop(const Node* node, Values& values, const NodeHook& hook) {
  const std::int64_t trips = input(node, 0, values).toInt();
  bool go_on = input(node, 1, values).toBool();
  const Block* body = node->blocks()[0];
  std::vector<c10::IValue> carried;
  for (std::size_t i = 2; i < node->inputs().size(); ++i) carried.push_back(input(node, i, values));
  for (std::int64_t trip = 0; trip < trips && go_on; ++trip) {
    if (trip >= kMaxLoopTrips) {
      throw Error(ErrorKind::kResource,
                  {.what = "a loop of the model does not end", .where = describe_node(node)});
    }
    values[body->inputs()[0]] = trip;
    for (std::size_t i = 0; i < carried.size(); ++i) values[body->inputs()[i + 1]] = carried[i];
    run_block(body, values, hook);
    go_on = values.at(body->outputs()[0]).toBool();
    for (std::size_t i = 0; i < carried.size(); ++i) carried[i] = values.at(body->outputs()[i + 1]);
  }
  for (std::size_t i = 0; i < carried.size(); ++i) values[node->output(i)] = carried[i];
}

c10::IValue construct_list(const Node* node, const std::vector<c10::IValue>& items) {
  const auto element = node->output()->type()->expectRef<c10::ListType>().getElementType();
  c10::impl::GenericList list(element);
  list.reserve(items.size());
  for (const auto& item : items) list.push_back(item);
  return list;
}

c10::IValue construct_dict(const Node* node, const std::vector<c10::IValue>& items) {
  const auto& type = node->output()->type()->expectRef<c10::DictType>();
  c10::impl::GenericDict dict(type.getKeyType(), type.getValueType());
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) dict.insert(items[i], items[i + 1]);
  return dict;
}

void unpack(const Node* node, c10::ArrayRef<c10::IValue> items, Values& values) {
  if (items.size() != node->outputs().size()) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "a list or tuple of the model has another length than the graph expects",
                 .where = describe_node(node),
                 .expected = counted(std::ssize(node->outputs()), "item"),
                 .got = counted(std::ssize(items), "item"),
                 .hint = "torch.jit.trace keeps as many turns of a loop over data as its example "
                         "took: write it without the loop, or script that part"});
  }
  for (std::size_t i = 0; i < items.size(); ++i) values[node->output(i)] = items[i];
}

/// prim nodes that LibTorch has no operator for. Returns false if `node` is not one of them.
bool run_structural(const Node* node, Values& values, const NodeHook& hook) {
  const auto all_inputs = [&] {
    std::vector<c10::IValue> items;
    for (std::size_t i = 0; i < node->inputs().size(); ++i) items.push_back(input(node, i, values));
    return items;
  };
  switch (node->kind()) {
    case c10::prim::Constant: {
      const auto constant = torch::jit::toIValue(node->output());
      values[node->output()] = constant ? *constant : c10::IValue();
      return true;
    }
    case c10::prim::TupleConstruct:
      if (const auto type = node->output()->type()->cast<c10::TupleType>(); type->schema()) {
        values[node->output()] = c10::ivalue::Tuple::createNamed(all_inputs(), type);
      } else {
        values[node->output()] = c10::ivalue::Tuple::create(all_inputs());
      }
      return true;
    case c10::prim::TupleUnpack:
      unpack(node, input(node, 0, values).toTupleRef().elements(), values);
      return true;
    case c10::prim::ListConstruct:
      values[node->output()] = construct_list(node, all_inputs());
      return true;
    case c10::prim::ListUnpack:
      unpack(node, input(node, 0, values).toListRef(), values);
      return true;
    case c10::prim::DictConstruct:
      values[node->output()] = construct_dict(node, all_inputs());
      return true;
    case c10::prim::isinstance: {
      const c10::TypePtr type = input(node, 0, values).type();
      const auto& types = node->tys(c10::attr::types);
      values[node->output()] = std::any_of(
          types.begin(), types.end(), [&](const auto& one) { return type->isSubtypeOf(*one); });
      return true;
    }
    case c10::prim::If:
      run_if(node, values, hook);
      return true;
    case c10::prim::Loop:
      run_loop(node, values, hook);
      return true;
    default:
      return false;
  }
}

/// Runs an operator and turns LibTorch's three error types into ours.
void run_operator(const Node* node, Values& values) {
  const auto* op = node->maybeOperator();
  if (op == nullptr) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model uses an operator that this build cannot run",
                 .where = describe_node(node),
                 .got = node->kind().toQualString()});
  }
  torch::jit::Stack stack;
  for (std::size_t i = 0; i < node->inputs().size(); ++i) stack.push_back(input(node, i, values));
  // An operator of any number of operands is told how many there are.
  if (op->schema().is_vararg()) stack.emplace_back(static_cast<std::int64_t>(stack.size()));
  const auto fail = [node](const std::string& message) {
    rethrow_if_out_of_memory(describe_node(node));
    throw Error(ErrorKind::kUnsupported,
                {.what = "an operator of the model failed: " + message.substr(0, 400),
                 .where = describe_node(node),
                 .got = node->kind().toQualString(),
                 .hint = "check that the data has the shape and type the model expects, or use "
                         "`batch_size=1`"});
  };
  try {
    op->getOperation(node)(stack);
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const torch::jit::ErrorReport& e) {
    fail(e.what());
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    fail(e.what());
  }
  const std::size_t count = node->outputs().size();
  for (std::size_t i = 0; i < count; ++i) {
    values[node->output(i)] = std::move(stack[stack.size() - count + i]);
  }
}

/// Calls `see` for every value that `node` or a node of its blocks reads.
void for_each_use(const Node* node, const std::function<void(const Value*)>& see) {
  for (const Value* value : node->inputs()) see(value);
  for (const Block* block : node->blocks()) {
    for (const Node* inner : block->nodes()) for_each_use(inner, see);
    for (const Value* value : block->outputs()) see(value);
  }
}

std::vector<c10::IValue> outputs_of(const torch::jit::Graph& graph, const Values& values) {
  std::vector<c10::IValue> outputs;
  for (const Value* value : graph.outputs()) outputs.push_back(values.at(value));
  return outputs;
}

}  // namespace

void run_node(const Node* node, Values& values, const NodeHook& hook) {
  if (!run_structural(node, values, hook)) run_operator(node, values);
}

Schedule::Schedule(const torch::jit::Graph& graph) {
  for (Node* node : const_cast<torch::jit::Graph&>(graph).nodes()) {
    index_[node] = nodes_.size();
    nodes_.push_back(node);
  }
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    for (const Value* value : nodes_[i]->outputs()) last_use_[value] = i;
    for_each_use(nodes_[i], [&](const Value* value) { last_use_[value] = i; });
  }
  for (const Value* value : graph.outputs()) last_use_[value] = nodes_.size();
}

bool Schedule::live_at(const Value* value, std::size_t next) const {
  const auto found = last_use_.find(value);
  return found != last_use_.end() && found->second >= next;
}

void Schedule::drop_dead(std::size_t next, Values& values) const {
  std::erase_if(values, [&](const auto& entry) { return !live_at(entry.first, next); });
}

Values bind_inputs(const torch::jit::Graph& graph, const std::vector<c10::IValue>& inputs) {
  std::vector<const Value*> expected(graph.inputs().begin(), graph.inputs().end());
  const std::vector<c10::IValue> given = structured_inputs(expected, inputs);
  Values values;
  for (std::size_t i = 0; i < given.size(); ++i) values[expected[i]] = given[i];
  return values;
}

void run_range(const Schedule& schedule, std::size_t begin, std::size_t end, Values& values,
               const NodeHook& hook) {
  for (std::size_t i = begin; i < end; ++i) {
    const Node* node = schedule.nodes()[i];
    if (!hook || !hook(node, values)) run_node(node, values);
    if (node->blocks().empty()) {
      for (const Value* value : node->inputs()) {
        if (!schedule.live_at(value, i + 1)) values.erase(value);
      }
      for (const Value* value : node->outputs()) {
        if (!schedule.live_at(value, i + 1)) values.erase(value);
      }
    } else {
      schedule.drop_dead(i + 1, values);
    }
  }
}

std::vector<c10::IValue> run_graph(const torch::jit::Graph& graph, const Schedule& schedule,
                                   const std::vector<c10::IValue>& inputs, const NodeHook& hook) {
  Values values = bind_inputs(graph, inputs);
  run_range(schedule, 0, schedule.nodes().size(), values, hook);
  return outputs_of(graph, values);
}

std::vector<at::Tensor> output_tensors(const torch::jit::Graph& graph, const Values& values) {
  return output_tensors(outputs_of(graph, values));
}

std::vector<c10::IValue> copies_of(const std::vector<at::Tensor>& inputs) {
  std::vector<c10::IValue> copies;
  for (const auto& tensor : inputs) copies.emplace_back(tensor.clone());
  return copies;
}

std::vector<at::Tensor> output_tensors(const std::vector<c10::IValue>& outputs) {
  std::vector<at::Tensor> tensors;
  const std::function<void(const c10::IValue&)> visit = [&](const c10::IValue& value) {
    if (value.isTensor()) {
      tensors.push_back(value.toTensor());
    } else if (value.isTuple()) {
      for (const auto& item : value.toTupleRef().elements()) visit(item);
    } else if (value.isList()) {
      for (const auto& item : value.toListRef()) visit(item);
    } else if (value.isGenericDict()) {
      for (const auto& item : value.toGenericDict()) visit(item.value());
    }
  };
  for (const auto& output : outputs) visit(output);
  return tensors;
}

}  // namespace repquant
