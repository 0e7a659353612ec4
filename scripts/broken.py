"""Breaks one safeguard after the other in a copy of the source; the tests named for it must fail.

A row: name, file, the text as it is, the text that breaks it, the suite, its tests. The text must stand in the file exactly once.
All tests of the table pass in the copy before anything is broken, and a break that does not compile is no proof. The copy stays
in target/broken, so that the next time only what has changed is compiled.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

# Suites: package, and which of its tests.
ID, UNIT = ("manifold-identity", "--test=it"), ("manifold-identity", "--lib")
EDGE, STORIES = ("manifold-edge", "--test=it"), ("manifold-tests", "--test=it")
SRC, DOOR = "crates/identity/src/", "crates/edge/src/"

BREAKS = [
    ("keys of all tenants", SRC + "store/key.rs",
     "WHERE k.tenant_id = $1 AND \",", "WHERE (k.tenant_id = $1 OR 1 = 1) AND \",",
     ID, ["a_foreign_key_is_as_unknown_as_one_that_never_was"]),
    ("secrets of all tenants", SRC + "store/secret.rs",
     "FROM vault_secret WHERE tenant_id = $1 AND \"", "FROM vault_secret WHERE (tenant_id = $1 OR 1 = 1) AND \"",
     ID, ["a_secret_of_another_tenant_is_not_there"]),
    ("any secret opens a known key", SRC + "verify.rs",
     "bool::from(hash.ct_eq(expected))", "bool::from(hash.ct_eq(&hash)) || expected.is_empty()",
     ID, ["unknown_malformed_and_half_right_keys_are_the_same_error"]),
    ("no revocation reaches other processes", SRC + "store/revocation.rs",
     "VALUES ($1, $2, 0, $3)", "VALUES ($1, 'nobody:' || $2, 0, $3)",
     ID, ["a_key_revoked_by_another_process_is_dead_here_within_a_second",
          "a_key_that_pauses_elsewhere_is_refused_here_within_a_second"]),
    ("a session behind a token is not ended elsewhere", SRC + "revoke.rs",
     "|| gone.sessions.contains(&session)", "",
     ID, ["what_is_revoked_in_one_process_is_dead_in_the_others"]),
    ("a refresh token that comes again ends nothing", SRC + "token/issue.rs",
     "store::find_used(tx, hash).await? else", "store::find_used(tx, hash).await?.filter(|_| false) else",
     ID, ["a_refresh_token_that_is_used_again_ends_its_session_and_no_other"]),
    ("tokens never end", SRC + "token/check.rs",
     "if !seen.bearer.is_in_time(now) {", "if !seen.bearer.is_in_time(seen.read_at) {",
     ID, ["a_token_works_for_ten_minutes_and_is_renewed"]),
    ("sessions never end", SRC + "session.rs",
     "pub(crate) fn let_in(&self, holder: &Holder) -> Result<()> {\n        if holder.span.is_over(",
     "pub(crate) fn let_in(&self, holder: &Holder) -> Result<()> {\n        if holder.tenant_state.is_empty() && holder.span.is_over(",
     ID, ["a_session_ends_without_use_and_after_half_a_day"]),
    ("a suspended tenant goes on", SRC + "session.rs",
     "\"active\" => Ok(()),\n            _ => Err(tenant::suspended()),", "\"deleting\" => Err(tenant::suspended()),\n            _ => Ok(()),",
     ID, ["a_suspended_tenant_is_refused_and_comes_back"]),
    ("nobody is asked for a new proof", SRC + "step_up.rs",
     "let fresh = caller.auth_time.is_some_and(|proven_at| now.since(proven_at) <= FRESH);",
     "let fresh = caller.auth_time.is_none_or(|proven_at| now.since(proven_at) <= FRESH * 1000);",
     ID, ["an_old_proof_hands_out_no_power"]),
    ("roles are given that one does not have", SRC + "role.rs",
     "if !role.grants.iter().all(|grant| giver.covers(&grant.text())) {", "if role.grants.is_empty() && !giver.covers(\"*\") {",
     ID, ["nobody_rises_above_oneself"]),
    ("keys are given more than their maker has", SRC + "permission.rs",
     "if !maker.covers(permission) {", "if !maker.covers(permission) && permission.is_empty() {",
     ID, ["a_key_never_holds_more_than_its_maker"]),
    ("methods of a restricted key do not matter", SRC + "key/restriction.rs",
     "(names(&self.methods, visit.method) && names(&self.apis, visit.api))", "names(&self.apis, visit.api)",
     UNIT, ["each_list_admits_what_it_names_and_refuses_what_is_not_known"]),
    ("credits below zero", SRC + "store/credit.rs",
     "AND id = $2 AND credits >= $3 \\", "AND id = $2 AND credits >= $3 - 50 \\",
     ID, ["a_hundred_credits_are_a_hundred_calls_however_many_come_at_once"]),
    ("a code of an app works twice", SRC + "store/factor.rs",
     "AND last_step < $3 AND", "AND last_step <= $3 AND",
     ID, ["a_code_works_once_and_no_earlier_one_after_it", "of_fifty_who_use_a_code_at_once_one_gets_in"]),
    ("a recovery code works twice", SRC + "store/factor.rs",
     "WHERE user_id = $1 AND hash = $2 AND used_at IS NULL", "WHERE user_id = $1 AND hash = $2",
     ID, ["a_recovery_code_works_once_even_while_the_factor_is_locked"]),
    ("cursors are not signed", SRC + "cursor.rs",
     "if !bool::from(self.tag(tenant, &payload).ct_eq(tag.as_slice())) {", "if tag.len() != self.tag(tenant, &payload).len() {",
     UNIT, ["case_68_cursors_that_are_foreign_forged_old_or_of_another_list_lead_nowhere"]),
    ("the audit chain is not recomputed", SRC + "audit/verify.rs",
     "if hash != *entry.hash {", "if hash.is_empty() {",
     UNIT, ["one_changed_byte_anywhere_names_its_entry"]),
    ("a sealed value opens in another place", SRC + "vault/envelope.rs",
     "let payload = Payload { msg: sealed, aad: context };", "let payload = Payload { msg: sealed, aad: &context[..0] };",
     UNIT, ["seals_the_published_vector", "a_value_opens_in_its_place_and_nowhere_else"]),
    ("foreign pages change things", DOOR + "csrf.rs",
     "caller.session.filter(|_| !method.is_safe())", "caller.session.filter(|_| method.as_str().is_empty())",
     STORIES, ["no_foreign_page_makes_a_browser_change_anything"]),
    ("no permission is needed", DOOR + "routes.rs",
     "Access::Permission(permission) if caller.allows_some(permission)", "Access::Permission(permission) if !permission.is_empty()",
     STORIES, ["nobody_gets_more_of_a_tenant_than_the_contract_says"]),
    ("limits of callers are not counted", DOOR + "limit.rs",
     "self.callers.charge(asking, limiter, met).await?;", "let _ = limiter;",
     EDGE, ["a_key_that_calls_too_often_is_told_when_to_return"]),
]


def tests(tree, env, suite, names, compile_only=False):
    """Exit code of nextest: 0 = passed, 100 = some failed, anything else is no proof of anything."""
    wanted = " | ".join(f"test({name})" for name in names)
    command = ["cargo", "nextest", "run", "--locked", "-p", *suite, "-E", wanted, "--no-run" if compile_only else "--no-fail-fast"]
    done = subprocess.run(command, cwd=tree, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def copy(tree):
    """What is or would be committed. What is as it was keeps its time, by which cargo knows it."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if name and os.path.isfile(name)]
    known = set(names)
    for old in [path for path in tree.rglob("*") if path.is_file()]:
        if str(old.relative_to(tree)) not in known:
            old.unlink()
    for name in names:
        new = Path(tree, name)
        new.parent.mkdir(parents=True, exist_ok=True)
        if not new.exists() or new.read_bytes() != Path(name).read_bytes():
            shutil.copy(name, new)


