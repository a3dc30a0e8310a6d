//! The rules of the house that no compiler checks. Each failure names file, line and rule.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "tidy/source.rs"]
mod source;

use std::fs;

use source::{Source, root, services};

/// Fails with every place where the rule is broken.
fn none_breaks(rule: &str, places: impl IntoIterator<Item = String>) {
    let places: Vec<String> = places.into_iter().collect();
    assert!(places.is_empty(), "{rule}:\n  {}", places.join("\n  "));
}

/// Every line of these sources that contains one of the patterns, comments left out.
fn lines_with<'a>(sources: impl IntoIterator<Item = &'a Source>, patterns: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources {
        for (number, line) in source.code() {
            if let Some(pattern) = patterns.iter().find(|pattern| line.contains(**pattern)) {
                places.push(format!("{}:{number}: {pattern}", source.path));
            }
        }
    }
    places
}

/// The sources that are shipped: no tests.
fn shipped() -> Vec<Source> {
    let is_shipped = |source: &Source| source.path.contains("/src/") && !source.path.contains("/tests");
    Source::all()
        .into_iter()
        .filter(is_shipped)
        .map(Source::without_tests)
        .collect()
}

fn of_services(mut sources: Vec<Source>) -> Vec<Source> {
    // What a new service is made from is held to the same.
    let of_one = |path: &str| path.starts_with("services/") || path.starts_with("xtask/newcomer/");
    sources.retain(|source| of_one(&source.path));
    sources
}

fn outside_messaging(mut sources: Vec<Source>) -> Vec<Source> {
    sources.retain(|source| !source.path.starts_with("shared/messaging/"));
    sources
}

#[test]
fn a_service_has_the_files_of_its_siblings_and_no_others() {
    const FILES: [&str; 10] = [
        "main",
        "lib",
        "config",
        "api",
        "reactions",
        "domain",
        "store",
        "tasks",
        "clients",
        "templates",
    ];
    let is_known = |path: &str| {
        let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
        // A file that has grown too large goes on in a folder of its name.
        let name = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        FILES.contains(&name) || inside.starts_with("bin/sandbox-gateway/")
    };
    let paths = of_services(shipped()).into_iter().map(|source| source.path);
    none_breaks(
        "a service has main, lib, config, api, reactions, domain, store, tasks and clients",
        paths.filter(|path| !is_known(path)),
    );
}

#[test]
fn no_file_is_longer_than_400_lines() {
    let long = Source::all().into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > 400).then(|| format!("{}:1: {lines} lines", source.path))
    });
    none_breaks("a file ends before line 401", long);
}

#[test]
fn no_function_is_longer_than_60_lines() {
    let mut long = Vec::new();
    for source in Source::all() {
        for (number, name, lines) in source.functions() {
            if lines > 60 {
                long.push(format!("{}:{number}: {name} has {lines} lines", source.path));
            }
        }
    }
    none_breaks("a function fits on a screen of 60 lines", long);
}

/// The crates that a manifest depends on, with their lines.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let mut in_dependencies = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            found.push((number, name.to_owned()));
        }
    }
    found
}

/// Where a crate of this group depends on a service.
fn depending_on_services(group: &str) -> Vec<String> {
    let services = services();
    let mut found = Vec::new();
    for member in fs::read_dir(root().join(group)).unwrap() {
        let manifest = format!("{group}/{}/Cargo.toml", member.unwrap().file_name().display());
        for (number, name) in dependencies(&manifest) {
            if services.contains(&name) {
                found.push(format!("{manifest}:{number}: {name}"));
            }
        }
    }
    found
}

#[test]
fn no_service_depends_on_another() {
    none_breaks(
        "services know each other by events and HTTP only",
        depending_on_services("services"),
    );
}

#[test]
fn nothing_shared_depends_on_a_service() {
    none_breaks("what is shared knows no service", depending_on_services("shared"));
}

