//! Chaos: a shop of its own under load, while a seeded plan kills, stops, cuts and slows its parts.
//!
//! What goes wrong and what is ordered follow from the seed alone; how the parts meet does not, so a
//! seed repeats a run about as well as the machine repeats itself. Throughout, the invariants that
//! hold at every moment are audited; at the end everything is healed, every order has a minute to
//! come to its end, and the whole audit is compared with what the customers have sent and seen.

mod customers;
mod outcome;
pub mod plan;
mod striking;
mod wish;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::{Either, join, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
use testbed::Durability;
use tokio::time::{Instant, interval, sleep, sleep_until};

use crate::audit::{Addresses, Audit, Scope};
use crate::shop::{Service, Shop, ShopOptions};
use customers::Customers;
pub use outcome::Outcome;
use plan::{Plan, Strike};
use striking::Striking;

/// How long every order may take to come to its end once everything is healed.
const TERMINAL_WITHIN: Duration = Duration::from_secs(60);
/// How long what follows from the last orders may take: mails, for instance.
const QUIET_WITHIN: Duration = Duration::from_secs(120);
/// Between two audits of what always holds.
const AUDIT_EVERY: Duration = Duration::from_secs(5);
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Pieces of the article that runs out.
const SCARCE_PIECES: i64 = 10;

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Options {
    /// What goes wrong and what is ordered.
    pub seed: u64,
    /// How long faults are injected.
    pub length: Duration,
    /// How many orders are placed each second.
    pub orders_per_second: f64,
    /// Where the shop lives; the folder is left behind.
    pub home: PathBuf,
    /// The folder of the services' binaries; none: the one of this executable.
    pub binaries: Option<PathBuf>,
    /// What acknowledgements survive.
    pub durability: Durability,
    /// Told what happens as it happens.
    pub progress: fn(&str),
}

/// Opens a shop, breaks it for as long as asked, heals it, and judges.
pub async fn run(options: &Options) -> Result<Outcome> {
    let tell = options.progress;
    let shop = open(options).await?;
    let customers = Customers::new(options.seed, &shop.url(Service::Order))?;
    let striking = Striking::at(&shop)?;
    let mut outcome = Outcome::default();

    let came = tokio::spawn(customers.clone().come(options.orders_per_second, options.length));
    let started = Instant::now();
    let at_work = select(
        Box::pin(striking.watch()),
        Box::pin(join(
            inject(options, &striking, &customers, started),
            audit_always(&shop, options.length),
        )),
    );
    let Either::Right(((faults, breaches), _)) = at_work.await else {
        anyhow::bail!("nobody watches any more");
    };
    outcome.faults = faults;
    outcome.breaches = breaches;
    tell("All faults are over. Healing, and waiting until every customer has an answer.");
    striking.heal().await?;
    let healed = Instant::now();
    came.await?;
    outcome.surprises = striking.surprises();
    drain(&shop, healed, tell, &mut outcome).await?;
    outcome.seen(customers.log());
    outcome.figures(&shop).await?;
    let audit = Audit::of(Addresses::of(&shop)).with_client(customers.log().client);
    outcome.judged(&audit.run(Scope::Everything).await?);
    shop.shutdown().await.context("the shop does not end in good order")?;
    Ok(outcome)
}

/// A proxied shop that gives up sooner than a real one, with enough of everything but one article.
async fn open(options: &Options) -> Result<Shop> {
    let lively = [
        (Service::Order, "ORDER_PAY_WITHIN_MS", "30000"),
        (Service::Payment, "GATEWAY_TIMEOUT_MS", "1500"),
        (Service::Payment, "GATEWAY_SETTLES_WITHIN_MS", "4000"),
        (Service::Payment, "PAYMENT_GIVE_UP_AFTER_MS", "8000"),
    ];
    let env = lively.map(|(service, name, value)| (service, name.to_owned(), value.to_owned()));
    let shop = Shop::start(ShopOptions {
        home: Some(options.home.clone()),
        env: env.into(),
        binaries: options.binaries.clone(),
        durability: options.durability,
        proxied: true,
        progress: options.progress,
        ..ShopOptions::default()
    })
    .await?;
    let client = client(Duration::from_secs(5))?;
    let product = |sku: &str| format!("{}/v1/products/{sku}", shop.url(Service::Inventory));
    let scarce = json!({ "name": "The last cup of its kind", "price": 9_900, "currency": "EUR" });
    let listed = client.put(product(wish::SCARCE)).json(&scarce).send().await?;
    ensure!(
        listed.status().is_success(),
        "inventory does not list the scarce article"
    );
    let orders = (options.length.as_secs_f64() * options.orders_per_second) as i64 + 1;
    let plenty = wish::SKUS.map(|sku| (sku, orders * wish::MOST_PIECES));
    for (sku, delta) in plenty.into_iter().chain([(wish::SCARCE, SCARCE_PIECES)]) {
        let delivery = json!({ "delta": delta, "reason": "opening stock" });
        let taken = client
            .post(format!("{}/stock", product(sku)))
            .json(&delivery)
            .send()
            .await?;
        ensure!(taken.status().is_success(), "inventory takes no stock of {sku}");
    }
    shop.drained(TERMINAL_WITHIN).await?;
    Ok(shop)
}

/// Lets the plan happen, and returns what did once all of it is over.
async fn inject(options: &Options, striking: &Striking<'_>, customers: &Customers, started: Instant) -> Vec<Strike> {
    let tell = options.progress;
    let plan = Plan::of(options.seed).take_while(|strike| strike.at < options.length);
    let strikes: Vec<Strike> = plan.collect();
    let mut under_way: FuturesUnordered<_> = strikes
        .iter()
        .map(|strike| async move {
            sleep_until(started + strike.at).await;
            let lasts = strike.lasts.as_secs_f64();
            let begun = || tell(&format!("{}  {} ({lasts:.1} s)", time(started), strike.fault));
            striking.strike(*strike, begun).await;
        })
        .collect();
    let mut ticks = interval(TELL_EVERY);
    ticks.tick().await;
    loop {
        tokio::select! {
            struck = under_way.next() => if struck.is_none() { break },
            _ = ticks.tick() => {
                let log = customers.log();
                let (accepted, repeats) = (log.client.accepted.len(), log.repeats);
                tell(&format!("{}  {accepted} orders accepted, {repeats} requests repeated", time(started)));
            }
        }
    }
    drop(under_way);
    sleep_until(started + options.length).await;
    strikes
}

fn time(started: Instant) -> String {
    format!("{:7.1} s", started.elapsed().as_secs_f64())
}

/// Looks again and again for what must never be true; what cannot be read just now is no breach.
async fn audit_always(shop: &Shop, length: Duration) -> Vec<String> {
    let (audit, end) = (Audit::of(Addresses::of(shop)), Instant::now() + length);
    let mut breaches = Vec::new();
    while Instant::now() + AUDIT_EVERY < end {
        sleep(AUDIT_EVERY).await;
        let Ok(report) = audit.run(Scope::Always).await else {
            continue;
        };
        breaches.extend(outcome::broken(&report).map(|breach| format!("meanwhile: {breach}")));
    }
    breaches.sort();
    breaches.dedup();
    breaches
}

/// Every order comes to its end, and then nothing is on its way any more.
async fn drain(shop: &Shop, healed: Instant, tell: fn(&str), outcome: &mut Outcome) -> Result<()> {
    let mut told = Instant::now();
    loop {
        let open = outcome::unfinished(shop).await?;
        if open.is_empty() {
            break;
        }
        if healed.elapsed() > TERMINAL_WITHIN {
            let stuck = open.iter().map(|(id, state)| {
                format!("order {id} is still {state} {TERMINAL_WITHIN:?} after everything was healed")
            });
            outcome.breaches.extend(stuck);
            break;
        }
        if told.elapsed() > Duration::from_secs(2) {
            tell(&format!("  {} orders to go", open.len()));
            told = Instant::now();
        }
        sleep(Duration::from_millis(250)).await;
    }
    outcome.terminal_after = healed.elapsed();
    // A mail that was under way when its service died waits for the end of its lease.
    let audit = Audit::of(Addresses::of(shop));
    if let Err(error) = audit.drain(QUIET_WITHIN, |waiting| tell(&format!("  {waiting}"))).await {
        outcome.breaches.push(format!("{error:#}"));
    }
    Ok(())
}

/// Straight to 127.0.0.1, whatever proxy the machine has.
fn client(patience: Duration) -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(patience).build()?)
}
