//! `cargo shop dead-letters`: what could not be handled, over the operator's endpoints of the services.

mod show;
mod table;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;
use xtask::shop::Service;

use super::client;
use super::ink::Ink;
use super::running::Running;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Of this service only.
    #[arg(long, global = true)]
    service: Option<Service>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows the open ones, without what they hold. This is the default.
    List {
        /// Those in this state: dead, parked, redriven, discarded.
        #[arg(long)]
        state: Option<String>,
        /// How many of each service, at most.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Counts the dead ones by event and reason.
    Groups,
    /// Shows everything about one, also what it holds.
    Show {
        /// The event.
        id: Uuid,
    },
    /// Has dead events tried again; what is parked behind them follows.
    Redrive(Redrive),
    /// Gives one up for ever; what is parked behind it follows.
    Discard {
        /// The event.
        id: Uuid,
        /// Why; it is kept.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        by: By,
    },
}

#[derive(Debug, Args)]
struct By {
    /// Who decides so; it is kept.
    #[arg(long, env = "USER", default_value = "operator", hide_env_values = true)]
    by: String,
}

#[derive(Debug, Args)]
struct Redrive {
    /// The event.
    #[arg(required_unless_present_any = ["reason", "event_type", "all"])]
    id: Option<Uuid>,
    /// Instead: all that are dead for exactly this reason.
    #[arg(long, conflicts_with = "id")]
    reason: Option<String>,
    /// Instead: all of this type, `shop.order.OrderPlaced.v1` for instance.
    #[arg(long, value_name = "TYPE", conflicts_with = "id")]
    event_type: Option<String>,
    /// Instead: all.
    #[arg(long, conflicts_with_all = ["id", "reason", "event_type"])]
    all: bool,
    /// Only counts them.
    #[arg(long, conflicts_with = "id")]
    dry_run: bool,
    /// How many a second, in each service.
    #[arg(long, value_name = "N", conflicts_with = "id")]
    per_second: Option<u32>,
    #[command(flatten)]
    by: By,
}

pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let desk = Desk::find(options.service)?;
    match options.verb.unwrap_or(Verb::List { state: None, limit: 20 }) {
        Verb::List { state, limit } => desk.list(state.as_deref(), limit).await,
        Verb::Groups => desk.groups().await,
        Verb::Show { id } => desk.show(id).await,
        Verb::Redrive(redrive) => match redrive.id {
            Some(id) => desk.redrive_one(id, &redrive.by.by).await,
            None => desk.redrive_matching(&redrive).await,
        },
        Verb::Discard { id, reason, by } => desk.discard(id, &reason, &by.by).await,
    }
}

/// The operator's endpoints of the services that are asked.
struct Desk {
    client: Client,
    services: Vec<(Service, String)>,
    ink: Ink,
}

impl Desk {
    /// Of the shop that `up` runs, or of any other one on the usual ports.
    fn find(only: Option<Service>) -> Result<Self> {
        let running = Running::look()?;
        let url = |service: Service| match &running {
            Some(running) => running.service(service).map(|running| running.admin_url.clone()),
            None => Ok(format!("http://127.0.0.1:{}", service.admin_port())),
        };
        let asked = Service::ALL
            .into_iter()
            .filter(|service| only.is_none_or(|only| only == *service));
        Ok(Self {
            client: client()?,
            services: asked
                .map(|service| Ok((service, url(service)?)))
                .collect::<Result<_>>()?,
            ink: Ink::of_stdout(),
        })
    }

    async fn list(&self, state: Option<&str>, limit: u32) -> Result<ExitCode> {
        let (mut rows, mut more, mut complete) = (Vec::new(), false, true);
        for (service, url) in &self.services {
            let asked = self.client.get(format!("{url}/admin/dead-letters"));
            let asked = asked.query(&[("limit", limit)]).query(&[("state", state)]);
            let Some(page) = self.page(*service, asked).await else {
                complete = false;
                continue;
            };
            more |= !page["next_cursor"].is_null();
            rows.extend(items(page).into_iter().map(|letter| (*service, letter)));
        }
        table::letters(&rows, self.ink);
        if more {
            println!("There are more: --limit shows up to 100, groups counts them.");
        }
        Ok(status(complete))
    }

    async fn groups(&self) -> Result<ExitCode> {
        let (mut rows, mut complete) = (Vec::new(), true);
        for (service, url) in &self.services {
            let asked = self.client.get(format!("{url}/admin/dead-letters/groups"));
            let page = self.page(*service, asked).await;
            complete &= page.is_some();
            rows.extend(
                page.map(items)
                    .unwrap_or_default()
                    .into_iter()
                    .map(|group| (*service, group)),
            );
        }
        table::groups(&rows, self.ink);
        Ok(status(complete))
    }

