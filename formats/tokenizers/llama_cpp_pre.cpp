#include "formats/tokenizers/llama_cpp_pre.h"

#include <algorithm>
#include <array>

namespace ropewalk::formats {
namespace {

using enum LlamaCppStep::Kind;

// clang-format off
#define ROPEWALK_ENDINGS R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]))"
#define ROPEWALK_SPACES R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
// clang-format on

constexpr LlamaCppStep kGpt2Words = {classes,
                                     R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"};
constexpr LlamaCppStep kQwen2Words = {
    classes, ROPEWALK_ENDINGS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" ROPEWALK_SPACES};
constexpr LlamaCppStep kOneNumber = {classes, R"(\p{N})"};
constexpr LlamaCppStep kThreeNumbers = {classes, R"(\p{N}{1,3})"};
constexpr LlamaCppStep kLines = {characters, R"([^\n]+|\n+)"};
constexpr LlamaCppStep kJapanese = {characters, R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)"};
// From U+0800 on, less white space.
constexpr LlamaCppStep kDeepseekCjk = {
    characters,
    R"([\x{0800}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{9FA5})"
    R"(\x{AC00}-\x{D7FF}]+)"};
constexpr LlamaCppStep kLineBreak = {classes, R"([\r\n])"};
constexpr LlamaCppStep kPhrase = {characters,
                                  R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{0964}\x{06D4}\x{060C})]+)"};
constexpr LlamaCppStep kAsciiPunctuated = {
    classes,
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)" ROPEWALK_SPACES};

constexpr std::array kGpt2 = {kGpt2Words};
constexpr std::array kDefault = {LlamaCppStep{classes, R"([\p{P}$+<=>^~|]+)"}, kGpt2Words,
                                 LlamaCppStep{classes, R"(\p{N}+)"}, LlamaCppStep{classes, "[0-9][0-9][0-9]"}};
constexpr std::array kLlama3 = {LlamaCppStep{
    classes, ROPEWALK_ENDINGS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" ROPEWALK_SPACES}};
constexpr std::array kJais2 = {LlamaCppStep{
    classes, ROPEWALK_ENDINGS
    R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S))"
    R"(|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s)"}};
constexpr std::array kDeepseekLlm = {
    kLineBreak,
    LlamaCppStep{
        characters,
        R"(\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373})"
        R"(\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F})"
        R"(\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B})"
        R"(\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59})"
        R"(\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3})"
        R"(\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D})"
        R"(\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184})"
        R"(\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F})"
        R"(\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A})"
        R"(\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+)"},
    LlamaCppStep{characters, R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3001}\x{3002}]+)"},
    LlamaCppStep{classes, R"((?<!\s)\s+\z)"},
    kDeepseekCjk,
    LlamaCppStep{classes, R"(\p{N}+)"}};
constexpr std::array kDeepseekCoder = {kLineBreak, LlamaCppStep{classes, R"(\s?\p{L}+)"},
                                       LlamaCppStep{classes, R"(\s?\p{P}+)"}, kDeepseekCjk, kOneNumber};
constexpr std::array kDeepseek3 = {kThreeNumbers, kJapanese, kAsciiPunctuated};
constexpr std::array kSpark = {
    kThreeNumbers, kJapanese,
    LlamaCppStep{
        classes,
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n])"
        R"(|\s+(?!\S)|\s+)"},
    kOneNumber};
constexpr std::array kYoutu = {
    LlamaCppStep{
        characters,
        R"([\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+)"
        R"(|[\x{3105}-\x{312F}]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)"},
    LlamaCppStep{classes, R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+)" ROPEWALK_ENDINGS
                          R"(?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" ROPEWALK_SPACES}};
constexpr std::array kFalcon = {LlamaCppStep{classes, R"([\p{P}$+<=>^~|`]+)"}, kGpt2Words,
                                LlamaCppStep{classes, "[0-9][0-9][0-9]"}};
