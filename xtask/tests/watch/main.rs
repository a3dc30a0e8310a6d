//! What watches the shop hangs together: no alert without a paragraph that says what to do, none without a test, and no
//! expression about a metric that is nowhere measured. That docs/metrics.md tells the truth is tested on a running shop,
//! in `e2e-tests/tests/metrics.rs`.
#![allow(clippy::unwrap_used, missing_docs)]

mod dashboards;
mod promql;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::Prometheus;

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const ALERT_TESTS: &str = "deploy/prometheus/alerts.test.yml";
const TARGETS: &str = "deploy/prometheus/prometheus.yml";
const RUNBOOK: &str = "docs/runbook.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands behind a key of a YAML file, line by line.
fn values(text: &str, key: &str) -> Vec<String> {
    let begin = format!("{key}: ");
    let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
    lines
        .filter_map(|line| line.strip_prefix(&begin))
        .map(str::to_owned)
        .collect()
}

/// The metrics of docs/metrics.md, with what a histogram is made of, and what Prometheus adds by itself.
fn documented() -> BTreeSet<String> {
    let mut known = BTreeSet::from(["up".to_owned(), "ALERTS".to_owned()]);
    for line in read("docs/metrics.md").lines() {
        let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`'));
        let (Some(""), Some(name), Some(kind)) = (cells.next(), cells.next(), cells.next()) else {
            continue;
        };
        if kind == "histogram" {
            known.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        } else {
            known.insert(name.to_owned());
        }
    }
    assert!(known.len() > 20, "docs/metrics.md has no table: {known:?}");
    known
}

/// Fails with every metric of these expressions that no page knows.
fn assert_documented(expressions: impl IntoIterator<Item = (String, String)>) {
    let known = documented();
    let mut unknown = Vec::new();
    for (place, expression) in expressions {
        let metrics = promql::metrics(&expression);
        assert!(!metrics.is_empty(), "{place}: {expression}");
        unknown.extend(metrics.difference(&known).map(|metric| format!("{place}: {metric}")));
    }
    assert!(
        unknown.is_empty(),
        "not in docs/metrics.md:\n  {}",
        unknown.join("\n  ")
    );
}

#[test]
fn every_alert_has_a_paragraph_in_the_runbook_and_a_severity() {
    let (alerts, runbook) = (read(ALERTS), read(RUNBOOK));
    let names = values(&alerts, "alert");
    let headings: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(
        names, headings,
        "the runbook has the alerts' headings in their order, and no others"
    );
    let links: Vec<String> = names
        .iter()
        .map(|name| format!("{RUNBOOK}#{}", name.to_lowercase()))
        .collect();
    assert_eq!(values(&alerts, "runbook_url"), links);
    let severities = values(&alerts, "labels");
    assert_eq!(severities.len(), names.len());
    let paragraphs = runbook.split("\n## ").skip(1);
    for (paragraph, severity) in paragraphs.zip(&severities) {
        let said = if severity.contains("critical") {
            "*Critical.*"
        } else {
            "*Warning.*"
        };
        assert!(paragraph.contains(said), "{severity}: {paragraph}");
        for part in ["**What users see.**", "**Look", "mend", "**Escalate**"] {
            assert!(
                paragraph.to_lowercase().contains(&part.to_lowercase()),
                "no {part}: {paragraph}"
            );
        }
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_to_be_silent() {
    let tests = read(ALERT_TESTS);
    let mut fired: BTreeSet<&str> = BTreeSet::new();
    let mut silent: BTreeSet<&str> = BTreeSet::new();
    let mut alert = "";
    for line in tests.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("alertname: ") {
            alert = name;
        } else if line == "exp_alerts: []" {
            silent.insert(alert);
        } else if line == "exp_alerts:" {
            fired.insert(alert);
        }
    }
    let alerts = read(ALERTS);
    let names = values(&alerts, "alert");
    let all: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(fired, all, "tested to fire");
    assert_eq!(silent, all, "tested to be silent");
}

#[test]
fn alerts_are_about_metrics_that_exist() {
    let alerts = read(ALERTS);
    let rules = alerts.split("- alert: ").skip(1).map(|rule| {
        let (name, rest) = rule.split_once('\n').unwrap();
        let (expression, _) = rest.split_once("labels:").unwrap();
        let expression = expression
            .trim()
            .trim_start_matches("expr:")
            .replace("for: ", "offset ");
        (name.to_owned(), expression.trim_matches([' ', '|', '\'']).to_owned())
    });
    assert_documented(rules);
}

#[test]
fn every_service_is_asked_for_its_metrics_and_missed_when_it_is_gone() {
    let (targets, alerts) = (read(TARGETS), read(ALERTS));
    for service in xtask::shop::Service::ALL {
        let target = format!("names: [{service}], type: A, port: {}", service.admin_port());
        assert!(targets.contains(&target), "{TARGETS} lacks {target}");
        let missed = format!("absent(up{{service=\"{service}\"}})");
        assert!(alerts.contains(&missed), "{ALERTS} lacks {missed}");
    }
}

#[test]
fn promtool_takes_the_configuration_and_the_rules_do_what_their_tests_say() {
    let promtool = Prometheus::find_or_install().unwrap().promtool;
    let folder = root().join("deploy/prometheus");
    for arguments in [
        &["check", "config", "prometheus.yml"][..],
        &["check", "rules", "alerts.yml"],
        &["test", "rules", "alerts.test.yml"],
    ] {
        let ran = Command::new(&promtool)
            .args(arguments)
            .current_dir(&folder)
            .output()
            .unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        assert!(
            ran.status.success(),
            "promtool {arguments:?}:\n{}",
            String::from_utf8_lossy(&said)
        );
    }
}

/// What somebody is told to type at night exists.
#[test]
fn every_command_of_the_runbook_is_one_of_cargo_shop() {
    let runbook = read(RUNBOOK);
    let blocks = runbook
        .split("```console\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap());
    let spans = runbook.split('`').filter(|span| span.starts_with("cargo shop "));
    let lines = blocks.flat_map(str::lines).chain(spans);
    let commands: BTreeSet<Vec<&str>> = lines
        .filter_map(|line| line.strip_prefix("cargo shop "))
        .map(words)
        .collect();
    assert!(commands.len() > 5, "{commands:?}");
    for words in commands {
        let asked = Command::new(env!("CARGO_BIN_EXE_shop"))
            .args(&words)
            .arg("--help")
            .output()
            .unwrap();
        assert!(asked.status.success(), "there is no cargo shop {}", words.join(" "));
    }
}

/// The verbs and options of a command, without what stands for something else.
fn words(command: &str) -> Vec<&str> {
    let command = command.split('#').next().unwrap();
    let command = command.split('<').next().unwrap().split('\'').next().unwrap();
    let mut words: Vec<&str> = command.split_whitespace().collect();
    // An option that wants a value cannot be followed by --help.
    words.retain(|word| *word != "--reason");
    words
}
