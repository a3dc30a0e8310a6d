//! `cargo shop order`.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, FixedOffset};
use clap::Args;
use reqwest::Client;
use serde_json::{Value, json};
use uuid::Uuid;
use xtask::shop::Service;

use super::client;
use super::ink::Ink;
use super::running::Running;

/// How long an order is followed.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);
const FINAL: [&str; 3] = ["COMPLETED", "CANCELLED", "REFUNDED"];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The payment method: a test token of the sandbox gateway, `pm_card_chargeDeclined` for instance.
    #[arg(long, value_name = "TOKEN", default_value = "pm_card_visa")]
    card: String,
    /// The product; any of the catalogue when absent.
    #[arg(long)]
    sku: Option<String>,
    /// How many pieces.
    #[arg(long, default_value_t = 1)]
    quantity: i64,
    /// Where it goes; `XX` cannot be delivered to.
    #[arg(long, value_name = "CC", default_value = "DE")]
    country: String,
    /// The customer's address; a random one at example.com when absent.
    #[arg(long)]
    email: Option<String>,
    /// Once it has arrived, sends it back and follows the return.
    #[arg(long = "return")]
    send_back: bool,
}

/// What was printed of an order already.
#[derive(Default)]
struct Shown {
    events: HashSet<String>,
    first: Option<DateTime<FixedOffset>>,
}

/// Where an order is placed and looked at.
struct Counter {
    client: Client,
    orders: String,
    products: String,
    viewer: Option<String>,
}

pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let (counter, ink) = (Counter::find().await?, Ink::of_stdout());
    let Some(order) = counter.place(&options, ink).await? else {
        return Ok(ExitCode::FAILURE);
    };
    let mut order = counter.follow(&order, &mut Shown::default(), ink).await?;
    if options.send_back && text(&order, "state") == "COMPLETED" {
        order = counter.send_back(&order, ink).await?;
    }
    let state = text(&order, "state");
    let shown = if ["COMPLETED", "REFUNDED"].contains(&state.as_str()) {
        ink.good(&state)
    } else {
        ink.warning(&state)
    };
    match order["reason"].as_str() {
        Some(reason) => println!("{shown}: {reason}"),
        None => println!("{shown}"),
    }
    if let Some(viewer) = &counter.viewer {
        println!("{viewer}/trace/{}", text(&order, "trace_id"));
    }
    Ok(ExitCode::SUCCESS)
}

impl Counter {
    /// Of the shop that `up` runs, or of any other one on the usual ports.
    async fn find() -> Result<Self> {
        let running = Running::look()?;
        let url = |service: Service| match &running {
            Some(running) => running.service(service).map(|running| running.url.clone()),
            None => Ok(format!("http://127.0.0.1:{}", service.port())),
        };
        Ok(Self {
            client: client()?,
            orders: format!("{}/v1/orders", url(Service::Order)?),
            products: format!("{}/v1/products", url(Service::Inventory)?),
            viewer: match &running {
                Some(running) => running.viewer_url.clone(),
                None => Some("http://127.0.0.1:16686".to_owned()),
            },
        })
    }

    /// Places the order; none when it was refused, with the reason shown.
    async fn place(&self, options: &Options, ink: Ink) -> Result<Option<Value>> {
        let sku = match &options.sku {
            Some(sku) => sku.clone(),
            None => self.any_sku().await?,
        };
        let name = fastrand::choice(["Ada", "Edsger", "Grace", "Barbara", "Leslie", "Tony"]).unwrap_or("Ada");
        let number = fastrand::u32(1..1_000_000);
        let random = || format!("{}.{number}@example.com", name.to_lowercase());
        let order = json!({
            "customer": { "id": Uuid::now_v7(), "email": options.email.clone().unwrap_or_else(random) },
            "lines": [{ "sku": sku, "quantity": options.quantity }],
            "ship_to": {
                "name": name, "street": "Harbour Street 1", "city": "Hamburg", "postal_code": "20457",
                "country": options.country,
            },
            "payment_method": options.card,
        });
        let sent = self.client.post(&self.orders).json(&order).send().await;
        let answer = sent.context("the order service does not answer: cargo shop up starts it")?;
        let status = answer.status();
        let answer: Value = answer
            .json()
            .await
            .with_context(|| format!("{status} without a readable body"))?;
        if !status.is_success() {
            println!(
                "{} {}",
                ink.bad(&format!("refused with {status}:")),
                text(&answer, "detail")
            );
            return Ok(None);
        }
        println!("{} {}", ink.good(&status.to_string()), ink.bold(&text(&answer, "id")));
        Ok(Some(answer))
    }