    /// A page of one service; why there is none is shown, and the others are asked all the same.
    async fn page(&self, service: Service, asked: reqwest::RequestBuilder) -> Option<Value> {
        match self.answer(service, asked).await {
            Ok((_, page)) => Some(page),
            Err(error) => {
                eprintln!("{}", self.ink.bad(&format!("{error:#}")));
                None
            }
        }
    }

    async fn show(&self, id: Uuid) -> Result<ExitCode> {
        for (service, letter) in self.holders(id).await? {
            show::letter(service, &letter, self.ink);
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn redrive_one(&self, id: Uuid, by: &str) -> Result<ExitCode> {
        let service = self.holder(id).await?;
        self.post(service, &format!("{id}/redrive"), &json!({ "by": by }))
            .await?;
        println!("{service} tries {id} again: cargo shop dead-letters show {id} tells what comes of it.");
        Ok(ExitCode::SUCCESS)
    }

    async fn redrive_matching(&self, redrive: &Redrive) -> Result<ExitCode> {
        let mut wish = json!({ "dry_run": redrive.dry_run, "by": redrive.by.by });
        if redrive.all {
            wish["all"] = true.into();
        }
        let texts = [("reason", &redrive.reason), ("event_type", &redrive.event_type)];
        for (name, text) in texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.as_deref()?)))
        {
            wish[name] = text.into();
        }
        if let Some(per_second) = redrive.per_second {
            wish["per_second"] = per_second.into();
        }
        let mut all = 0;
        for (service, _) in &self.services {
            let answer = self.post(*service, "redrive", &wish).await?;
            let events = answer["events"].as_i64().unwrap_or_default();
            all += events;
            if events > 0 {
                println!("{} {events}", self.ink.program(service.name()));
            }
        }
        match (all, redrive.dry_run) {
            (0, _) => println!("No dead event matches."),
            (1, true) => println!("1 event would be tried again."),
            (_, true) => println!("{all} events would be tried again."),
            (1, false) => println!("1 event is being tried again."),
            (_, false) => println!("{all} events are being tried again."),
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn discard(&self, id: Uuid, reason: &str, by: &str) -> Result<ExitCode> {
        let service = self.holder(id).await?;
        let wish = json!({ "reason": reason, "by": by });
        self.post(service, &format!("{id}/discard"), &wish).await?;
        println!("{service} has discarded {id}.");
        Ok(ExitCode::SUCCESS)
    }

    /// The one service that has this dead letter; an event can be one in several.
    async fn holder(&self, id: Uuid) -> Result<Service> {
        let holders = self.holders(id).await?;
        match holders.as_slice() {
            [(service, _)] => Ok(*service),
            several => {
                let names: Vec<_> = several.iter().map(|(service, _)| service.name()).collect();
                bail!(
                    "{id} is a dead letter in {}: say which with --service",
                    names.join(" and in ")
                )
            }
        }
    }

    /// Every service that has this dead letter, with it.
    async fn holders(&self, id: Uuid) -> Result<Vec<(Service, Value)>> {
        let mut found = Vec::new();
        for (service, url) in &self.services {
            let asked = self.client.get(format!("{url}/admin/dead-letters/{id}"));
            if let (StatusCode::OK, letter) = self.answer(*service, asked).await? {
                found.push((*service, letter));
            }
        }
        if found.is_empty() {
            bail!("there is no dead letter {id}");
        }
        Ok(found)
    }

    async fn post(&self, service: Service, path: &str, body: &Value) -> Result<Value> {
        let of = self.services.iter().find(|(known, _)| *known == service);
        let url = of.map(|(_, url)| url).context("this service was not asked")?;
        let asked = self
            .client
            .request(Method::POST, format!("{url}/admin/dead-letters/{path}"))
            .json(body);
        let (status, answer) = self.answer(service, asked).await?;
        if status == StatusCode::NOT_FOUND {
            bail!("{service}: {}", text(&answer, "detail"));
        }
        Ok(answer)
    }

    /// What the service says; a refusal is an error in its words, except that something is not there.
    async fn answer(&self, service: Service, asked: reqwest::RequestBuilder) -> Result<(StatusCode, Value)> {
        let sent = asked.send().await;
        let answer = sent.with_context(|| format!("{service} does not answer: cargo shop up starts the shop"))?;
        let status = answer.status();
        let body: Value = answer
            .json()
            .await
            .with_context(|| format!("{service} answers {status}"))?;
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            bail!("{service}: {}", text(&body, "detail"));
        }
        Ok((status, body))
    }
}

fn status(complete: bool) -> ExitCode {
    if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn items(page: Value) -> Vec<Value> {
    match page {
        Value::Object(mut page) => match page.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}
