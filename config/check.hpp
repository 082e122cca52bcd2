// Checks that need more than one option: what refers to what, and whether a route can work at all.
#pragma once

#include "config/findings.hpp"
#include "config/settings.hpp"

namespace asidecar::config {

// Adds an error for each fault. Options that `found` holds as broken are left out, so no fault is reported
// twice.
void check_settings(const settings& s, findings& found);

}  // namespace asidecar::config
