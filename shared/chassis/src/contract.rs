//! The service's part of the contract: agreed upon with everybody else before an event is heard or told.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::jetstream;
use axum::Json;
use axum::extract::State;
use events::contract::Contract;
use messaging::registry::{self, InUse, Registered};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;

/// How long the broker may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long until it is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked whether it still knows the contract.
const REMIND: Duration = Duration::from_secs(15);

/// Whether the contract fits those of the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agreement {
    /// Cancelled once it does.
    reached: CancellationToken,
    refusal: Arc<OnceLock<String>>,
}

impl Agreement {
    /// Runs something once there is agreement; nothing of it happens when shutdown comes first.
    pub(crate) async fn before(self, shutdown: CancellationToken, work: impl Future<Output = ()>) {
        if shutdown.run_until_cancelled(self.reached.cancelled()).await.is_some() {
            work.await;
        }
    }

    /// Why there is none and never will be.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }

    /// Registers the contract as soon as the broker is there; a conflict ends the service.
    pub(crate) async fn seek(
        self,
        jetstream: jetstream::Context,
        service: &'static str,
        contract: Contract,
        shutdown: CancellationToken,
    ) {
        let mut said = None;
        let registered = async {
            loop {
                match asked(registry::register(&jetstream, service, &contract)).await {
                    Ok(registered) => return registered,
                    // Once a reason: it may stay so for as long as the broker is away.
                    Err(reason) if said.as_ref() != Some(&reason) => {
                        tracing::warn!(
                            reason,
                            "cannot compare contracts now, still trying; no event is heard or told"
                        );
                        said = Some(reason);
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match shutdown.run_until_cancelled(registered).await {
            Some(Registered::Compatible) => {
                tracing::info!("the contract fits those of all others");
                self.reached.cancel();
                remind(&jetstream, service, &contract, &shutdown).await;
            }
            Some(Registered::Refused(conflicts)) => {
                let sentences: Vec<_> = conflicts.iter().map(|conflict| conflict.refusal(service)).collect();
                let refusal = sentences.join("; ");
                tracing::error!("{refusal}");
                let _ = self.refusal.set(refusal);
                shutdown.cancel();
            }
            None => {}
        }
    }
}

/// Registers again when the registry was lost with its broker.
async fn remind(
    jetstream: &jetstream::Context,
    service: &'static str,
    contract: &Contract,
    shutdown: &CancellationToken,
) {
    let pause = || shutdown.run_until_cancelled(tokio::time::sleep(REMIND));
    while pause().await.is_some() {
        let in_use = asked(registry::in_use(jetstream)).await;
        if in_use.is_ok_and(|in_use| !in_use.contains_key(service)) {
            let again = asked(registry::register(jetstream, service, contract)).await;
            tracing::warn!(?again, "the registry of contracts had forgotten this one");
        }
    }
}

async fn asked<T>(answer: impl Future<Output = anyhow::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_) => Err("the broker does not answer".into()),
    }
}

/// What the operator sees of the contract.
#[derive(Debug, Serialize)]
pub(crate) struct ContractView {
    emits: BTreeMap<String, Side>,
    accepts: BTreeMap<String, Side>,
    /// Whether the registry could be asked who the others are.
    registry: bool,
}

#[derive(Debug, Serialize)]
struct Side {
    /// Who else uses it: hears what is emitted, or tells what is accepted.
    used_by: Vec<String>,
    schema: Value,
}

pub(crate) async fn show(State(admin): State<Admin>) -> Json<ContractView> {
    let in_use = asked(registry::in_use(&admin.jetstream)).await;
    let registry = in_use.is_ok();
    let in_use = in_use.unwrap_or_default();
    let Contract { emits, accepts } = admin.contract;
    Json(ContractView {
        emits: sides(emits, |label| having(&in_use, label, |other| &other.accepts)),
        accepts: sides(accepts, |label| having(&in_use, label, |other| &other.emits)),
        registry,
    })
}

fn sides(schemas: BTreeMap<String, Value>, users: impl Fn(&str) -> Vec<String>) -> BTreeMap<String, Side> {
    let side = |(label, schema): (String, Value)| {
        let used_by = users(&label);
        (label, Side { used_by, schema })
    };
    schemas.into_iter().map(side).collect()
}

fn having(in_use: &InUse, label: &str, side: fn(&Contract) -> &BTreeMap<String, Value>) -> Vec<String> {
    let users = in_use.iter().filter(|(_, contract)| side(contract).contains_key(label));
    users.map(|(name, _)| name.clone()).collect()
}
