//! A seventh consumer: scaffolded, built, tested and started beside a shop that runs, and nobody else is touched.
#![allow(clippy::unwrap_used)]

mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use e2e_tests::{Service, Wish, World, run};
use serde_json::{Value, json};
use testbed::{Process, Scratch, free_port};
use uuid::Uuid;
use workspace::Workspace;

/// What it is called; whoever has tried the command out has one of that name.
fn name() -> &'static str {
    let names = ["loyalty", "loyalty_too", "loyalty_again"];
    let is_free = |name: &&str| name.parse::<Service>().is_err();
    names.into_iter().find(is_free).unwrap()
}

/// Its folders; whatever is new is in them.
const FOLDERS: [&str; 2] = ["services", "migrations"];
/// What knows of all services.
const KNOWING: [&str; 3] = ["Cargo.lock", "xtask/Cargo.toml", "xtask/src/shop/service.rs"];

/// A consumer that was added later hears what was told before it came, and each order counts once, through a death and
/// a replay from the start. The services that tell it are not built, not configured and not started anew.
#[test]
fn a_scaffolded_consumer_counts_every_order_once_and_no_producer_changes() {
    run(async {
        let (world, workspace) = (World::open_to_all(None).await, Workspace::copied().await.unwrap());
        let producers = Service::ALL.map(|service| world.shop.pid(service).unwrap());
        let mut orders = completed(&world, 3).await;

        only_new_files_and_three_lines(&workspace);
        workspace.cargo(&format!("fmt --check --package {}", name())).unwrap();
        let alone = workspace.alone().unwrap();
        workspace.cargo("build --workspace --bins").unwrap();
        let tested = workspace.test(name()).unwrap();
        drop(alone);
        for test in [
            "the_order_of_rewards_does_not_matter_and_none_is_lost",
            "two_replicas_that_hear_of_the_same_subject_at_once_lose_no_point",
            "points_are_shown_by_subject_and_in_total",
        ] {
            assert!(tested.contains(&format!("{test} ... ok")), "{test}:\n{tested}");
        }

        let seventh = Seventh::start(&world, &workspace).await;
        seventh.has_counted(&world, &orders).await;
        orders.extend(completed(&world, 2).await);
        seventh.has_counted(&world, &orders).await;

        seventh.process.kill().await.unwrap();
        orders.extend(completed(&world, 1).await);
        seventh.process.restart().await.unwrap();
        seventh.has_counted(&world, &orders).await;
        seventh.hears_everything_again(&world, &workspace, orders.len()).await;
        seventh.has_counted(&world, &orders).await;

        let now = Service::ALL.map(|service| world.shop.pid(service).unwrap());
        assert_eq!(now, producers, "a service was started anew");
        seventh.process.stop().await.unwrap();
        let said = seventh.log();
        assert!(
            said.contains("stopped") && !said.contains("not everything finished"),
            "{said}"
        );
        world.shop.shutdown().await.unwrap();
    });
}

/// Scaffolds it, and compares every file of the workspace with what it was.
fn only_new_files_and_three_lines(workspace: &Workspace) {
    let (name, before) = (name(), workspace.files().unwrap());
    let (scaffolded, said) = workspace.shop(&["new-service", name]).unwrap();
    assert!(scaffolded, "{said}");
    let after = workspace.files().unwrap();

    let new: Vec<&String> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    let own = FOLDERS.map(|folder| format!("{folder}/{name}/"));
    assert!(
        new.iter().all(|path| own.iter().any(|own| path.starts_with(own))),
        "{new:?}"
    );
    let changed = before.iter().filter(|(path, text)| after.get(*path) != Some(text));
    let changed: BTreeMap<&str, &str> = changed.map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert_eq!(changed.keys().copied().collect::<Vec<_>>(), KNOWING);
    for (path, text) in changed {
        let left = lost(text, &after[path]);
        assert!(left.is_empty(), "{path} has lost {left:?}");
    }

    let (again, said) = workspace.shop(&["new-service", name]).unwrap();
    assert!(
        !again && said.contains(&format!("there is a services/{name} already")),
        "{said}"
    );
    assert_eq!(workspace.files().unwrap(), after, "a refusal has changed something");
}

