// What PostgreSQL's answers mean, for loads and for writes. Pure; any thread.
#pragma once

#include <string>

#include "daemon/engine/loader.hpp"
#include "daemon/origin/postgres_pool.hpp"

namespace asidecar::origin {

inline constexpr int postgres_tries_max = 3;  // a server that restarts takes its connections away one after the other
// Stands for a text that is too large; no JSON begins with it.
inline constexpr char too_large_mark = '!';

// Not this query's fault: a cancel meant for the one before it, or a prepared statement the server forgot or
// outgrew.
bool worth_another_try(const postgres_answer& a);

// The first row as the value; an error says what of it is the server's fault.
engine::load_outcome translate(postgres_answer answer, const std::string& content_type);

}  // namespace asidecar::origin