    async fn any_sku(&self) -> Result<String> {
        let listed = self.client.get(&self.products).query(&[("limit", "100")]).send().await;
        let page: Value = listed
            .context("the inventory service does not answer: cargo shop up starts it")?
            .json()
            .await?;
        let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
        let sold = items.iter().filter(|item| item["available"].as_i64() > Some(0));
        let product = fastrand::choice(sold.collect::<Vec<_>>()).context("the catalogue has nothing in stock")?;
        Ok(text(product, "sku"))
    }

    /// Shows every event until the order is at its end, and returns it as it is then.
    async fn follow(&self, placed: &Value, shown: &mut Shown, ink: Ink) -> Result<Value> {
        let url = format!("{}/{}", self.orders, text(placed, "id"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            // In this order: the timeline of a final order is complete.
            let order = self.get(&url).await?;
            let timeline = self.get(&format!("{url}/timeline")).await?;
            for event in timeline["items"].as_array().into_iter().flatten() {
                if shown.events.insert(text(event, "event_id")) {
                    let at = DateTime::parse_from_rfc3339(&text(event, "occurred_at"))?;
                    println!("{}", line(event, at - *shown.first.get_or_insert(at), ink));
                }
            }
            if FINAL.contains(&text(&order, "state").as_str()) {
                return Ok(order);
            }
            if Instant::now() > deadline {
                bail!("the order is still {} after {PATIENCE:?}", text(&order, "state"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks for every line to be taken back, and follows the order to its end once more.
    async fn send_back(&self, order: &Value, ink: Ink) -> Result<Value> {
        let url = format!("{}/{}", self.orders, text(order, "id"));
        let mut shown = Shown::default();
        for event in self.get(&format!("{url}/timeline")).await?["items"]
            .as_array()
            .into_iter()
            .flatten()
        {
            shown.events.insert(text(event, "event_id"));
        }
        let lines = order["lines"].as_array().cloned().unwrap_or_default();
        let lines = lines
            .iter()
            .map(|line| json!({ "sku": line["sku"], "quantity": line["quantity"] }));
        let wish = json!({ "lines": lines.collect::<Vec<_>>(), "reason": "changed my mind" });
        let asked = self.client.post(format!("{url}/returns")).json(&wish).send().await?;
        let status = asked.status();
        let answer: Value = asked.json().await?;
        if !status.is_success() {
            bail!("the return was refused with {status}: {}", text(&answer, "detail"));
        }
        println!(
            "{} return {}",
            ink.good(&status.to_string()),
            ink.bold(&text(&answer, "return_id"))
        );
        self.follow(order, &mut shown, ink).await
    }

    async fn get(&self, url: &str) -> Result<Value> {
        Ok(self.client.get(url).send().await?.error_for_status()?.json().await?)
    }
}

fn line(event: &Value, after: chrono::TimeDelta, ink: Ink) -> String {
    let time = format!("{:>7} ms", after.num_milliseconds());
    format!(
        "{} {} {}",
        ink.dim(&time),
        ink.program(&text(event, "producer")),
        text(event, "type")
    )
}

fn text(of: &Value, field: &str) -> String {
    of[field].as_str().unwrap_or_default().to_owned()
}
