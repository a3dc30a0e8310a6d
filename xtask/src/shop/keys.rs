//! The passwords of a shop's broker: made anew at each start, and kept nowhere but in memory and in `.shop/run.json`.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::rights::{users, variable};

/// A password for each user; none where everybody is let in.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<&'static str, String>);

impl Keys {
    /// Fresh ones for the users of the wiring tables, and for those besides.
    pub(super) fn fresh(more: &[&'static str]) -> Self {
        let all = users().chain(more.iter().copied());
        // nats-server reads what begins with a digit as a number.
        Self(
            all.map(|user| (user, format!("k{}", Uuid::now_v7().simple())))
                .collect(),
        )
    }

    /// What nats-server finds them in.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let all = self.0.iter();
        all.map(|(user, password)| (variable(user), password.clone())).collect()
    }

    /// The addresses of the broker's servers, each `host:port`, comma-separated, for somebody.
    pub(super) fn url(&self, addresses: &str, user: &str) -> String {
        let url = |address: &str| match self.0.get(user) {
            Some(password) => format!("nats://{user}:{password}@{address}"),
            None => format!("nats://{address}"),
        };
        addresses.split(',').map(url).collect::<Vec<_>>().join(",")
    }
}