/// The lines that are gone, or stand elsewhere.
fn lost<'a>(before: &'a str, after: &str) -> Vec<&'a str> {
    let mut later = after.lines();
    before.lines().filter(|line| !later.any(|kept| kept == *line)).collect()
}

/// Places so many orders, and waits until they are completed.
async fn completed(world: &World, count: usize) -> BTreeSet<Uuid> {
    let mut orders = BTreeSet::new();
    for _ in 0..count {
        orders.insert(world.place(&Wish::of("TEA-SENCHA")).await);
    }
    for id in &orders {
        assert_eq!(world.ended(*id).await["state"], "COMPLETED");
    }
    orders
}

/// The new service as a process beside the shop.
struct Seventh {
    process: Process,
    url: String,
    admin_url: String,
    scratch: Scratch,
}

impl Seventh {
    /// Provisions its durable, gives it a database, and starts it.
    async fn start(world: &World, workspace: &Workspace) -> Self {
        let nats_url = world.shop.nats().url();
        provision(workspace, &nats_url, &["provision"]);
        let database = format!("shop_{}", name());
        world.shop.postgres().create_database(&database).await.unwrap();
        let [http, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        let mut command = Command::new(workspace.binaries().join(name()));
        command
            .env("DATABASE_URL", world.shop.postgres().socket_url(&database))
            .env("NATS_URL", nats_url)
            .env("HTTP_ADDR", &http)
            .env("ADMIN_ADDR", &admin)
            .env("NO_COLOR", "1");
        let scratch = Scratch::new(name()).await.unwrap();
        let folder = scratch.path().join("run");
        let process = Process::start(name(), &command, &folder, &log(&scratch)).await.unwrap();
        Self {
            process,
            url: format!("http://{http}"),
            admin_url: format!("http://{admin}"),
            scratch,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(log(&self.scratch)).unwrap_or_default()
    }

    /// Waits until it is ready and has nothing left to hear; then each of these orders has a point, and nothing else.
    async fn has_counted(&self, world: &World, orders: &BTreeSet<Uuid>) {
        self.has_heard_all(world, orders.len()).await;
        let totals = json!({"accounts": orders.len(), "points": orders.len()});
        assert_eq!(get(world, format!("{}/v1/points", self.url)).await.unwrap(), totals);
        for id in orders {
            let points = get(world, format!("{}/v1/points/{id}", self.url)).await.unwrap();
            assert_eq!(points, json!({"subject": id, "points": 1}));
        }
    }

    async fn has_heard_all(&self, world: &World, at_least: usize) {
        let heard = world.until("the newcomer has heard everything", || async {
            get(world, format!("{}/readyz", self.admin_url)).await?;
            let consumers = get(world, format!("{}/admin/consumers", self.admin_url)).await?;
            let [lag] = consumers.as_array().map(Vec::as_slice).unwrap_or_default() else {
                anyhow::bail!("it has not one durable: {consumers}")
            };
            let idle = lag["pending"] == 0 && lag["unacknowledged"] == 0;
            Ok((idle && lag["delivered"].as_u64() >= Some(at_least as u64)).then_some(()))
        });
        heard.await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log()));
    }

    /// A durable that is made anew begins with the first event of the stream.
    async fn hears_everything_again(&self, world: &World, workspace: &Workspace, all: usize) {
        provision(
            workspace,
            &world.shop.nats().url(),
            &["provision", "--from-start", name()],
        );
        self.has_heard_all(world, all).await;
    }
}

fn log(scratch: &Scratch) -> std::path::PathBuf {
    Path::new(scratch.path()).join("service.log")
}

fn provision(workspace: &Workspace, nats_url: &str, arguments: &[&str]) {
    let (provisioned, said) = workspace.changed_shop(arguments, &[("NATS_URL", nats_url)]).unwrap();
    assert!(provisioned, "{said}");
}

async fn get(world: &World, url: String) -> anyhow::Result<Value> {
    Ok(world.http.get(url).send().await?.error_for_status()?.json().await?)
}
