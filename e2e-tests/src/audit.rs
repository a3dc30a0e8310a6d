//! What must be true of the whole shop: the audit, as tests ask for it.

use anyhow::Context as _;
use xtask::audit::{Addresses, Audit, Scope};

use crate::{PATIENCE, World};

/// What does not hold while a broker has forgotten something.
const PUBLISHED: &str = "the-streams-hold-what-was-published";

impl World {
    /// An auditor of this shop.
    pub fn auditor(&self) -> Audit {
        Audit::of(Addresses::of(&self.shop))
    }

    /// Waits for rest; then every invariant holds.
    pub async fn audit(&self) {
        self.audit_with(self.auditor()).await;
    }

    /// Waits for rest; then every invariant holds, but for the breaches that this auditor allows.
    pub async fn audit_with(&self, auditor: Audit) {
        self.drained().await.unwrap_or_else(|error| panic!("{error:#}"));
        check(&auditor, Scope::Everything).await;
        assert_eq!(self.violations(), Vec::<String>::new(), "somebody lacks a right");
    }

    /// Waits until every stream holds again what its owner once published to it: a service that has nothing to tell only
    /// looks for it now and then.
    pub async fn remembered(&self) {
        let looked = self.until("the streams hold what was published", || async {
            let report = self.auditor().run(Scope::Everything).await?;
            let mut lines = report.lines.iter();
            let line = lines.find(|line| line.invariant.name == PUBLISHED);
            let line = line.context("the audit does not ask what the streams hold")?;
            Ok(line.breaches.is_empty().then_some(()))
        });
        looked.await.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// What the broker has refused since it was started, line by line.
    pub fn violations(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.shop.nats().folder().join("server.log")).unwrap_or_default();
        let refused = log.lines().filter(|line| line.contains("Violation"));
        refused.map(str::to_owned).collect()
    }

    /// What holds at every moment holds now, whatever is broken or on its way.
    pub async fn audit_always(&self) {
        check(&self.auditor(), Scope::Always).await;
    }

    /// Waits until every order is at its end, every outbox empty, every event heard and every mail sent.
    pub async fn drained(&self) -> anyhow::Result<()> {
        self.auditor().drain(PATIENCE, |_| {}).await
    }
}

async fn check(auditor: &Audit, scope: Scope) {
    let report = auditor.run(scope).await;
    let report = report.unwrap_or_else(|error| panic!("the audit cannot be made: {error:#}"));
    assert!(report.is_sound(), "the audit failed:\n{report}");
}