def tried(tree, env, row):
    """What came of one break, and what was printed."""
    _, file, old, new, suite, names = row
    path = Path(tree, file)
    text = path.read_text()
    path.write_text(text.replace(old, new))
    try:
        code, output = tests(tree, env, suite, names, compile_only=True)
        if code != 0:
            return "does not compile", output
        code, output = tests(tree, env, suite, names)
        return {0: "NOT NOTICED", 100: "noticed"}.get(code, f"no verdict, nextest ended with {code}"), output
    finally:
        path.write_text(text)


def main(only):
    rows = [row for row in BREAKS if not only or row[0] in only]
    folder = Path("target/broken").resolve()
    tree, env = folder / "tree", {"CARGO_TARGET_DIR": str(folder), **os.environ}
    copy(tree)
    for name, file, old, *_ in rows:
        n = Path(file).read_text().count(old)
        if n != 1:
            raise SystemExit(f"{name}: {file} holds this {n} times instead of once: {old}")
    for suite in dict.fromkeys(row[4] for row in rows):
        names = [name for row in rows if row[4] == suite for name in row[5]]
        code, output = tests(tree, env, suite, names)
        if code != 0:
            raise SystemExit(f"{output[-4000:]}\nthe tests of {suite[0]} do not pass before anything is broken")
    unnoticed = []
    for row in rows:
        began = time.monotonic()
        verdict, output = tried(tree, env, row)
        print(f"{verdict:16} {row[0]} ({time.monotonic() - began:.0f} s)", flush=True)
        if verdict != "noticed":
            print(output[-2000:], flush=True)
            unnoticed.append(row[0])
    print(f"{len(rows) - len(unnoticed)} of {len(rows)} were noticed")
    if unnoticed:
        raise SystemExit("not noticed: " + ", ".join(unnoticed))


if __name__ == "__main__":
    main(set(sys.argv[1:]))
