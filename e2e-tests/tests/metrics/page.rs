//! Prometheus' text format, and the page that is made of it.

use std::collections::{BTreeMap, BTreeSet};

/// A metric by what it says of itself, and the labels that its series have.
#[derive(Debug, Default)]
pub(crate) struct Metric {
    kind: String,
    meaning: String,
    labels: BTreeSet<String>,
}

/// All metrics by name.
pub(crate) type Metrics = BTreeMap<String, Metric>;

/// What the library adds by itself: the attributes of the process, once.
const OF_THE_LIBRARY: &str = "target_info";

/// Adds what a process shows.
pub(crate) fn read(text: &str, metrics: &mut Metrics) {
    let mut name = "";
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(named), meaning) if named != OF_THE_LIBRARY => {
                name = named;
                metrics.entry(named.to_owned()).or_default().meaning = meaning.unwrap_or_default().to_owned();
            }
            (Some("#"), Some("TYPE"), Some(named), Some(kind)) if named != OF_THE_LIBRARY => {
                name = named;
                metrics.entry(named.to_owned()).or_default().kind = kind.to_owned();
            }
            _ if line.starts_with(name) && !name.is_empty() => {
                let metric = metrics.entry(name.to_owned()).or_default();
                metric
                    .labels
                    .extend(labels(line).map(str::to_owned).filter(|label| label != "le"));
            }
            _ => {}
        }
    }
}

/// The names of the labels of a series.
fn labels(line: &str) -> impl Iterator<Item = &str> {
    let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
    let pairs = inside.map_or("", |(inside, _)| inside).split("\",");
    pairs.filter_map(|pair| pair.split_once('=').map(|(name, _)| name))
}

fn unit(name: &str) -> &'static str {
    match name.trim_end_matches("_total").rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "bytes",
        _ => "",
    }
}

/// The whole page.
pub(crate) fn of(metrics: &Metrics) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (name, metric) in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let Metric { kind, meaning, .. } = metric;
        page.push_str(&format!(
            "| `{name}` | {kind} | {} | {} | {meaning} |\n",
            unit(name),
            labels.join(", ")
        ));
    }
    page
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Written by `cargo shop docs` from what a running shop shows; `e2e-tests/tests/metrics.rs` compares. -->

Each service shows these at `/metrics` of its admin listener, port 9001 for order to 9006 for analytics, in Prometheus'
text format. Instruments are OpenTelemetry's, with the names of its semantic conventions where there is one
(`http.server.request.duration` is `http_server_request_duration_seconds` here) and `shop.` before the others. Which
service, and which replica of it, is what Prometheus adds as `service` and `instance` (`deploy/prometheus/prometheus.yml`).

* **What happens is counted** by the process that does it: add up the replicas.
* **What is looked at** – gauges of the outbox (every second), of consumers, dead letters, sagas and refunds (every five) –
  is read from the service's database, or from the durables of the broker, which its replicas share: take the greatest,
  never the sum.
* A counter is there once something was counted; those of the relay are 0 from the start.
* A histogram has the series `_bucket` (with `le`), `_sum` and `_count`.
* There are no exemplars: the `prometheus` crate, and with it `opentelemetry-prometheus` 0.33, has none. From a slow
  minute to its traces one gets by time and route, in Jaeger's search.
* Labels have few values: routes are templates, subjects those of the event catalogue. No order, customer or message is
  named in any.

Alerts on them: `deploy/prometheus/alerts.yml`, and what to do then: [runbook.md](runbook.md). Dashboards:
`deploy/grafana/dashboards`.

| metric | type | unit | labels | meaning |
|---|---|---|---|---|
";
