//! A load test of `load-tests/`, and the audit after it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use xtask::audit::{Audit, Scope};
use xtask::k6::{K6, Run, script};
use xtask::shop::Service;

use super::super::audit;
use super::super::ink::say;
use super::super::running::Running;
use crate::workspace::root;

/// How long what follows from the last order may take: mails, for instance.
const REST_WITHIN: Duration = Duration::from_secs(300);

/// What k6 has left behind.
pub(super) struct Driven {
    passed: bool,
    audit: Audit,
}

/// Runs the load test of this name.
pub(super) async fn run(name: &str, shop: &Running, is_own: bool) -> Result<Driven> {
    let script = script(&root()?, name)?;
    let k6 = K6::find_or_install(say).await?;
    say(&format!("k6 runs {}.", script.display()));
    let run = Run {
        script: &script,
        order_url: &shop.service(Service::Order)?.url,
        inventory_url: &shop.service(Service::Inventory)?.url,
        settings: &[],
    };
    let outcome = k6.run(&run).await?;
    let audit = Audit::of(shop.addresses()?);
    let audit = match outcome.customers {
        Some(customers) if is_own => audit.with_client(customers),
        // In a shop that others use as well there are orders that these customers never asked for.
        _ => audit,
    };
    let passed = outcome.passed;
    Ok(Driven { passed, audit })
}

impl Driven {
    /// Fails when a threshold was crossed, and when an invariant does not hold.
    pub(super) async fn audit(self) -> Result<ExitCode> {
        let audited = audit::check(&self.audit, Scope::Everything, REST_WITHIN).await?;
        if self.passed {
            return Ok(audited);
        }
        say("k6 has crossed a threshold, or did not come to its end.");
        Ok(ExitCode::FAILURE)
    }
}
