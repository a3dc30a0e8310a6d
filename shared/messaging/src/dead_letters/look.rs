//! What an operator sees of dead letters. Only [`show`] tells what an event holds.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

/// A dead letter without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Its number here; a list goes from the newest to the oldest.
    #[serde(skip)]
    pub id: i64,
    /// The event.
    pub event_id: Uuid,
    /// `dead`, `parked`, `redriven` or `discarded`.
    pub state: String,
    /// Why it is here.
    pub reason: String,
    /// How often it was tried.
    pub attempts: i64,
    /// Its CloudEvents type.
    pub event_type: String,
    /// The order, or the sku, that it is about.
    pub subject: String,
    /// When it came here, or failed last.
    pub buried_at: DateTime<Utc>,
    /// When it was handled or discarded.
    pub closed_at: Option<DateTime<Utc>>,
}

/// Which dead letters a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state; none: the open ones.
    pub state: Option<String>,
    /// For exactly this reason.
    pub reason: Option<String>,
    /// Of exactly this CloudEvents type.
    pub event_type: Option<String>,
    /// Those before this one, which is the last of the page before.
    pub before: Option<i64>,
}

/// The newest first.
pub async fn list(pool: &PgPool, consumer: &str, filter: &Filter, limit: i64) -> sqlx::Result<Vec<DeadLetter>> {
    sqlx::query_as!(
        DeadLetter,
        r#"
        select id, event_id, state, reason, attempts, event_type, subject, buried_at, closed_at
        from dead_letters
        where consumer = $1 and id < $2
          and case when $3::text is null then closed_at is null else state = $3 end
          and ($4::text is null or reason = $4) and ($5::text is null or event_type = $5)
        order by id desc limit $6
        "#,
        consumer,
        filter.before.unwrap_or(i64::MAX),
        filter.state.as_deref(),
        filter.reason.as_deref(),
        filter.event_type.as_deref(),
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Events of one type that are dead for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Their CloudEvents type.
    pub event_type: String,
    /// Why they are dead.
    pub reason: String,
    /// How many there are.
    pub count: i64,
    /// When the first of them came here.
    pub oldest: DateTime<Utc>,
    /// When the last of them came here.
    pub newest: DateTime<Utc>,
}

/// The dead events by type and reason, the greatest group first.
pub async fn groups(pool: &PgPool, consumer: &str) -> sqlx::Result<Vec<Group>> {
    sqlx::query_as!(
        Group,
        r#"
        select event_type, reason, count(*) as "count!", min(buried_at) as "oldest!", max(buried_at) as "newest!"
        from dead_letters where consumer = $1 and state = 'dead'
        group by event_type, reason order by count(*) desc, event_type, reason limit 100
        "#,
        consumer,
    )
    .fetch_all(pool)
    .await
}

/// How many dead letters are open, those that only wait behind another one, or for a redrive under way, apart.
pub async fn open(pool: &PgPool) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"
        select count(*) filter (where state = 'dead') as "dead!", count(*) filter (where state <> 'dead') as "waiting!"
        from dead_letters where closed_at is null
        "#
    )
    .fetch_one(pool)
    .await?;
    Ok((row.dead, row.waiting))
}

/// A dead letter with everything that is known of it, personal data included.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// What a list shows.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The NATS subject that it came on.
    pub nats_subject: String,
    /// Its stream.
    pub stream: String,
    /// Its place there.
    pub stream_sequence: i64,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// Its headers; several values of one name are a list.
    pub headers: Value,
    /// What it holds, when that is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// What it holds, when that is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// What was done about it, the oldest first.
    pub history: Vec<Action>,
}

/// Something that was done about a dead letter, or came of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// An operator, or the service.
    pub who: String,
    /// `redrive`, `discard`, `handled` or `failed`.
    pub what: String,
    /// Of a redrive, what the event was dead of; of a discard, the operator's; of a failure, the fault.
    pub reason: Option<String>,
    /// When.
    pub happened_at: DateTime<Utc>,
}

/// One dead letter, if there is such.
pub async fn show(pool: &PgPool, consumer: &str, event_id: Uuid) -> sqlx::Result<Option<Shown>> {
    let row = sqlx::query!(
        r#"
        select id, event_id, state, reason, attempts, event_type, subject, buried_at, closed_at, nats_subject, stream,
               stream_sequence, headers, payload, translate(encode(payload, 'base64'), E'\n', '') as "base64!"
        from dead_letters where consumer = $1 and event_id = $2
        "#,
        consumer,
        event_id,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let payload: Option<Value> = serde_json::from_slice(&row.payload).ok();
    let trace_id = row.headers["traceparent"]
        .as_str()
        .and_then(|parent| parent.split('-').nth(1));
    Ok(Some(Shown {
        trace_id: trace_id.map(str::to_owned),
        payload_base64: payload.is_none().then_some(row.base64),
        payload,
        letter: DeadLetter {
            id: row.id,
            event_id: row.event_id,
            state: row.state,
            reason: row.reason,
            attempts: row.attempts,
            event_type: row.event_type,
            subject: row.subject,
            buried_at: row.buried_at,
            closed_at: row.closed_at,
        },
        nats_subject: row.nats_subject,
        stream: row.stream,
        stream_sequence: row.stream_sequence,
        headers: row.headers,
        history: history(pool, consumer, event_id).await?,
    }))
}

async fn history(pool: &PgPool, consumer: &str, event_id: Uuid) -> sqlx::Result<Vec<Action>> {
    sqlx::query_as!(
        Action,
        r#"
        select who, what, reason, happened_at from dead_letter_actions
        where consumer = $1 and event_id = $2 order by id
        "#,
        consumer,
        event_id,
    )
    .fetch_all(pool)
    .await
}
