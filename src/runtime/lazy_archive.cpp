#include "runtime/lazy_archive.h"

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/frontend/error_report.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import_read.h>
#include <torch/csrc/jit/serialization/import_source.h>

#include <algorithm>
#include <unordered_map>

#include "format/class_source.h"
#include "format/validate.h"
#include "graph/archive.h"
#include "repquant/artifact.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {
namespace {

using caffe2::serialize::PyTorchStreamReader;
using ObjectPtr = c10::intrusive_ptr<c10::ivalue::Object>;
using States = std::unordered_map<const c10::ivalue::Object*, StoredState>;

std::string record_text(PyTorchStreamReader& reader, const std::string& name) {
  auto [data, size] = reader.getRecord(name);
  return {static_cast<const char*>(data.get()), size};
}

/// Fills `state` from the tuple that __getstate__ wrote; false if it has another length.
bool name_values(const ClassSource& source, StoredState& state) {
  const auto& elements = state.tuple.toTupleRef().elements();
  if (elements.size() != source.stored.size() + 1) return false;  // + training
  for (std::size_t i = 0; i < source.stored.size(); ++i) {
    state.values[source.stored[i].first] = elements[i];
  }
  return true;
}

void run_set_state(const ObjectPtr& object, const c10::IValue& tuple) {
  // As LibTorch's own loader: nothing may specialize on attributes that do not exist yet.
  const torch::jit::GraphOptimizerEnabledGuard guard(false);
  object->type()->getMethod("__setstate__")({object, tuple});
}

/// LibTorch's ScriptModuleDeserializer, reduced to what artifacts hold.
class ArchiveReader {
 public:
  explicit ArchiveReader(const std::string& path)
      : reader_(path), unit_(std::make_shared<torch::jit::CompilationUnit>()) {
    const c10::IValue constants = read("constants", {}, {});
    for (const auto& value : constants.toTupleRef().elements()) constants_.push_back(value);
  }

  c10::IValue run() {
    torch::jit::SourceImporter importer(
        unit_, &constants_, [this](const std::string& name) { return source_of(name); },
        reader_.version());
    const auto resolve = [&](const c10::QualifiedName& name) {
      return c10::StrongTypePtr(unit_, importer.loadType(name)->expect<c10::ClassType>());
    };
    const auto make = [this](const at::StrongTypePtr& type, const c10::IValue& input) {
      return make_object(type, input);
    };
    return read("data", resolve, make);
  }

  States states;

 private:
  c10::IValue read(const std::string& name, std::optional<torch::jit::TypeResolver> resolve,
                   std::optional<torch::jit::ObjLoader> make) {
    return torch::jit::readArchiveAndTensors(name, "", name + "/", std::move(resolve),
                                             std::move(make), at::Device(at::kCPU), reader_);
  }

  std::shared_ptr<torch::jit::Source> source_of(const std::string& qualifier) {
    std::string name = qualifier;
    std::replace(name.begin(), name.end(), '.', '/');
    name = "code/" + name + ".py";
    if (!reader_.hasRecord(name)) return nullptr;
    return std::make_shared<torch::jit::Source>(record_text(reader_, name), name, 1);
  }

  ObjectPtr make_object(const at::StrongTypePtr& type, const c10::IValue& input) {
    const auto cls = type.type_->expect<c10::ClassType>();
    auto object = c10::ivalue::Object::create(type, cls->numAttributes());
    if (cls->findMethod("__setstate__") == nullptr) {
      const auto values = input.toGenericDict();
      for (std::size_t i = 0; i < cls->numAttributes(); ++i) {
        object->setSlot(i, values.at(cls->getAttributeName(i)));
      }
      return object;
    }
    StoredState state{cls->name()->name(), input, {}};
    const ClassSource* source = find_class(cls->name()->qualifiedName());
    if (source == nullptr || !name_values(*source, state)) {
      run_set_state(object, input);
    } else {
      states.emplace(object.get(), std::move(state));
    }
    return object;
  }

  PyTorchStreamReader reader_;
  std::shared_ptr<torch::jit::CompilationUnit> unit_;
  std::vector<c10::IValue> constants_;
};

}  // namespace

void rethrow_load_error(const std::string& path) {
  const auto fail = [&](const std::string& message) {
    rethrow_if_out_of_memory(path);
    throw Error(ErrorKind::kFile, {.what = "the artifact cannot be loaded",
                                   .where = path,
                                   .got = interpreter_message(message),
                                   .hint = "copy the file again, or quantize the model again"});
  };
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const std::exception& e) {  // TorchScript's interpreter throws std::runtime_error
    fail(e.what());
  }
  throw;  // nothing else comes from LibTorch
}

LazyArchive read_lazily(const std::string& path, bool trusted) {
  check_archive(path);
  validate_archive(path, trusted);
  check_checksums(path);
  return read_validated(path);
}

LazyArchive read_validated(const std::string& path) {
  LazyArchive archive;
  archive.portable = read_artifact(path).portable;  // says what is wrong with its description
  try {
    ArchiveReader reader(path);
    archive.root = torch::jit::Module(reader.run().toObject());
    for (const auto& child : archive.root.named_children()) {
      const auto found = reader.states.find(child.value._ivalue().get());
      if (found != reader.states.end()) archive.stored[child.name] = found->second;
    }
  } catch (const std::exception&) {
    rethrow_load_error(path);
  }
  if (!archive.root.find_method("forward")) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the artifact has no forward method", .where = path});
  }
  return archive;
}

void prepare(LazyArchive& archive, const std::string& name) {
  const auto found = archive.stored.find(name);
  if (found == archive.stored.end()) return;
  run_set_state(archive.root.attr(name).toObject(), found->second.tuple);
  archive.stored.erase(found);
}

}  // namespace repquant
