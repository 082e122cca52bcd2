// How many CPUs this process may use.
#pragma once

namespace asidecar::runtime {

// The smaller of the scheduler affinity and the cgroup's CPU quota (v2 cpu.max, v1 cfs_quota), rounded up; at least 1.
unsigned usable_cpus();

}  // namespace asidecar::runtime
