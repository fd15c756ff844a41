#include "formats/torch/unpickler.h"

#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <unordered_map>

#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats::torch {
namespace {

using Kind = Node::Kind;

constexpr const char* kNotOurs =
    "nothing of it was run; if you trust the file, load it with torch and save it as safetensors";
constexpr const char* kDamaged = "the file is cut short or damaged: fetch it again";

struct StorageName {
  std::string_view name;
  DType dtype;
};
constexpr std::array kStorages = {
    StorageName{"torch.FloatStorage", DType::f32},
    StorageName{"torch.HalfStorage", DType::f16},
    StorageName{"torch.BFloat16Storage", DType::bf16},
    StorageName{"torch.DoubleStorage", DType::f64},
    StorageName{"torch.LongStorage", DType::i64},
    StorageName{"torch.IntStorage", DType::i32},
    StorageName{"torch.ShortStorage", DType::i16},
    StorageName{"torch.CharStorage", DType::i8},
    StorageName{"torch.ByteStorage", DType::u8},
    StorageName{"torch.BoolStorage", DType::boolean},
    StorageName{"torch.storage.UntypedStorage", DType::u8},
};
constexpr std::array kTypes = {
    StorageName{"torch.float32", DType::f32},         StorageName{"torch.float16", DType::f16},
    StorageName{"torch.bfloat16", DType::bf16},       StorageName{"torch.float8_e4m3fn", DType::f8_e4m3},
    StorageName{"torch.float8_e5m2", DType::f8_e5m2}, StorageName{"torch.uint16", DType::u16},
    StorageName{"torch.uint32", DType::u32},          StorageName{"torch.uint64", DType::u64},
};
constexpr std::array<std::string_view, 6> kCallables = {
    "collections.OrderedDict",         "torch.Size",
    "torch._utils._rebuild_tensor",    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_parameter"};

template <std::size_t N>
std::optional<DType> type_of(const std::array<StorageName, N>& names, std::string_view name) {
  for (const StorageName& one : names)
    if (one.name == name) return one.dtype;
  return std::nullopt;
}

/// The list's own text for a name; empty if it is not on it. So a name need not outlive the pickle.
std::string_view allowed(std::string_view name) {
  for (const std::string_view one : kCallables)
    if (one == name) return one;
  for (const StorageName& one : kStorages)
    if (one.name == name) return one.name;
  for (const StorageName& one : kTypes)
    if (one.name == name) return one.name;
  return {};
}

/// Of a name from a hostile file: what a line of text can hold.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 80)) out += c >= ' ' && c < '\x7f' ? c : '?';
  return text.size() > 80 ? out + "..." : out;
}

class Machine {
 public:
  Machine(const std::string& path, std::uint64_t offset, std::string_view bytes, Names names)
      : path_(path), offset_(offset), bytes_(bytes), any_name_(names == Names::any_as_data) {}

