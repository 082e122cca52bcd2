#include "config/libpq.hpp"

#include <dlfcn.h>
#include <libpq-fe.h>

#include <atomic>
#include <stdexcept>

namespace asidecar::config {
namespace {

std::atomic<void*> library = nullptr;  // for as long as the process lives

template <class Function>
Function find(const char* name) {
  void* const loaded = library.load(std::memory_order_acquire);
  void* const at = loaded != nullptr ? ::dlsym(loaded, name) : nullptr;
  if (at == nullptr) throw std::runtime_error(std::string("libpq has no ") + name);
  return reinterpret_cast<Function>(at);
}

}  // namespace

// One that failed is tried again: libpq may have been installed since.
std::string load_libpq() {
  if (library.load(std::memory_order_acquire) != nullptr) return {};
  void* const loaded = ::dlopen("libpq.so.5", RTLD_LAZY | RTLD_LOCAL);
  if (loaded == nullptr) {
    const char* const why = ::dlerror();
    return why != nullptr ? why : "it cannot be loaded";
  }
  if (::dlsym(loaded, "PQenterPipelineMode") == nullptr) return "libpq.so.5 is older than PostgreSQL 14";
  library.store(loaded, std::memory_order_release);
  return {};
}

}  // namespace asidecar::config

// What the daemon calls of libpq, under libpq's names; <libpq-fe.h> sees to it that the types are the same.
#define ASIDECAR_LIBPQ(RESULT, NAME, PARAMETERS, ARGUMENTS)                                \
  RESULT NAME PARAMETERS {                                                                 \
    static const auto function = asidecar::config::find<decltype(&NAME)>(#NAME);          \
    return function ARGUMENTS;                                                             \
  }

extern "C" {

ASIDECAR_LIBPQ(int, PQcancel, (PGcancel * cancel, char* error, int size), (cancel, error, size))
ASIDECAR_LIBPQ(void, PQclear, (PGresult * r), (r))
ASIDECAR_LIBPQ(char*, PQcmdTuples, (PGresult * r), (r))
ASIDECAR_LIBPQ(PostgresPollingStatusType, PQconnectPoll, (PGconn * c), (c))
ASIDECAR_LIBPQ(PGconn*, PQconnectStartParams, (const char* const* names, const char* const* values, int expand), (names, values, expand))
ASIDECAR_LIBPQ(void, PQconninfoFree, (PQconninfoOption * options), (options))
ASIDECAR_LIBPQ(PQconninfoOption*, PQconninfoParse, (const char* text, char** error), (text, error))
ASIDECAR_LIBPQ(int, PQconsumeInput, (PGconn * c), (c))
ASIDECAR_LIBPQ(int, PQenterPipelineMode, (PGconn * c), (c))
ASIDECAR_LIBPQ(char*, PQerrorMessage, (const PGconn* c), (c))
ASIDECAR_LIBPQ(void, PQfinish, (PGconn * c), (c))
ASIDECAR_LIBPQ(int, PQflush, (PGconn * c), (c))
ASIDECAR_LIBPQ(void, PQfreeCancel, (PGcancel * cancel), (cancel))
ASIDECAR_LIBPQ(void, PQfreemem, (void* p), (p))
ASIDECAR_LIBPQ(PGcancel*, PQgetCancel, (PGconn * c), (c))
ASIDECAR_LIBPQ(PGresult*, PQgetResult, (PGconn * c), (c))
ASIDECAR_LIBPQ(int, PQgetisnull, (const PGresult* r, int row, int column), (r, row, column))
ASIDECAR_LIBPQ(int, PQgetlength, (const PGresult* r, int row, int column), (r, row, column))
ASIDECAR_LIBPQ(char*, PQgetvalue, (const PGresult* r, int row, int column), (r, row, column))
ASIDECAR_LIBPQ(int, PQisBusy, (PGconn * c), (c))
ASIDECAR_LIBPQ(int, PQnfields, (const PGresult* r), (r))
ASIDECAR_LIBPQ(int, PQntuples, (const PGresult* r), (r))
ASIDECAR_LIBPQ(int, PQpipelineSync, (PGconn * c), (c))
ASIDECAR_LIBPQ(char*, PQresultErrorField, (const PGresult* r, int field), (r, field))
ASIDECAR_LIBPQ(char*, PQresultErrorMessage, (const PGresult* r), (r))
ASIDECAR_LIBPQ(ExecStatusType, PQresultStatus, (const PGresult* r), (r))
ASIDECAR_LIBPQ(int, PQsendPrepare, (PGconn * c, const char* name, const char* query, int params, const Oid* types), (c, name, query, params, types))
ASIDECAR_LIBPQ(int, PQsendQueryParams,
               (PGconn * c, const char* query, int params, const Oid* types, const char* const* values, const int* lengths, const int* formats, int format),
               (c, query, params, types, values, lengths, formats, format))
ASIDECAR_LIBPQ(int, PQsendQueryPrepared,
               (PGconn * c, const char* name, int params, const char* const* values, const int* lengths, const int* formats, int format),
               (c, name, params, values, lengths, formats, format))
ASIDECAR_LIBPQ(PQnoticeProcessor, PQsetNoticeProcessor, (PGconn * c, PQnoticeProcessor to, void* with), (c, to, with))
ASIDECAR_LIBPQ(int, PQsetnonblocking, (PGconn * c, int on), (c, on))
ASIDECAR_LIBPQ(int, PQsocket, (const PGconn* c), (c))
ASIDECAR_LIBPQ(ConnStatusType, PQstatus, (const PGconn* c), (c))

}  // extern "C"
