//! Making the faults of a plan happen to a shop, and undoing them.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::Proxy;
use tokio::sync::Mutex as Turn;
use tokio::time::{Instant, sleep};

use super::plan::{Fault, Harm, Strike};
use crate::shop::{Service, Shop};

/// How long anything may take to come back.
const BACK_WITHIN: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(200);
/// Processes, broker, databases, gateway, refunds, links to databases, links to the broker.
const TARGETS: usize = 6 + 4 + 6 + 6;

/// Does to a shop what a plan says.
pub(super) struct Striking<'a> {
    shop: &'a Shop,
    client: reqwest::Client,
    /// Faults that befall the same thing take turns.
    turns: [Turn<()>; TARGETS],
    /// Programs that ended without being told to, and what could not be undone.
    surprises: Mutex<Vec<String>>,
}

impl<'a> Striking<'a> {
    pub(super) fn at(shop: &'a Shop) -> Result<Self> {
        Ok(Self {
            shop,
            client: super::client(Duration::from_secs(2))?,
            turns: std::array::from_fn(|_| Turn::new(())),
            surprises: Mutex::default(),
        })
    }

    /// Begins one fault, waits for as long as it lasts, and ends it.
    pub(super) async fn strike(&self, strike: Strike, begun: impl FnOnce()) {
        let _turn = self.turns[target(strike.fault)].lock().await;
        begun();
        let outcome = async {
            self.inflict(strike.fault).await?;
            sleep(strike.lasts).await;
            self.undo(strike.fault).await
        };
        if let Err(error) = outcome.await {
            self.surprise(format!("{}: {error:#}", strike.fault));
        }
    }

    async fn inflict(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Killed(service) => self.shop.kill(service).await,
            Fault::Paused(service) => self.shop.pause(service).await,
            Fault::Restarted(service) => self.shop.stop_service(service).await,
            Fault::BrokerKilled => self.shop.nats().kill().await,
            Fault::DatabasesKilled => self.shop.postgres().kill().await,
            Fault::GatewayKilled => self.shop.kill_gateway().await,
            Fault::RefundsRefused => self.refunds("refuse").await,
            Fault::DatabaseLink(service, harm) => {
                harm_link(self.shop.database_link(service)?, harm);
                Ok(())
            }
            Fault::BrokerLink(service, harm) => {
                harm_link(self.shop.broker_link(service)?, harm);
                Ok(())
            }
        }
    }

    async fn undo(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Killed(service) | Fault::Restarted(service) => self.bring_back(service).await,
            Fault::Paused(service) => self.shop.resume(service).await,
            Fault::BrokerKilled => self.shop.nats().restart().await,
            Fault::DatabasesKilled => self.shop.postgres().restart().await,
            Fault::GatewayKilled => self.shop.start_gateway().await,
            Fault::RefundsRefused => self.refunds("accept").await,
            Fault::DatabaseLink(service, _) => {
                self.shop.database_link(service)?.heal();
                Ok(())
            }
            Fault::BrokerLink(service, _) => {
                self.shop.broker_link(service)?.heal();
                Ok(())
            }
        }
    }

    /// Starts a service again, as often as it takes: what it needs may be away.
    async fn bring_back(&self, service: Service) -> Result<()> {
        let deadline = Instant::now() + BACK_WITHIN;
        while let Err(error) = self.shop.start_service(service).await {
            ensure!(Instant::now() < deadline, "it does not come back: {error:#}");
            self.surprise(format!("a start of {service} failed: {error:#}"));
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Switches refunds at the gateway, which may be away.
    async fn refunds(&self, mode: &str) -> Result<()> {
        let url = format!("{}/sandbox/refunds/{mode}", self.shop.gateway_url());
        let deadline = Instant::now() + BACK_WITHIN;
        loop {
            match self.client.post(&url).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => anyhow::bail!("the gateway answers {}", answer.status()),
                Err(error) if Instant::now() > deadline => return Err(error).context("the gateway is away"),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    /// Starts what ended without being told to, for ever; each is a surprise.
    pub(super) async fn watch(&self) {
        loop {
            sleep(LOOK).await;
            for service in Service::ALL {
                let Ok(_turn) = self.turns[target(Fault::Killed(service))].try_lock() else {
                    continue;
                };
                if self.shop.pid(service).is_none() {
                    self.surprise(format!("{service} ended by itself"));
                    if let Err(error) = self.bring_back(service).await {
                        self.surprise(format!("{error:#}"));
                    }
                }
            }
        }
    }

    /// Ends whatever still harms the shop.
    pub(super) async fn heal(&self) -> Result<()> {
        for service in Service::ALL {
            self.shop.database_link(service)?.heal();
            self.shop.broker_link(service)?.heal();
        }
        self.shop.revive().await?;
        self.refunds("accept").await?;
        for service in Service::ALL {
            self.bring_back(service).await?;
        }
        Ok(())
    }

    pub(super) fn surprises(&self) -> Vec<String> {
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn surprise(&self, what: String) {
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

fn harm_link(link: &Proxy, harm: Harm) {
    match harm {
        Harm::Cut => link.cut(),
        Harm::Refused => link.refuse(),
        Harm::Stalled => link.stall(),
        Harm::Stranded => link.strand(),
        Harm::Slow(latency) => link.slow(latency),
        // With its final zero it is the statement, and not a word in somebody's data.
        Harm::CutAtCommit(when) => link.cut_at(*b"COMMIT\0", when),
    }
}

/// What a fault befalls.
fn target(fault: Fault) -> usize {
    match fault {
        Fault::Killed(service) | Fault::Paused(service) | Fault::Restarted(service) => service as usize,
        Fault::BrokerKilled => 6,
        Fault::DatabasesKilled => 7,
        Fault::GatewayKilled => 8,
        Fault::RefundsRefused => 9,
        Fault::DatabaseLink(service, _) => 10 + service as usize,
        Fault::BrokerLink(service, _) => 16 + service as usize,
    }
}
