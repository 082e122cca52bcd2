#!/usr/bin/env python3
"""Shows that the simulation bites: the engine is broken in one place at a time, and a checker must notice.

    tests/sim/broken.py [NAME...]      needs a release build; everything happens in build/release/broken

Each variant is a replacement in one source file, which must fit exactly once, so that it does not go stale unnoticed.
"""
import json
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/release"
SEEDS = 150

# name: file, what stands there, what shall, what the checkers say
VARIANTS = {
    "a stamp that does not hold is ignored": ("daemon/engine/memory_cache.cpp", "if (!fence.holds(key, stamp)) return false;", "(void)stamp;", "5.3"),
    "a flight is not overtaken": ("daemon/engine/shared_state.cpp", "    flights.overtake(key);\n", "", "5.3"),
    "flights of a pattern are not overtaken": ("daemon/engine/shared_state.cpp", "  flights.overtake_if([&]", "  if (glob.empty()) flights.overtake_if([&]", "5.3"),
    "a tag moves no fence": ("daemon/engine/shared_state.cpp", "  fence.move_tag(tag);\n", "", "5.3"),
    "what was changed in the store stays in L1": ("daemon/engine/shared_state.cpp", "  fence.move(key);\n  l1.erase(key);\n", "  (void)key;\n", "5.3"),
    "a lost backplane changes nothing": ("daemon/engine/shared_state.cpp", "  l1_trusted.store(false, std::memory_order_release);\n  everything_changed_in_store();\n", "", "5.3"),
    "doubtful values are shared": ("daemon/engine/cache.cpp", "result->doubtful && result->load_began <= came", "false", "5.3"),
    "who comes late joins what is over": ("daemon/engine/cache_fill.cpp", "    if (next == action::store || next == action::release) shared_.flights.leave(f);\n", "", "5."),
    "an invalidation keeps the copy in L1": ("daemon/engine/shared_state.cpp", "    held += l1.erase(key) ? 1 : 0;\n", "", "5.3"),
    "flights are not joined": ("daemon/engine/flight.cpp", "const bool starter = !slot || slot->overtaken();", "const bool starter = true;", "5.2"),
    "a busy lock is taken for won": ("daemon/engine/cache_fill.cpp", "case l2_store::lock_state::busy: {", "case l2_store::lock_state::busy: co_return round.way.on_lock_won(life, now); {", "5.2"),
    "the lock is not renewed": ("daemon/engine/cache_fill.cpp", "    co_await store_->renew(key, token);\n", "", "5.2"),
    "a store that is away is an error": ("daemon/engine/cache_fill.cpp", "  round.result.store_down = true;\n", "  round.result.error = load_error::failed(\"broken\");\n  co_return action::finish;\n", "5.1"),
    "a write leaves the old value cached": ("daemon/engine/cache_write.cpp", "  const auto removed = co_await invalidate_record(to.key, variants);\n  out.unconfirmed = !removed;\n", "  (void)variants;\n", "5.3"),
    "write-through stores whatever came in between": ("daemon/engine/cache_write.cpp", "      kept = filled == core::fill_outcome::stored;\n", "      kept = filled == core::fill_outcome::stored || co_await store_->put(item_of(to), made.value, now);\n", "5.3"),
    "an applied write leaves the old value cached": ("daemon/engine/cache_write.cpp", "  const bool removed = co_await forget(w);\n", "  const bool removed = true;\n", "5.3"),
    "a write that failed is forgotten": ("daemon/engine/write_behind.cpp", "if (got.what == result::done) {", "if (got.what != result::refused) {", "5.8"),
    "what the origin refuses is tried for ever": ("daemon/engine/write_behind.cpp", "got.what == result::refused || (known", "(known", "5.8"),
    "what fails once is dead": ("daemon/engine/write_behind.cpp", "(known.failures >= failures_max && !got.may_go_on)", "(known.failures >= 1 && !got.may_go_on)", "dead letters, although"),
    "later writes of a key do not wait": ("daemon/engine/write_behind.cpp", "if (!settled) break;", "", "was applied after"),
    "what the origin is still at is overtaken": ("daemon/engine/write_behind.cpp", "  if (may_go_on) known.until = std::max(known.until, over);\n", "", "was applied after"),
    "the journal is worked off by all": ("daemon/engine/write_behind.cpp", "mine = co_await hold_lease(*journal, lease_of(*c));", "mine = true, valid_until_ = home_.time->now() + lease_of(*c);", "at the same time"),
    "all warm at once": ("daemon/engine/warmup.cpp", "mine = taken != answer::no;", "mine = true;", "at the same time"),
    "a Redis with older data is not told again": ("daemon/engine/recent_invalidations.cpp", "  if (!same) {\n", "  if (!same && false) {\n", "5.3"),
    "a write through is not remembered": ("daemon/engine/cache_write.cpp", "  if (kept) remember(", "  if (false) remember(", "5.3"),
    "a PUT leaves alone what is under way": ("daemon/engine/cache.cpp", "  if (!copied) shared_.forget(keys);\n", "", "5.3"),
    "mget keeps what it saw before an invalidation": ("daemon/engine/cache.cpp", "stored ? stored->stamp : shared_.fence", "shared_.fence", "5.3"),
    "a flight stays in the table": ("daemon/engine/flight.cpp", "found->second == done) s.flights.erase(found);", "found->second == done && false) s.flights.erase(found);", "5.1"),
}


def run(words, **more):
    return subprocess.run(words, capture_output=True, text=True, **more)


def compile_words(file):
    entry = next(e for e in json.loads((BUILD / "compile_commands.json").read_text()) if e["file"] == str(ROOT / file) and "asidecar_engine.dir" in e["command"])
    return shlex.split(entry["command"])


def build(name, file, old, new):
    directory = BUILD / "broken" / "".join(c if c.isalnum() else "_" for c in name)
    directory.mkdir(parents=True, exist_ok=True)
    text = (ROOT / file).read_text()
    assert text.count(old) == 1, f"{name}: {old!r} stands {text.count(old)} times in {file}"
    source = directory / pathlib.Path(file).name
    source.write_text(text.replace(old, new))
    words = compile_words(file)
    output = directory / "broken.o"
    words[words.index("-o") + 1] = str(output)
    words[words.index("-c") + 1] = str(source)
    words = [w for w in words if w != "-Werror"]
    done = run(words, cwd=BUILD)
    assert done.returncode == 0, done.stderr
    link = next(line for line in (BUILD / "build.ninja").read_text().split("\nbuild ") if line.startswith("tests/sim:"))
    objects = [w for w in link.split("\n")[0].split() if w.endswith(".cpp.o")]
    libraries = next(line for line in link.split("\n") if "LINK_LIBRARIES" in line).split("=", 1)[1].split()
    program = directory / "sim"
    done = run(["c++", "-o", program, *objects, output, *libraries], cwd=BUILD)
    assert done.returncode == 0, done.stderr
    return program


def main():
    wanted = sys.argv[1:] or list(VARIANTS)
    missed = 0
    for name in wanted:
        file, old, new, expected = VARIANTS[name]
        program = build(name, file, old, new)
        try:
            said = run([program, "--seeds", str(SEEDS)], timeout=300).stdout.strip().split("\n")[0]
        except subprocess.TimeoutExpired:
            said = "it never ends"
        caught = expected in said
        missed += not caught
        print(f"{'caught' if caught else 'MISSED'}: {name}: {said}", flush=True)
    print(f"{len(wanted) - missed} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
