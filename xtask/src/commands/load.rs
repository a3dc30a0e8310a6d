//! `cargo shop load`: a closed loop of clients or a load test of k6, and what the orders cost.

mod clients;
mod cost;
mod k6;
mod meter;
mod shelves;
mod through;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use chrono::Local;
use clap::Args;
use testbed::Durability;
use xtask::shop::{Service, Shop, ShopOptions};

use super::running::Running;
use super::{client, up};
use clients::Clients;
use cost::Cost;
use meter::Meter;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many orders are placed.
    #[arg(long, default_value_t = 1_000)]
    orders: usize,
    /// How many clients place them, each one at a time.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Has k6 run this script of load-tests/ instead, and audits the shop afterwards; the script's settings (RATE=50,
    /// DURATION=1m …) are taken from the environment.
    #[arg(long, value_name = "SCRIPT", conflicts_with_all = ["orders", "clients"])]
    k6: Option<String>,
    /// Tells as well what an order costs in commits, log, tables and streams.
    #[arg(long)]
    cost: bool,
    /// Starts a shop of its own in a temporary folder instead of using the one that runs.
    #[arg(long)]
    own: bool,
    /// Builds and runs that one with optimisations; numbers of a debug build say little.
    #[arg(long, requires = "own")]
    release: bool,
    /// Gives that one a broker of three servers.
    #[arg(long, requires = "own")]
    cluster: bool,
    /// Runs the binaries of this folder instead of building any.
    #[arg(long, requires = "own", conflicts_with = "release")]
    binaries: Option<PathBuf>,
}

pub(super) async fn run(options: Options) -> Result<ExitCode> {
    if !options.own {
        return measure(&options, &Running::find()?).await;
    }
    let binaries = match &options.binaries {
        Some(folder) => folder.canonicalize().with_context(|| folder.display().to_string())?,
        None => up::build(options.release).await?,
    };
    let shop = Shop::start(ShopOptions {
        binaries: Some(binaries),
        durability: Durability::Real,
        brokers: up::brokers(options.cluster),
        progress: |step| println!("{step}"),
        ..ShopOptions::default()
    })
    .await?;
    let measured = measure(&options, &Running::of(&shop, None, Local::now())).await;
    shop.shutdown().await?;
    measured
}

async fn measure(options: &Options, shop: &Running) -> Result<ExitCode> {
    let (meter, cost) = (Meter::start(shop), Cost::start(shop).await?);
    let Some(script) = &options.k6 else {
        let measured = closed_loop(options, shop).await?;
        if options.cost {
            println!("\n{}", cost.finish(shop).await?.text());
        }
        return Ok(measured);
    };
    let driven = k6::run(script, shop, options.own).await?;
    // Before the audit, which reads everything and would be counted as well.
    if options.cost {
        let paid = cost.finish(shop).await?;
        println!("{}\n\n{}\n", meter.text(paid.orders), paid.text());
    }
    driven.audit().await
}

async fn closed_loop(options: &Options, shop: &Running) -> Result<ExitCode> {
    let Options { orders, clients, .. } = *options;
    ensure!(orders > 0 && clients > 0, "nothing to do");
    let client = client()?;
    let skus = shelves::fill(&client, &shop.service(Service::Inventory)?.url, orders).await?;

    println!("Placing {orders} orders with {clients} clients.");
    let meter = Meter::start(shop);
    let started = Instant::now();
    let placed = Clients {
        url: format!("{}/v1/orders", shop.service(Service::Order)?.url),
        skus,
        orders,
        customers: (0..clients).map(|_| uuid::Uuid::now_v7()).collect(),
    }
    .run(&client)
    .await?;
    println!("{}", placed.text(started.elapsed()));

    println!("Waiting until all of them are through.");
    let database = &shop.service(Service::Order)?.database_url;
    let through = through::wait(database, &placed.customers, placed.accepted()).await?;
    println!("{}", through.text());
    println!("{}", meter.text(placed.accepted()));
    let all_well = placed.refused.is_empty() && through.unfinished == 0;
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
