// libpq, loaded when it is first needed: with what it needs itself (GnuTLS, Kerberos, LDAP) it takes 3 MiB, which a daemon
// without a PostgreSQL origin need not pay. Its functions are declared by <libpq-fe.h> as ever.
#pragma once

#include <string>

namespace asidecar::config {

// Empty when libpq is there; otherwise why not. Nothing of libpq may be called before. Any thread.
std::string load_libpq();

}  // namespace asidecar::config