constexpr std::array kStarcoder = {kOneNumber, kGpt2Words};
constexpr std::array kQwen2 = {kQwen2Words};
constexpr std::array kQwen35 = {
    LlamaCppStep{classes, ROPEWALK_ENDINGS
                 R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" ROPEWALK_SPACES}};
constexpr std::array kPoro = {kPhrase};
constexpr std::array kViking = {kPhrase, kOneNumber};
constexpr std::array kTekken = {LlamaCppStep{
    classes,
    R"([^\r\n\p{L}\p{N}]?[\x{D2}A-Z]*[\x{D2}a-z]+|[^\r\n\p{L}\p{N}]?[\x{D2}A-Z]+[\x{D2}a-z]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" ROPEWALK_SPACES,
    true}};
constexpr std::array kChameleon = {
    LlamaCppStep{classes, "<sentinel:[0-9]+>"},       LlamaCppStep{classes, "IMGIMG[A-I]{1,4}Z"},
    LlamaCppStep{classes, R"([\t\n]|    |  )"},       kOneNumber,
    LlamaCppStep{classes, R"([\p{P}!-/:-@\[-`{-~])"}, kGpt2Words};
constexpr std::array kGpt4o = {LlamaCppStep{classes,
                                            R"([^\r\n\p{L}\p{N}]?[\x{D2}A-Z]*[\x{D2}a-z]+)" ROPEWALK_ENDINGS
                                            R"(?|[^\r\n\p{L}\p{N}]?[\x{D2}A-Z]+[\x{D2}a-z]*)" ROPEWALK_ENDINGS
                                            R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" ROPEWALK_SPACES,
                                            true}};
constexpr std::array kGraniteMulti = {
    LlamaCppStep{classes,
                 R"([^\r\n\p{L}\p{N}]?[\x{D2}\x{D4}A-Z]*[\x{D2}\x{D4}a-z]+)" ROPEWALK_ENDINGS
                 R"(?|[^\r\n\p{L}\p{N}]?[\x{D2}\x{D4}A-Z]+[\x{D2}\x{D4}a-z]*)" ROPEWALK_ENDINGS
                 R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" ROPEWALK_SPACES,
                 true}};
constexpr std::array kTinyAya = {LlamaCppStep{digit_groups},
                                 LlamaCppStep{classes, R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+)" ROPEWALK_ENDINGS
                                                       R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" ROPEWALK_SPACES}};
constexpr std::array kKimi = {LlamaCppStep{classes_and_han,
                                           R"([\x{D6}\x{D7}]+|[^\r\n\p{L}\p{N}\x{D6}]?\p{L}+)" ROPEWALK_ENDINGS
                                           R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}\x{D6}]+[\r\n]*|)" ROPEWALK_SPACES}};
constexpr std::array kSuperBpe = {LlamaCppStep{classes, R"(\p{N}+)"}, LlamaCppStep{thousands}};
constexpr std::array kBailing = {LlamaCppStep{
    classes, R"('(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
             R"(|\s*[\r\n]|\s+(?!\S)|\s+)"}};
constexpr std::array kSeedCoder = {LlamaCppStep{
    classes, ROPEWALK_ENDINGS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|)" ROPEWALK_SPACES}};
constexpr std::array kUfakzeka = {
    LlamaCppStep{classes, R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" ROPEWALK_SPACES}};
constexpr std::array kAfmoe = {
    LlamaCppStep{digit_groups},
    LlamaCppStep{
        characters,
        R"([\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{8C48}-\x{FAFF}\x{3040}-\x{309F}\x{30A0}-\x{30FF}\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF})"
        R"(\x{0E40}-\x{0E7F}\x{0E80}-\x{0EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+)"},
    kAsciiPunctuated};
constexpr std::array kLaguna = {kLines, kQwen2Words};
constexpr std::array kExaoneMoe = {LlamaCppStep{
    classes, ROPEWALK_ENDINGS
    R"(|[^\r\n\p{L}\p{N}]?\p{L}[\p{L}\p{M}]*+(?: \p{L}[\p{L}\p{M}]*+)*+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"}};
constexpr std::array kNewlines = {kLines};
constexpr std::array kMiniCpm5 = {
    kThreeNumbers, LlamaCppStep{classes, ROPEWALK_ENDINGS
                                R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|)" ROPEWALK_SPACES}};

#undef ROPEWALK_ENDINGS
#undef ROPEWALK_SPACES

constexpr std::array kPres = {
    LlamaCppPre{.name = "a.x-4.0", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "afmoe", .steps = kAfmoe},
    LlamaCppPre{.name = "bailingmoe", .steps = kBailing},
    LlamaCppPre{.name = "bailingmoe2", .steps = kBailing},
    LlamaCppPre{.name = "bloom", .steps = kPoro, .clean_spaces = true},
    LlamaCppPre{.name = "chameleon", .steps = kChameleon, .add_bos = true},
    LlamaCppPre{.name = "chatglm-bpe", .steps = kLlama3, .clean_spaces = true, .has_default_bos = false},
    LlamaCppPre{.name = "codeshell", .steps = kStarcoder, .clean_spaces = true},
    LlamaCppPre{.name = "cohere2moe", .steps = kTinyAya},
    LlamaCppPre{.name = "command-r", .steps = kStarcoder},
    LlamaCppPre{.name = "dbrx", .steps = kLlama3, .clean_spaces = true},
    LlamaCppPre{.name = "deepseek-coder", .steps = kDeepseekCoder},
    LlamaCppPre{.name = "deepseek-llm", .steps = kDeepseekLlm},
    LlamaCppPre{.name = "deepseek-r1-qwen", .steps = kQwen2},
    LlamaCppPre{.name = "deepseek-v3", .steps = kDeepseek3},
    LlamaCppPre{.name = "default", .steps = kDefault, .clean_spaces = true},
    LlamaCppPre{.name = "exaone", .steps = kStarcoder, .clean_spaces = true},
    LlamaCppPre{.name = "exaone-moe", .steps = kExaoneMoe, .clean_spaces = true},
    LlamaCppPre{.name = "exaone4", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "f2llmv2", .steps = kQwen2},
    LlamaCppPre{.name = "falcon", .steps = kFalcon, .clean_spaces = true},
    LlamaCppPre{.name = "falcon-h1", .steps = kLlama3, .ignore_merges = true, .add_bos = true, .clean_spaces = true},
    LlamaCppPre{.name = "falcon3", .steps = kLlama3, .ignore_merges = true, .add_bos = true, .clean_spaces = true},
    LlamaCppPre{.name = "gemma4",
                .steps = kNewlines,
                .add_bos = true,
                .clean_spaces = true,
                .newlines_whole = true,
                .spelled_characters = true},
    LlamaCppPre{.name = "gigachat", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{
        .name = "glm4", .steps = kLlama3, .ignore_merges = true, .clean_spaces = true, .has_default_bos = false},
    LlamaCppPre{
        .name = "glm5", .steps = kLlama3, .ignore_merges = true, .clean_spaces = true, .has_default_bos = false},
    LlamaCppPre{.name = "gpt-2", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "gpt-4o", .steps = kGpt4o},
    LlamaCppPre{.name = "gpt3-finnish", .steps = kPoro, .clean_spaces = true},
    LlamaCppPre{.name = "granite-docling", .steps = kGpt2},
    LlamaCppPre{.name = "granite-embed-multi-311m",
                .steps = kNewlines,
                .add_bos = true,
                .clean_spaces = true,
                .newlines_whole = true,
                .spelled_characters = true},
    LlamaCppPre{.name = "granite-embed-multi-97m", .steps = kGraniteMulti, .ignore_merges = true},
    LlamaCppPre{.name = "grok-2", .steps = kQwen2},
    LlamaCppPre{.name = "hunyuan", .steps = kQwen2},
    LlamaCppPre{.name = "hunyuan-dense", .steps = kDeepseek3},
    LlamaCppPre{.name = "hy_v4", .steps = kDeepseek3},
    LlamaCppPre{.name = "jais", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "jais-2", .steps = kJais2, .clean_spaces = true},
    LlamaCppPre{.name = "jina-de", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "jina-es", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "jina-v1-en", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "jina-v2-code", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "jina-v2-de", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "jina-v2-es", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "jina-v5-nano", .steps = kLlama3, .ignore_merges = true, .add_bos = true, .clean_spaces = true},
    LlamaCppPre{.name = "joyai-llm", .steps = kDeepseek3},
    LlamaCppPre{.name = "kanana2", .steps = kGpt4o},
    LlamaCppPre{.name = "kimi-k2", .steps = kKimi},
    LlamaCppPre{.name = "kormo", .steps = kQwen2},
    LlamaCppPre{.name = "laguna", .steps = kLaguna},
    LlamaCppPre{.name = "lfm2", .steps = kLlama3, .ignore_merges = true, .add_bos = true, .clean_spaces = true},
    LlamaCppPre{.name = "llada-moe", .steps = kBailing},
    LlamaCppPre{.name = "llama-bpe", .steps = kLlama3, .ignore_merges = true, .add_bos = true, .clean_spaces = true},
    LlamaCppPre{.name = "llama-v3", .steps = kLlama3, .ignore_merges = true, .add_bos = true, .clean_spaces = true},
    LlamaCppPre{.name = "llama3", .steps = kLlama3, .ignore_merges = true, .add_bos = true, .clean_spaces = true},
    LlamaCppPre{.name = "llama4", .steps = kGpt4o},
    LlamaCppPre{.name = "megrez", .steps = kQwen2, .clean_spaces = true},
    LlamaCppPre{.name = "mellum", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "mellum2", .steps = kStarcoder, .clean_spaces = true},
    LlamaCppPre{.name = "midm-2.0", .steps = kLlama3, .ignore_merges = true, .add_bos = true, .clean_spaces = true},
    LlamaCppPre{.name = "minerva-7b", .steps = kStarcoder, .clean_spaces = true},
    LlamaCppPre{.name = "minicpm5", .steps = kMiniCpm5, .ignore_merges = true, .clean_spaces = true},
    LlamaCppPre{.name = "minimax-m2", .steps = kGpt4o},
    LlamaCppPre{.name = "modern-bert", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "mpt", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "olmo", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "phi-2", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "pixtral", .steps = kLlama3, .ignore_merges = true, .add_bos = true, .clean_spaces = true},
    LlamaCppPre{.name = "poro-chat", .steps = kPoro},
    LlamaCppPre{.name = "qwen2", .steps = kQwen2},
    LlamaCppPre{.name = "qwen35", .steps = kQwen35},
    LlamaCppPre{.name = "refact", .steps = kStarcoder, .clean_spaces = true},
    LlamaCppPre{.name = "roberta-bpe", .steps = kGpt2, .clean_spaces = true},
    LlamaCppPre{.name = "sarvam-moe", .steps = kNewlines, .spelled_characters = true},
    LlamaCppPre{.name = "seed-coder", .steps = kSeedCoder},
    LlamaCppPre{.name = "smaug-bpe", .steps = kLlama3, .clean_spaces = true},
    LlamaCppPre{.name = "smollm", .steps = kStarcoder},
    LlamaCppPre{.name = "solar-open", .steps = kQwen2},
    LlamaCppPre{.name = "spark2_5", .steps = kSpark},
    LlamaCppPre{.name = "stablelm2", .steps = kQwen2, .clean_spaces = true},
    LlamaCppPre{.name = "starcoder", .steps = kStarcoder, .clean_spaces = true},
    LlamaCppPre{.name = "superbpe", .steps = kSuperBpe},
    LlamaCppPre{.name = "talkie", .steps = kGpt4o},
    LlamaCppPre{.name = "tekken", .steps = kTekken, .ignore_merges = true, .add_bos = true},
    LlamaCppPre{.name = "tiny_aya", .steps = kTinyAya},
    LlamaCppPre{.name = "trillion", .steps = kGpt2},
    LlamaCppPre{.name = "ufakzeka", .steps = kUfakzeka},
    LlamaCppPre{.name = "viking", .steps = kViking},
    LlamaCppPre{.name = "youtu", .steps = kYoutu, .ignore_merges = true},
};

}  // namespace

const LlamaCppPre* find_llama_cpp_pre(std::string_view name) {
  if (name.empty()) name = "default";
  const auto found = std::find_if(kPres.begin(), kPres.end(), [&](const LlamaCppPre& pre) { return pre.name == name; });
  return found == kPres.end() ? nullptr : &*found;
}

std::span<const LlamaCppPre> llama_cpp_pres() { return kPres; }

bool same_words(const LlamaCppPre& a, const LlamaCppPre& b) {
  return std::equal(a.steps.begin(), a.steps.end(), b.steps.begin(), b.steps.end()) &&
         a.ignore_merges == b.ignore_merges && a.newlines_whole == b.newlines_whole &&
         a.spelled_characters == b.spelled_characters;
}

bool ascii_case(const LlamaCppPre& pre) {
  return std::any_of(pre.steps.begin(), pre.steps.end(), [](const LlamaCppStep& step) { return step.ascii_case; });
}

}  // namespace ropewalk::formats