  Pickle run() {
    while (!stopped_) {
      op_at_ = at_;
      step(static_cast<unsigned char>(take(1)[0]));
    }
    pickle_.end = at_;
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void fail(const std::string& problem, const char* fix = kNotOurs) const {
    throw Error(ErrorKind::bad_input, {.path = path_, .offset = offset_ + op_at_}, "the pickle " + problem, fix);
  }

  std::string_view take(std::uint64_t n) {
    if (n > bytes_.size() - at_) fail("needs " + plural(n, "byte") + ", " + are_left(bytes_.size() - at_), kDamaged);
    const std::string_view out = bytes_.substr(at_, n);
    at_ += n;
    return out;
  }
  template <class T>
  T number() {
    static_assert(std::endian::native == std::endian::little);
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view line() {
    const std::size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos || end - at_ > 1000) fail("holds a line without an end", kDamaged);
    const std::string_view out = bytes_.substr(at_, end - at_);
    at_ = end + 1;
    return out;
  }

  Node* make(Kind kind) {
    if (pickle_.nodes.size() >= kMaxNodes) fail("holds more than " + std::to_string(kMaxNodes) + " values");
    Node& node = pickle_.nodes.emplace_back();
    node.kind = kind;
    return &node;
  }
  void push(Node* node) { stack_.push_back(node); }
  void push_integer(std::int64_t value) {
    Node* node = make(Kind::integer);
    node->integer = value;
    push(node);
  }
  void push_text(std::string_view text) {
    Node* node = make(Kind::text);
    node->text = text;
    push(node);
  }
  Node* pop() {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) fail("takes a value that is not there", kDamaged);
    Node* node = stack_.back();
    stack_.pop_back();
    return node;
  }
  /// Everything above the last mark.
  std::vector<Node*> pop_to_mark() {
    if (marks_.empty()) fail("closes a mark that was not set", kDamaged);
    const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Node*> items(from, stack_.end());
    stack_.erase(from, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::vector<Node*> items) {
    Node* node = make(Kind::tuple);
    node->items = std::move(items);
    push(node);
  }
  void push_tuple_of(std::size_t n) {
    std::vector<Node*> items(n);
    while (n > 0) items[--n] = pop();
    push_tuple(std::move(items));
  }
  Node* top(Kind kind, const char* what) {
    Node* node = pop();
    if (node->kind != kind) fail(std::string("adds to what is no ") + what);
    push(node);
    return node;
  }
  void memoize(std::uint32_t index) {
    Node* node = pop();
    push(node);
    memo_[index] = node;
  }
  void recall(std::uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail("recalls value " + std::to_string(index) + ", which it never kept", kDamaged);
    push(found->second);
  }
  void push_name(std::string_view module, std::string_view name) {
    if (any_name_) {
      Node* node = make(Kind::name);
      node->text = name;
      return push(node);
    }
    const std::string whole = std::string(module) + "." + std::string(name);
    const std::string_view known = allowed(whole);
    if (known.empty()) fail("names '" + printable(whole) + "', which is none of those that tensors are saved with");
    Node* node = make(Kind::name);
    node->text = known;
    push(node);
  }

  void set_items(Node* dictionary, const std::vector<Node*>& items) {
    if (items.size() % 2 != 0) fail("sets a key without a value", kDamaged);
    dictionary->items.insert(dictionary->items.end(), items.begin(), items.end());
    charge(items.size());
  }
  /// References count like values: a list that is added to itself must not grow without bound.
  void charge(std::size_t references) {
    references_ += references;
    if (references_ > 4 * kMaxNodes) fail("holds more than " + std::to_string(4 * kMaxNodes) + " references");
  }

  std::uint64_t size(const Node* node) const {
    if (node->kind != Kind::integer || node->integer < 0) fail("gives a tensor a size that is no whole number");
    return static_cast<std::uint64_t>(node->integer);
  }
  /// ('storage', type, key, location, elements)
  void push_storage(const Node* id) {
    if (id->kind != Kind::tuple || id->items.size() < 5 || id->items[0]->kind != Kind::text ||
        id->items[0]->text != "storage" || id->items[1]->kind != Kind::name || id->items[2]->kind != Kind::text)
      fail("refers to something outside that is no storage");
    const auto dtype = type_of(kStorages, id->items[1]->text);
    if (!dtype) fail("has a storage of type '" + printable(id->items[1]->text) + "'");
    if (id->items.size() > 5 && id->items[5]->kind != Kind::none) fail("has a view of a storage (torch before 0.4)");
    Node* node = make(Kind::storage);
    node->text = id->items[2]->text;
    node->dtype = *dtype;
    node->integer = static_cast<std::int64_t>(size(id->items[4]));
    push(node);
  }
  Node* tensor(std::string_view function, const std::vector<Node*>& arguments) {
    if (arguments.size() < 4 || arguments[0]->kind != Kind::storage || arguments[2]->kind != Kind::tuple ||
        arguments[3]->kind != Kind::tuple || arguments[2]->items.size() != arguments[3]->items.size() ||
        arguments[2]->items.size() > 8)
      fail("calls " + std::string(function) + " with other arguments than a storage, an offset, a shape and strides");
    Node* node = make(Kind::tensor);
    node->items = {arguments[0]};
    node->dtype = arguments[0]->dtype;
    node->sizes.push_back(size(arguments[1]));
    for (const std::size_t list : {std::size_t{2}, std::size_t{3}})
      for (const Node* one : arguments[list]->items) node->sizes.push_back(size(one));
    if (function.ends_with("_v3")) {
      const auto dtype =
          arguments.size() > 6 && arguments[6]->kind == Kind::name ? type_of(kTypes, arguments[6]->text) : std::nullopt;
      if (!dtype) fail("calls " + std::string(function) + " without a type");
      node->dtype = *dtype;
    }
    return node;
  }
  /// What would be called or made, as what it would be given.
  void push_object(Node* of, Node* arguments) {
    Node* node = make(Kind::object);
    node->text = of->text;
    node->items = {arguments};
    charge(1);
    push(node);
  }
  void reduce() {
    Node* arguments = pop();
    Node* function = pop();
    if (any_name_) return push_object(function, arguments);
    if (function->kind != Kind::name || arguments->kind != Kind::tuple) fail("calls what is no function");
    const std::string_view name = function->text;
    const auto& given = arguments->items;
    if (name == "torch.Size" && given.size() == 1 && given[0]->kind == Kind::tuple) return push(given[0]);
    if (name == "torch._utils._rebuild_parameter" && !given.empty() && given[0]->kind == Kind::tensor)
      return push(given[0]);
    if (name.starts_with("torch._utils._rebuild_tensor")) return push(tensor(name, given));
    if (name != "collections.OrderedDict" || given.size() > 1)
      fail("calls '" + printable(name) + "' with arguments that are not a tensor's");
    Node* dictionary = make(Kind::dictionary);
    if (!given.empty()) {
      if (given[0]->kind != Kind::list) fail("makes a dictionary of what is no list of pairs");
      for (const Node* pair : given[0]->items) {
        if ((pair->kind != Kind::list && pair->kind != Kind::tuple) || pair->items.size() != 2)
          fail("makes a dictionary of what is no list of pairs");
        set_items(dictionary, pair->items);
      }
    }
    push(dictionary);
  }
  void long_integer(std::string_view bytes) {
    if (bytes.size() > 8) {  // the magic number of the old layout is the only one that long: its reader looks at it
      Node* node = make(Kind::text);
      node->text = bytes;
      return push(node);
    }
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i-- > 0;)
      value = value << 8 | static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i]));
    if (!bytes.empty() && bytes.size() < 8 && (static_cast<unsigned char>(bytes.back()) & 0x80) != 0)
      value |= ~std::uint64_t{0} << (8 * bytes.size());
    push_integer(static_cast<std::int64_t>(value));
  }

  void step(unsigned char op) {
    switch (op) {
      case 0x80:  // PROTO
        if (number<std::uint8_t>() > 5) fail("is of a protocol that is not known");
        return;
      case '.':  // STOP
        pickle_.value = pop();
        stopped_ = true;
        return;
      case '(': marks_.push_back(stack_.size()); return charge(1);
      case '0': pop(); return;
      case '1': pop_to_mark(); return;
      case 'N': return push(make(Kind::none));
      case 0x88:
      case 0x89: {
        Node* node = make(Kind::boolean);
        node->integer = op == 0x88 ? 1 : 0;
        return push(node);
      }
      case 'K': return push_integer(number<std::uint8_t>());
      case 'M': return push_integer(number<std::uint16_t>());
      case 'J': return push_integer(number<std::int32_t>());
      case 0x8a: return long_integer(take(number<std::uint8_t>()));
      case 'G': take(8); return push(make(Kind::real));
      case 'X': return push_text(take(number<std::uint32_t>()));
      case 0x8c: return push_text(take(number<std::uint8_t>()));
      case 'U': return push_text(take(number<std::uint8_t>()));
      case 'T': return push_text(take(number<std::uint32_t>()));
      case ')': return push_tuple({});
      case 0x85: return push_tuple_of(1);
      case 0x86: return push_tuple_of(2);
      case 0x87: return push_tuple_of(3);
      case 't': {
        std::vector<Node*> items = pop_to_mark();
        charge(items.size());
        return push_tuple(std::move(items));
      }
      case ']': return push(make(Kind::list));
      case 'a': {
        Node* item = pop();
        charge(1);
        return top(Kind::list, "list")->items.push_back(item);
      }
      case 'e': {
        const std::vector<Node*> items = pop_to_mark();
        charge(items.size());
        Node* list = top(Kind::list, "list");
        list->items.insert(list->items.end(), items.begin(), items.end());
        return;
      }
      case '}': return push(make(Kind::dictionary));
      case 's': {
        Node* value = pop();
        Node* key = pop();
        return set_items(top(Kind::dictionary, "dictionary"), {key, value});
      }
      case 'u': {
        const std::vector<Node*> items = pop_to_mark();
        return set_items(top(Kind::dictionary, "dictionary"), items);
      }
      case 'q': return memoize(number<std::uint8_t>());
      case 'r': return memoize(number<std::uint32_t>());
      case 0x94: return memoize(static_cast<std::uint32_t>(memo_.size()));
      case 'h': return recall(number<std::uint8_t>());
      case 'j': return recall(number<std::uint32_t>());
      case 0x95: take(8); return;  // FRAME: how much to read ahead
      case 'c': {
        const std::string_view module = line();
        return push_name(module, line());
      }
      case 0x93: {
        const Node* name = pop();
        const Node* module = pop();
        if (name->kind != Kind::text || module->kind != Kind::text) fail("names what is no text", kDamaged);
        return push_name(module->text, name->text);
      }
      case 'Q': return push_storage(pop());
      case 'R': return reduce();
      case 'b': {  // BUILD: attributes of a dictionary (_metadata of a state_dict), which hold no tensor
        Node* attributes = pop();
        if (!any_name_) return void(top(Kind::dictionary, "dictionary"));
        charge(1);
        return top(Kind::object, "object")->items.push_back(attributes);
      }
      case 0x81: {  // NEWOBJ
        if (!any_name_) refuse(op);
        Node* arguments = pop();
        return push_object(pop(), arguments);
      }
      default: refuse(op);
    }
  }

  [[noreturn]] void refuse(unsigned char op) {
    if (op == 'i' && bytes_.find('\n', at_) != std::string_view::npos) {  // INST: a name, and a call of it
      const std::string module(line());
      const std::size_t end = std::min(bytes_.find('\n', at_), bytes_.size());
      fail("names '" + printable(module + "." + std::string(bytes_.substr(at_, end - at_))) +
           "', which is none of those that tensors are saved with");
    }
    constexpr const char* kDigits = "0123456789abcdef";
    const std::string code = {'0', 'x', kDigits[op >> 4], kDigits[op & 15]};
    fail("holds operation " + code + (op > ' ' && op < 0x7f ? std::string(" ('") + static_cast<char>(op) + "')" : "") +
         ", which tensors are not saved with");
  }

  const std::string& path_;
  std::uint64_t offset_;
  std::string_view bytes_;
  bool any_name_;
  std::uint64_t at_ = 0, op_at_ = 0;
  std::size_t references_ = 0;
  bool stopped_ = false;
  Pickle pickle_;
  std::vector<Node*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, Node*> memo_;
};

}  // namespace

Pickle unpickle(const std::string& path, std::uint64_t offset, std::string_view bytes, Names names) {
  return Machine(path, offset, bytes, names).run();
}

}  // namespace ropewalk::formats::torch