#[test]
fn sql_is_in_the_store_of_a_service_and_nowhere_else_in_it() {
    let sources = of_services(shipped());
    let elsewhere = sources.iter().filter(|source| !source.path.contains("/src/store"));
    let sql = ["sqlx::query", "query!(", "query_as!(", "query_scalar!("];
    none_breaks("the only SQL of a service is in its store", lines_with(elsewhere, &sql));
}

/// Row 44: SQL is text of the program: sqlx takes nothing else without `AssertSqlSafe`, which nothing that is shipped says.
#[test]
fn sql_is_never_put_together_from_text() {
    let mut sources = shipped();
    // It makes the databases of tests, under names of its own.
    sources.retain(|source| !source.path.starts_with("shared/testbed/"));
    none_breaks(
        "whatever comes from outside is bound, never made into SQL",
        lines_with(
            &sources,
            &[
                "AssertSqlSafe",
                "QueryBuilder",
                "format!(\"select",
                "format!(\"insert",
                "format!(\"update",
            ],
        ),
    );
}

#[test]
fn only_the_messaging_core_opens_transactions() {
    let opening = lines_with(&outside_messaging(shipped()), &[".begin("]);
    none_breaks(
        "a change of state is a decision, which the messaging core puts into a transaction",
        opening,
    );
}

#[test]
fn only_the_messaging_core_publishes() {
    let calls = [
        ".publish(",
        ".publish_with_headers(",
        ".publish_with_reply",
        ".send_publish(",
        ".send_request(",
    ];
    none_breaks(
        "what is told goes through the outbox",
        lines_with(&outside_messaging(shipped()), &calls),
    );
}

#[test]
fn no_service_sleeps() {
    let mut sources = of_services(shipped());
    sources.retain(|source| !source.path.contains("/bin/"));
    let sleeping = lines_with(&sources, &["time::sleep", "thread::sleep"]);
    none_breaks("what is due later is a row with a time, not a sleeping task", sleeping);
}

#[test]
fn nothing_that_is_shipped_panics_on_purpose() {
    let panicking = lines_with(&shipped(), &[".unwrap()", ".expect("]);
    none_breaks("a failure is an error that says what failed", panicking);
}

#[test]
fn images_are_built_by_the_toolchain_of_the_workspace() {
    let read = |file| fs::read_to_string(root().join(file)).unwrap();
    let toolchain = read("rust-toolchain.toml");
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = "));
    let builder = format!(
        "ARG RUST_IMAGE=rust:{}-slim-bookworm\n",
        version.unwrap().trim_matches('"')
    );
    assert!(read("Dockerfile").contains(&builder), "Dockerfile is without {builder}");
}

#[test]
fn nothing_is_left_to_be_done() {
    // In two pieces, so that this file keeps the rule.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut left = Vec::new();
    for source in Source::with_endings(&["rs", "toml", "sql", "md", "sh", "html", "yml", "conf", "js"]) {
        for (number, line) in (1..).zip(source.text.lines()) {
            if words.iter().any(|word| line.contains(word)) {
                left.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    none_breaks("what is left to do is an issue, not a comment", left);
}

#[test]
fn a_test_waits_for_a_condition_and_not_for_time() {
    let mut sleeping = Vec::new();
    for source in Source::all().iter().filter(|source| !source.path.contains("/src/")) {
        for (number, line) in source.code() {
            if line.contains("::sleep(") && !source.is_in_loop(number) && !source.is_explained(number) {
                sleeping.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    none_breaks(
        "a test looks again in a loop until a condition holds, or says above why time is meant",
        sleeping,
    );
}

#[test]
fn every_failure_is_proven_or_excused_and_the_page_says_so() {
    let failures = xtask::failures::Failures::read(&root()).unwrap();
    none_breaks(
        "a row of the failures has a test that names it, or an excuse, and not both",
        failures.gaps(),
    );
    let page = fs::read_to_string(root().join(xtask::failures::PAGE)).unwrap_or_default();
    assert!(page == failures.page(), "out of date: cargo shop failures writes it");
}
