#include "runtime/fuse.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "artifact/dataflow.h"
#include "graph/rewrite.h"

namespace repquant {

using torch::jit::NamedValue;
using torch::jit::Node;
using torch::jit::Value;

std::optional<SubmoduleCall> FusionContext::call_of(Node* node) const {
  if (node == nullptr || node->kind() != c10::prim::CallMethod) return {};
  const Node* object = node->input(0)->node();
  if (object->kind() != c10::prim::GetAttr || node->s(c10::attr::name) != "forward") return {};
  const std::string name = object->s(c10::attr::name);
  const auto found = archive.stored.find(name);
  if (found == archive.stored.end() || kept.count(name) > 0) return {};
  return SubmoduleCall{node, name, &found->second};
}

void FusionContext::compare(const Value* value, Value* fused, Replacement how) {
  how.portable = copy.original(value);
  how.fused = fused;
  replaced.push_back(std::move(how));
}

void FusionContext::replace(Value* value, Value* fused, Replacement how) {
  compare(value, fused, std::move(how));
  value->replaceAllUsesWith(fused);
}

bool FusionContext::is_replacement(const Value* value) const {
  return std::any_of(replaced.begin(), replaced.end(),
                     [value](const Replacement& how) { return how.fused == value; });
}

void FusionContext::improve(Node* node, Value* better) {
  for (Replacement& how : replaced) {
    if (how.fused == node->output()) how.fused = better;
  }
  node->output()->replaceAllUsesWith(better);
  node->destroy();
}

void FusionContext::drop(Node* node) {
  std::erase_if(replaced, [node](const auto& how) { return how.fused->node() == node; });
  node->destroy();
}

std::string FusionContext::module_of(const Value* fused) const {
  const auto found = std::find_if(replaced.begin(), replaced.end(),
                                  [fused](const auto& how) { return how.fused == fused; });
  return found == replaced.end() ? "" : found->module;
}

void FusionContext::report_fused(const std::string& name, std::string op, std::string reason) {
  sites[name] = {name, std::move(op), true, std::move(reason)};
}

void FusionContext::report_fused_into(const std::string& module, const std::string& name,
                                      std::string op) {
  report_fused(name, std::move(op), "fused into " + module);
  taken_in[name] = module;
}

void FusionContext::report_operator(const std::string& module, const std::string& op) {
  sites.at(module).op = op;
  for (const auto& [name, into] : taken_in) {
    if (into == module) sites.at(name).op = op;
  }
}

void FusionContext::report_portable(const SubmoduleCall& call, std::string reason) {
  sites[call.name] = {call.name, call.state->kind, false, std::move(reason)};
}

std::ptrdiff_t reader_count(const Value* value) {
  return std::count_if(value->uses().begin(), value->uses().end(),
                       [](const auto& use) { return !reads_size_only(use.user); });
}

Node* only_reader(Value* value) {
  if (value->uses().size() != 1) return nullptr;
  Node* user = value->uses()[0].user;
  return user->owningBlock() == value->node()->owningBlock() && user->kind() != c10::prim::Return
             ? user
             : nullptr;
}

NamedValue value_or_none(Value* value) {
  return value == nullptr ? NamedValue(c10::IValue()) : NamedValue(value);
}

Value* insert_operator(Node* before, const char* name, const std::vector<NamedValue>& arguments) {
  torch::jit::WithInsertPoint guard(before);
  return before->owningGraph()->insert(c10::Symbol::fromQualString(name), arguments);
}

std::vector<Value*> insert_with_outputs(Node* before, const char* name,
                                        const std::vector<NamedValue>& arguments) {
  Node* tuple = insert_operator(before, name, arguments)->node();
  std::vector<Value*> outputs = tuple->inputs().vec();
  tuple->destroy();
  return outputs;
}

bool fuse_norm(FusionContext& context, const SubmoduleCall& norm) {
  const StoredState& state = *norm.state;
  if (state.values.at("shape").toIntVector().size() != 1) {
    context.report_portable(norm, "the norm spans several dimensions");
    return false;
  }
  Value* codes = insert_operator(
      norm.node, "repquant::norm_quantize",
      {norm.argument(0), state.tensor("weight"), state.tensor("bias"), state.number("epsilon"),
       state.integer("max_code"), state.flag("root_mean_square")});
  context.replace(norm.node->output(), codes, {.module = norm.name});
  norm.node->destroy();
  context.report_fused(norm.name, "repquant::norm_quantize");
  return true;
}

bool fuse_embedding(FusionContext& context, const SubmoduleCall& embedding) {
  const StoredState& state = *embedding.state;
  Value* rows = insert_operator(embedding.node, "repquant::embedding_rows",
                                {state.tensor("codes"), state.tensor("scale"),
                                 embedding.argument(0), state.integer("columns")});
  context.replace(embedding.node->output(), rows, {.module = embedding.name});
  embedding.node->destroy();
  context.report_fused(embedding.name, "repquant::embedding_rows");
  return true;
}

bool leave_token_call(FusionContext& context, const SubmoduleCall& call) {
  context.report_portable(call, "what it works with is not fused");
  return false;
}

/// Scores that no attention took in.
bool leave_product(FusionContext& context, const SubmoduleCall& call) {
  if (context.sites.count(call.name) == 0) {
    context.report_portable(call, "a product that is no part of a fused attention");
  }
  return false;
}

void fuse(FusionContext& context, torch::jit::Graph& graph) {
  using Fusion = bool (*)(FusionContext&, const SubmoduleCall&);
  for (const auto& [name, reason] : context.kept) {
    const auto found = context.archive.stored.find(name);
    if (found != context.archive.stored.end()) {
      context.sites[name] = {name, found->second.kind, false, reason};
    }
  }
  // In this order: a fusion takes in calls of later kinds, and of none before.
  const std::vector<std::pair<std::string, Fusion>> fusions{{"Attend", &fuse_attention},
                                                            {"CacheQuantize", &fuse_cache_write},
                                                            {"CacheDequantize", &fuse_cache_read},
                                                            {"Scores", &leave_product},
                                                            {"Convolution", &fuse_convolution},
                                                            {"Linear", &fuse_linear},
                                                            {"WeightOnlyLinear", &fuse_weight_only},
                                                            {"NormQuantize", &fuse_norm},
                                                            {"Embedding", &fuse_embedding},
                                                            {"Quantize", &fuse_quantize},
                                                            {"TokenQuantize", &fuse_token_quantize},
                                                            {"GroupQuantize", &fuse_group_quantize},
                                                            {"RowQuantize", &fuse_row_quantize},
                                                            {"RowScale", &leave_token_call},
                                                            {"TokenRange", &leave_token_call},
                                                            {"TokenScale", &leave_token_call}};
  for (const auto& [kind, fusion] : fusions) {
    std::vector<SubmoduleCall> calls;
    for (Node* node : all_nodes(graph)) {
      const auto call = context.call_of(node);
      if (call && call->state->kind == kind) calls.push_back(*call);
    }
    for (const auto& call : calls) fusion(context, call);
  }
  fuse_groups(context, graph);
  fuse_windows(context, graph);
  fuse_rearrangements(context, graph);
  reuse_outputs(context, graph);
}

}  // namespace repquant
