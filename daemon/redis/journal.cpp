#include "daemon/redis/journal.hpp"

#include "daemon/redis/lease.hpp"
#include "proto/redis_keys.hpp"
#include "proto/text.hpp"

namespace asidecar::redis {
namespace {

using engine::answer;
using engine::journaled_write;

constexpr std::string_view entries_max = "100000";  // of the journal and the dead letters together; beyond, writes are refused

// Beside the streams a hash counts their bytes: what entries of ours hold. People also delete entries, so a count is put right when
// its stream is empty.
// KEYS: stream, dead letters, bytes. ARGV: most entries, most bytes, bytes of this one, then fields and values.
constexpr std::string_view append_script =
    "local live=redis.call('XLEN',KEYS[1]) local dead=redis.call('XLEN',KEYS[2]) "
    "if live==0 then redis.call('HDEL',KEYS[3],'live') end if dead==0 then redis.call('HDEL',KEYS[3],'dead') end "
    "local held=math.max(0,redis.call('HGET',KEYS[3],'live') or 0)+(redis.call('HGET',KEYS[3],'dead') or 0) "
    "if live+dead>=tonumber(ARGV[1]) or held+ARGV[3]>tonumber(ARGV[2]) then return '' end "
    "redis.call('HINCRBY',KEYS[3],'live',ARGV[3]) "
    "return redis.call('XADD',KEYS[1],'*',unpack(ARGV,4))";
// KEYS: lease, stream, bytes. ARGV: token, id, bytes.
constexpr std::string_view done_script =
    "if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end "
    "if redis.call('XDEL',KEYS[2],ARGV[2])==1 then redis.call('HINCRBY',KEYS[3],'live',-ARGV[3]) end return 1";
// KEYS: lease, stream, dead letters, bytes. ARGV: token, id, bytes, then fields and values.
constexpr std::string_view bury_script =
    "if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end "
    "if #redis.call('XRANGE',KEYS[2],ARGV[2],ARGV[2])==1 then redis.call('XADD',KEYS[3],'*',unpack(ARGV,4)) redis.call('XDEL',KEYS[2],ARGV[2]) "
    "redis.call('HINCRBY',KEYS[4],'live',-ARGV[3]) redis.call('HINCRBY',KEYS[4],'dead',ARGV[3]) end return 1";
constexpr std::size_t bytes_of_an_entry = 64;  // about what a stream needs beside its fields
// A parameter's field is its name behind one of these.
constexpr std::string_view text_param = "p:";
constexpr std::string_view null_param = "n:";

std::vector<std::string> fields_of(const journaled_write& w) {
  std::vector<std::string> out{"route", w.route, "op", w.removes ? "delete" : "put", "key", w.key, "type", w.content_type, "body", w.body};
  for (const auto& [name, value] : w.params) {
    out.push_back(std::string(value ? text_param : null_param).append(name));
    out.push_back(value.value_or(std::string()));
  }
  return out;
}

std::string bytes_of(const std::vector<std::string>& fields) {
  std::size_t total = bytes_of_an_entry;
  for (const auto& f : fields) total += f.size();
  return std::to_string(total);
}

// Where a range begins that is to leave `id` out. Also for servers without exclusive ranges.
std::string behind(const std::string& id) {
  if (id.empty()) return "-";
  const auto dash = id.find('-');
  return id.substr(0, dash + 1) + std::to_string(proto::parse_decimal(std::string_view(id).substr(dash + 1)).value_or(0) + 1);
}

journaled_write entry_of(const proto::resp_value& reply) {
  journaled_write out;
  if (reply.elements.size() != 2) return out;
  out.id = reply.elements[0].text;
  const auto& fields = reply.elements[1].elements;
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const std::string_view name = fields[i].text;
    const auto& value = fields[i + 1].text;
    if (name == "route") out.route = value;
    else if (name == "op") out.removes = value == "delete";
    else if (name == "key") out.key = value;
    else if (name == "type") out.content_type = value;
    else if (name == "body") out.body = value;
    else if (name.starts_with(text_param)) out.params.emplace_back(name.substr(text_param.size()), value);
    else if (name.starts_with(null_param)) out.params.emplace_back(name.substr(null_param.size()), std::nullopt);
  }
  return out;
}

// What INFO says of `name`; empty when it does not.
std::string_view info_field(std::string_view info, std::string_view name) {
  while (!info.empty()) {
    auto line = info.substr(0, info.find('\n'));
    info.remove_prefix(std::min(info.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':') return line.substr(name.size() + 1);
  }
  return {};
}

class journal final : public engine::write_journal {
 public:
  journal(std::shared_ptr<connection> c, const std::string& prefix, std::uint64_t bytes_max)
      : connection_(std::move(c)), bytes_max_(bytes_max == 0 ? "1e18" : std::to_string(bytes_max)), stream_(proto::journal_name(prefix)), dead_(proto::dead_letters_name(prefix)), bytes_(proto::journal_bytes_name(prefix)), lease_(connection_, proto::journal_lease_name(prefix)) {}

  task<appended> append(const journaled_write& w) override {
    auto fields = fields_of(w);
    auto words = words_of("EVAL", append_script, "3", stream_, dead_, bytes_, entries_max, bytes_max_, bytes_of(fields));
    for (auto& field : fields) words.push_back(std::move(field));
    const auto done = co_await connection_->run(std::move(words));
    appended out;
    if (!done || done->type != proto::resp_value::kind::bulk) co_return out;
    out.state = done->text.empty() ? append_state::full : append_state::appended;
    out.id = done->text;
    co_return out;
  }

  task<std::optional<std::vector<journaled_write>>> oldest(std::size_t most, std::string after) override {
    const auto got = co_await connection_->run(words_of("XRANGE", stream_, behind(after), "+", "COUNT", std::to_string(most)));
    if (!got || got->type != proto::resp_value::kind::array) co_return std::nullopt;
    std::vector<journaled_write> out;
    for (const auto& entry : got->elements) out.push_back(entry_of(entry));
    co_return out;
  }

  task<std::optional<std::uint64_t>> length() override {
    const auto got = co_await connection_->run(words_of("XLEN", stream_));
    if (!got || got->is_error()) co_return std::nullopt;
    co_return static_cast<std::uint64_t>(got->integer);
  }

  task<std::optional<std::string>> risk() override {
    const auto info = co_await connection_->run(words_of("INFO"));
    if (!info) co_return std::nullopt;
    if (info->is_error()) co_return std::string();
    std::string out;
    const auto policy = info_field(info->text, "maxmemory_policy");
    if (info_field(info->text, "maxmemory") != "0" && policy.starts_with("allkeys-"))
      out.append("maxmemory-policy ").append(policy).append(" may evict the journal, use noeviction; ");
    if (info_field(info->text, "aof_enabled") == "0") out.append("appendonly is off, so a crash of Redis takes the writes since its last snapshot; ");
    co_return out.substr(0, out.size() - std::min<std::size_t>(out.size(), 2));
  }

  engine::lease& turn() override { return lease_; }

  task<answer> done(std::string_view token, const journaled_write& w) override {
    co_return answer_of(co_await connection_->run(words_of("EVAL", done_script, "3", lease_.name(), stream_, bytes_, token, w.id, bytes_of(fields_of(w)))));
  }

  task<answer> bury(std::string_view token, const journaled_write& w, std::string_view reason) override {
    auto fields = fields_of(w);
    auto words = words_of("EVAL", bury_script, "4", lease_.name(), stream_, dead_, bytes_, token, w.id, bytes_of(fields), "id", w.id, "reason", reason);
    for (auto& field : fields) words.push_back(std::move(field));
    co_return answer_of(co_await connection_->run(std::move(words)));
  }

 private:
  std::shared_ptr<connection> connection_;
  const std::string bytes_max_;
  const std::string stream_;
  const std::string dead_;
  const std::string bytes_;
  lease lease_;
};

}  // namespace

std::unique_ptr<engine::write_journal> make_journal(std::shared_ptr<connection> c, const std::string& prefix, std::uint64_t bytes_max) {
  return std::make_unique<journal>(std::move(c), prefix, bytes_max);
}

}  // namespace asidecar::redis
