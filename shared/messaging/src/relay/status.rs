//! What an operator asks about the relay.

use serde::Serialize;
use sqlx::PgExecutor;

use super::Kind;
use super::slot::{self, Slot};

/// What this replica's relay does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Nothing yet, or another replica publishes.
    #[default]
    StandingBy,
    /// It publishes what the table holds; why, if it should not.
    Polling(String),
    /// It publishes what the log tells.
    Following,
}

/// The relay of this replica, and the slot that all replicas share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What it was told to be.
    pub kind: Kind,
    /// `polling`, `following` or `standing by`.
    pub state: &'static str,
    /// Why it does not follow the log although it should.
    pub because: Option<String>,
    /// None while all replicas poll.
    pub slot: Option<Slot>,
}

impl Status {
    /// What is known here, and what the server says of the slot.
    pub async fn of(kind: Kind, standing: Standing, db: impl PgExecutor<'_>) -> sqlx::Result<Self> {
        let (state, because) = match standing {
            _ if kind == Kind::Polling => ("polling", None),
            Standing::StandingBy => ("standing by", None),
            Standing::Polling(because) => ("polling", Some(because)),
            Standing::Following => ("following", None),
        };
        let slot = slot::status(db).await?;
        Ok(Self {
            kind,
            state,
            because,
            slot,
        })
    }
}
