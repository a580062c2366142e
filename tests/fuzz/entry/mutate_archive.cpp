// Mutations of an artifact that stay an archive: a number, a flag, a reference or a name of its
// pickled values, or bytes of one entry, with the sizes and checksums of the archive made anew.
// Plain mutation of bytes hardly gets past those.
#include <zip.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using Bytes = std::vector<std::uint8_t>;
using Random = std::minstd_rand;

struct Entry {
  std::string name;
  Bytes content;
};

struct Discard {
  void operator()(zip* archive) const noexcept { zip_discard(archive); }
};
using Archive = std::unique_ptr<zip, Discard>;

/// The entries, or none if this is no archive.
std::vector<Entry> read_entries(const std::uint8_t* data, std::size_t size) {
  std::vector<Entry> entries;
  zip_source_t* source = zip_source_buffer_create(data, size, 0, nullptr);
  if (source == nullptr) return entries;
  const Archive archive(zip_open_from_source(source, ZIP_RDONLY, nullptr));
  if (!archive) {
    zip_source_free(source);
    return entries;
  }
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<zip_uint64_t>(i);
    zip_stat_t info;
    if (zip_stat_index(archive.get(), index, 0, &info) != 0 || info.size > (1U << 20)) return {};
    Entry entry{info.name, Bytes(info.size)};
    zip_file_t* file = zip_fopen_index(archive.get(), index, 0);
    if (file == nullptr) return {};
    const zip_int64_t got = zip_fread(file, entry.content.data(), info.size);
    zip_fclose(file);
    if (got != static_cast<zip_int64_t>(info.size)) return {};
    entries.push_back(std::move(entry));
  }
  return entries;
}

Bytes write_entries(const std::vector<Entry>& entries) {
  zip_source_t* target = zip_source_buffer_create(nullptr, 0, 0, nullptr);
  if (target == nullptr) return {};
  zip_source_keep(target);
  Archive archive(zip_open_from_source(target, ZIP_CREATE | ZIP_TRUNCATE, nullptr));
  for (const Entry& entry : entries) {
    zip_source_t* source =
        zip_source_buffer(archive.get(), entry.content.data(), entry.content.size(), 0);
    const zip_int64_t index =
        zip_file_add(archive.get(), entry.name.c_str(), source, ZIP_FL_OVERWRITE);
    if (index < 0) continue;
    zip_set_file_compression(archive.get(), static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
  }
  Bytes bytes;
  if (zip_close(archive.get()) == 0) {
    archive.release();
    zip_stat_t info;
    if (zip_source_stat(target, &info) == 0 && zip_source_open(target) == 0) {
      bytes.resize(info.size);
      zip_source_read(target, bytes.data(), bytes.size());
      zip_source_close(target);
    }
  }
  zip_source_free(target);
  return bytes;
}

/// A stretch of a pickle that one mutation replaces.
struct Place {
  enum Kind { kInteger, kReal, kFlag, kReference, kText } kind;
  std::size_t begin;
  std::size_t size;
};

/// Bytes of the argument of an operation that has a fixed number of them.
std::size_t argument_size(std::uint8_t op) {
  switch (op) {
    case 0x80:
    case 'K':
    case 'q':
    case 'h':
      return 1;
    case 'M':
      return 2;
    case 'J':
    case 'r':
    case 'j':
      return 4;
    case 'G':
      return 8;
    default:
      return 0;
  }
}

std::vector<Place> places_of(const Bytes& pickle) {
  std::vector<Place> places;
  for (std::size_t at = 0; at < pickle.size();) {
    const std::uint8_t op = pickle[at];
    std::size_t size = 1 + argument_size(op);
    if (at + size > pickle.size()) break;
    if (op == 'X') {
      std::uint32_t length = 0;
      if (at + 5 > pickle.size()) break;
      std::memcpy(&length, &pickle[at + 1], 4);
      size = 5 + std::size_t{length};
      if (at + size > pickle.size()) break;
      places.push_back({Place::kText, at, size});
    } else if (op == 0x8a) {
      if (at + 2 > pickle.size()) break;
      size = 2 + std::size_t{pickle[at + 1]};
      if (at + size > pickle.size()) break;
      places.push_back({Place::kInteger, at, size});
    } else if (op == 'c') {
      for (int lines = 0; lines < 2 && at + size < pickle.size(); ++size) {
        if (pickle[at + size] == '\n') ++lines;
      }
    } else if (op == 'J' || op == 'K' || op == 'M') {
      places.push_back({Place::kInteger, at, size});
    } else if (op == 'G') {
      places.push_back({Place::kReal, at, size});
    } else if (op == 0x88 || op == 0x89) {
      places.push_back({Place::kFlag, at, size});
    } else if (op == 'h' || op == 'j') {
      places.push_back({Place::kReference, at, size});
    }
    at += size;
  }
  return places;
}

std::int64_t integer_at(const Bytes& pickle, const Place& place) {
  const bool is_long = pickle[place.begin] == 0x8a;
  const std::size_t first = place.begin + (is_long ? 2 : 1);
  const std::size_t size = std::min<std::size_t>(place.begin + place.size - first, 8);
  std::uint64_t value = 0;
  std::memcpy(&value, &pickle[first], size);
  return static_cast<std::int64_t>(value);
}

std::int64_t other_integer(std::int64_t old, Random& random) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  const std::array<std::int64_t, 20> values{0,
                                            1,
                                            2,
                                            -1,
                                            -2,
                                            16,
                                            127,
                                            128,
                                            255,
                                            256,
                                            257,
                                            65535,
                                            65536,
                                            1LL << 31,
                                            1LL << 32,
                                            kMost,
                                            -kMost - 1,
                                            -(1LL << 31),
                                            (1LL << 32) + 1,
                                            1LL << 40};
  const auto wrapped = static_cast<std::uint64_t>(old);
  switch (random() % 6) {
    case 0:
      return static_cast<std::int64_t>(wrapped + 1);
    case 1:
      return static_cast<std::int64_t>(wrapped - 1);
    case 2:
      return static_cast<std::int64_t>(wrapped * 2);
    case 3:
      return old / 2;
    default:
      return values[random() % values.size()];
  }
}

