// Names of everything the daemon keeps in Redis. Values live at <prefix><key>; what the daemon keeps for itself lives
// under "asidecar:", and no value may be named into that namespace. Pure; any thread.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace asidecar::proto {

inline constexpr std::size_t key_bytes_max = 1024;  // of a key, percent-decoded

inline constexpr std::string_view internal_namespace = "asidecar:";

// True when <prefix><key> would fall into the daemon's own namespace; such a key is refused.
bool names_internal(std::string_view value_name) noexcept;

// The fill lock of the value at `value_name`, and the channel on which its release is announced. Its hash tag makes it share
// the value's Cluster slot.
std::string lock_name(std::string_view value_name);
inline constexpr std::string_view all_locks = "asidecar:lock:{*";  // a glob
// Of which values `lock` may be the lock: the name can be read in two ways.
std::array<std::string_view, 2> names_of_lock(std::string_view lock) noexcept;

// Where the version of a tag is kept. `prefix` is that of the values: instances that share values share tags.
std::string tag_name(std::string_view prefix, std::string_view tag);

// The journal of write-behind, its dead letters, and the lease of who applies it.
std::string journal_name(std::string_view prefix);
std::string dead_letters_name(std::string_view prefix);
std::string journal_lease_name(std::string_view prefix);
std::string journal_bytes_name(std::string_view prefix);  // a hash: what the journal and the dead letters take

// The lease of who runs a warm-up.
std::string warm_lease_name(std::string_view prefix, std::string_view warm);

// `text` as a glob that matches exactly itself: escapes * ? [ ] \ .
std::string glob_escape(std::string_view text);

}  // namespace asidecar::proto
