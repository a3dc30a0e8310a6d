//! Dashboards and alerts beside a shop that runs, in a real Prometheus.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use e2e_tests::{Service, Wish, World, run};
use serde_json::Value;
use testbed::{Process, Prometheus, free_port};

/// What is absent, or shows nothing, as long as all is well.
const RARE: [&str; 3] = [
    "shop_messages_redelivered_total",
    "shop_messages_duplicates_total",
    "shop_dead_letters_total",
];

#[test]
fn every_panel_shows_something_and_no_alert_fires_while_all_is_well() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        let watcher = Watcher::beside(&world).await?;
        let wish = Wish::of("TEA-ASSAM");
        let wishes = [
            wish.clone(),
            wish.clone().paid_by("pm_card_chargeDeclined"),
            wish.to("XX"),
        ];
        // Counted while it is watched: what was there before the first look is no increase.
        for wish in wishes.iter().chain(&wishes) {
            let id = world.place(wish).await;
            world.ended(id).await;
        }
        for (panel, expression) in expressions()? {
            let rare = RARE.iter().any(|name| expression.contains(name));
            let what = format!("{panel} shows {expression}");
            let shown = world.until(&what, || async {
                let mut series = 0;
                for service in Service::ALL {
                    series += watcher.ask(&expression.replace("$service", service.name())).await?;
                }
                Ok((rare || series > 0).then_some(()))
            });
            shown.await?;
        }
        watcher.every_rule_is_silent(&world).await
    })
}

/// Every expression of every dashboard, with its panel.
fn expressions() -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(deploy("grafana/dashboards"))? {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(entry?.path())?)?;
        for panel in dashboard["panels"].as_array().context("no panels")? {
            for target in panel["targets"].as_array().context("no targets")? {
                let expression = target["expr"].as_str().context("no expression")?;
                let panel = format!("{}: {}", dashboard["title"], panel["title"]);
                found.push((panel, expression.replace("$__rate_interval", "1m")));
            }
        }
    }
    ensure!(found.len() > 40, "only {} expressions", found.len());
    Ok(found)
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// A Prometheus that watches a shop by the committed rules.
struct Watcher {
    url: String,
    http: reqwest::Client,
    _server: Process,
}

impl Watcher {
    async fn beside(world: &World) -> anyhow::Result<Self> {
        let program = Prometheus::find_or_install()?.server;
        let folder = world.shop.mail_dir().with_file_name("prometheus");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("prometheus.yml"), configuration(world)?)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(program);
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address={address}"));
        let server = Process::start("prometheus", &command, &folder, &folder.join("prometheus.log")).await?;
        let watcher = Self {
            url: format!("http://{address}"),
            http: world.http.clone(),
            _server: server,
        };
        let sees_all = world.until("Prometheus sees all services", || async {
            let seen = watcher.ask("up == 1").await?;
            Ok((seen == Service::ALL.len()).then_some(()))
        });
        sees_all.await?;
        Ok(watcher)
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let request = self.http.get(format!("{}{path}", self.url)).query(query);
        let answer: Value = request.send().await?.json().await?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"].clone())
    }

    /// How many series the expression has now.
    async fn ask(&self, expression: &str) -> anyhow::Result<usize> {
        let data = self.get("/api/v1/query", &[("query", expression)]).await?;
        Ok(data["result"].as_array().map_or(0, Vec::len))
    }

    /// Each was evaluated without an error, and does not fire.
    async fn every_rule_is_silent(&self, world: &World) -> anyhow::Result<()> {
        let evaluated = world.until("every rule is evaluated", || async {
            let data = self.get("/api/v1/rules", &[]).await?;
            let groups = data["groups"].as_array().context("no groups")?;
            let rules: Vec<Value> = groups
                .iter()
                .filter_map(|group| group["rules"].as_array())
                .flatten()
                .cloned()
                .collect();
            ensure!(rules.len() > 10, "{data}");
            Ok(rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules))
        });
        for rule in evaluated.await? {
            ensure!(rule["health"] == "ok" && rule["state"] != "firing", "{rule}");
        }
        Ok(())
    }
}

/// As in deploy/prometheus, but at addresses of this machine and ten times as often.
fn configuration(world: &World) -> anyhow::Result<String> {
    let rules = deploy("prometheus/alerts.yml").canonicalize()?;
    let mut text = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\nscrape_configs:\n  \
         - job_name: shop\n    static_configs:\n",
        rules.display()
    );
    for service in Service::ALL {
        let address = world.shop.admin_url(service).replace("http://", "");
        text += &format!("      - {{ targets: ['{address}'], labels: {{ service: {service} }} }}\n");
    }
    Ok(text)
}