double other_real(Random& random) {
  const std::array<double, 10> values{0.0,
                                      -0.0,
                                      1.0,
                                      -1.0,
                                      1e-300,
                                      1e300,
                                      1e38,
                                      1e-45,
                                      std::numeric_limits<double>::infinity(),
                                      std::numeric_limits<double>::quiet_NaN()};
  return values[random() % values.size()];
}

Bytes replacement(const Bytes& pickle, const Place& place, const std::vector<Place>& places,
                  Random& random) {
  const auto begin = pickle.begin() + static_cast<std::ptrdiff_t>(place.begin);
  const Bytes old(begin, begin + static_cast<std::ptrdiff_t>(place.size));
  // Something of the same kind from elsewhere in the file: another tensor, name or flag.
  std::vector<const Place*> alike;
  for (const Place& other : places) {
    if (other.kind == place.kind) alike.push_back(&other);
  }
  const Place& other = *alike[random() % alike.size()];
  const auto from = pickle.begin() + static_cast<std::ptrdiff_t>(other.begin);
  const Bytes borrowed(from, from + static_cast<std::ptrdiff_t>(other.size));
  if (place.kind == Place::kInteger && random() % 4 != 0) {
    Bytes made{0x8a, 8, 0, 0, 0, 0, 0, 0, 0, 0};
    const std::int64_t value = other_integer(integer_at(pickle, place), random);
    std::memcpy(&made[2], &value, 8);
    return made;
  }
  if (place.kind == Place::kReal) {
    Bytes made{'G', 0, 0, 0, 0, 0, 0, 0, 0};
    const double value = other_real(random);
    std::memcpy(&made[1], &value, 8);
    std::reverse(made.begin() + 1, made.end());
    return made;
  }
  if (place.kind == Place::kFlag) return {static_cast<std::uint8_t>(old[0] == 0x88 ? 0x89 : 0x88)};
  return borrowed;
}

void change_pickle(Bytes& pickle, Random& random) {
  const std::vector<Place> places = places_of(pickle);
  if (places.empty()) return;
  const Place& place = places[random() % places.size()];
  const Bytes made = replacement(pickle, place, places, random);
  const auto begin = pickle.begin() + static_cast<std::ptrdiff_t>(place.begin);
  const auto after = pickle.erase(begin, begin + static_cast<std::ptrdiff_t>(place.size));
  pickle.insert(after, made.begin(), made.end());
}

void change_bytes(Bytes& content, Random& random) {
  const std::size_t size = content.size();
  content.resize(size + 64);
  content.resize(LLVMFuzzerMutate(content.data(), size, content.size()));
  // What is stored has exactly the bytes that its tensor claims, or the rest never sees it.
  if (random() % 4 != 0) content.resize(size);
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned int seed) {
  Random random(seed);
  std::vector<Entry> entries = read_entries(data, size);
  if (entries.empty() || random() % 32 == 0) return LLVMFuzzerMutate(data, size, max_size);
  std::vector<Entry*> pickles, others;  // code has a target of its own
  for (Entry& entry : entries) {
    if (ends_with(entry.name, ".pkl")) {
      pickles.push_back(&entry);
    } else if (entry.name.find("/code/") == std::string::npos) {
      others.push_back(&entry);
    }
  }
  for (unsigned rounds = 1 + static_cast<unsigned>(random() % 3); rounds > 0; --rounds) {
    if (!pickles.empty() && random() % 4 != 0) {
      change_pickle(pickles[random() % pickles.size()]->content, random);
    } else if (!others.empty()) {
      change_bytes(others[random() % others.size()]->content, random);
    }
  }
  const Bytes bytes = write_entries(entries);
  if (bytes.empty() || bytes.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::copy(bytes.begin(), bytes.end(), data);
  return bytes.size();
}
