//! The dashboards: whatever Grafana would refuse or show as an empty panel.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::{assert_documented, read, root};

const FOLDER: &str = "deploy/grafana/dashboards";

fn dashboards() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(FOLDER)).unwrap() {
        let name = entry.unwrap().file_name().display().to_string();
        let text = read(&format!("{FOLDER}/{name}"));
        found.push((name, serde_json::from_str(&text).unwrap()));
    }
    found
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

#[test]
fn dashboards_show_metrics_that_exist() {
    let mut expressions = Vec::new();
    for (name, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let place = format!("{name}: {}", panel["title"]);
            let targets = panel["targets"].as_array().unwrap();
            let of_panel = targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned());
            expressions.extend(of_panel.map(|expression| (place.clone(), expression)));
        }
    }
    assert!(expressions.len() > 40);
    assert_documented(expressions);
}

#[test]
fn every_panel_has_a_name_a_place_of_its_own_and_the_provisioned_source() {
    let source = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert!(uids.insert(dashboard["uid"].to_string()), "{name}: the uid of another");
        assert!(
            dashboard["title"].is_string() && dashboard["schemaVersion"].is_u64(),
            "{name}"
        );
        let (mut ids, mut places, mut titles) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title}");
            assert!(titles.insert(title), "{name}: {title} twice");
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{name}: {title} is out of the grid");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(places.insert((x, y)), "{name}: {title} covers another panel");
                }
            }
            for target in panel["targets"].as_array().unwrap() {
                let uid = target["datasource"]["uid"].as_str().unwrap();
                assert!(source.contains(&format!("uid: {uid}\n")), "{name}: {title} asks {uid}");
                assert!(target["refId"].is_string(), "{name}: {title}");
            }
        }
    }
}

#[test]
fn whatever_an_expression_leaves_open_is_a_variable_of_its_dashboard() {
    for (name, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let mut known: BTreeSet<&str> = variables
            .iter()
            .filter_map(|variable| variable["name"].as_str())
            .collect();
        known.insert("__rate_interval");
        let text = dashboard.to_string();
        for open in text.split('$').skip(1) {
            let end = open
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(open.len());
            assert!(known.contains(&open[..end]), "{name}: ${}", &open[..end]);
        }
    }
}
