//! The only SQL of the email service: a batch's working set, what is due, and the queries of the API.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{Customer, Event, Line, OrderCancelled, OrderConfirmed, OrderShipped};
use messaging::{Journal, Touched, Tx, WorkingSet, all_saved};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use telemetry::TraceContext;
use uuid::Uuid;

use crate::domain::{
    Asked, Content, Mailroom, Notification, OrderMail, Recipient, State, Template, Topic, message_id, notification_id,
};

impl WorkingSet for Mailroom {
    /// Locks the recipients in order of their ids; whoever holds an order's row may change its messages.
    async fn load(tx: &mut Tx, touched: &Touched) -> sqlx::Result<Self> {
        let mut mailroom = Self::default();
        let recipients = sqlx::query_as!(
            RecipientRow,
            r#"
            select order_id, customer_id, email, lines as "lines: Json<Vec<Line>>", total, currency, version
            from recipients where order_id = any($1) order by order_id for update
            "#,
            &touched.order_ids(),
        );
        for row in recipients.fetch_all(&mut **tx).await? {
            mailroom.orders.insert(row.order_id, row.into_order_mail());
        }
        // A statement of its own, so that it sees what the last holder of the lock committed.
        let notifications = sqlx::query!(
            r#"
            select order_id, state, variables as "variables: Json<Content>", version
            from notifications where order_id = any($1) order by order_id, template for update
            "#,
            &touched.order_ids(),
        );
        for row in notifications.fetch_all(&mut **tx).await? {
            let notification = Notification {
                state: State::from_sql(&row.state),
                content: row.variables.0,
                asked: None,
                delay: Duration::ZERO,
                version: row.version,
                changed: false,
            };
            let order = mailroom.orders.entry(row.order_id).or_default();
            order.notifications.insert(notification.content.topic(), notification);
        }
        Ok(mailroom)
    }

    async fn save(self, tx: &mut Tx, journal: &Journal) -> sqlx::Result<()> {
        let (mut recipients, mut notifications) = (Vec::new(), Vec::new());
        for (order_id, order) in &self.orders {
            recipients.extend(order.changed.then_some((*order_id, order)));
            let changed = order.notifications.values().filter(|one| one.changed);
            notifications.extend(changed.map(|one| (*order_id, one)));
        }
        save_recipients(tx, &recipients).await?;
        save_notifications(tx, &notifications, journal).await
    }
}

impl State {
    /// The word for it in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Pending => "PENDING",
            Self::Sent => "SENT",
            Self::Failed => "FAILED",
        }
    }

    /// The column is checked, so every word is one of ours.
    fn from_sql(word: &str) -> Self {
        match word {
            "WAITING" => Self::Waiting,
            "PENDING" => Self::Pending,
            "SENT" => Self::Sent,
            _ => Self::Failed,
        }
    }
}

struct RecipientRow {
    order_id: Uuid,
    customer_id: Option<Uuid>,
    email: Option<String>,
    lines: Option<Json<Vec<Line>>>,
    total: Option<i64>,
    currency: Option<String>,
    version: i64,
}

impl RecipientRow {
    fn into_order_mail(self) -> OrderMail {
        let all = (self.customer_id, self.email, self.lines, self.total, self.currency);
        let recipient = match all {
            (Some(id), Some(email), Some(Json(lines)), Some(total), Some(currency)) => Some(Recipient {
                customer: Customer { id, email },
                lines,
                total,
                currency,
            }),
            _ => None,
        };
        OrderMail {
            recipient,
            version: self.version,
            ..OrderMail::default()
        }
    }
}

async fn save_recipients(tx: &mut Tx, changed: &[(Uuid, &OrderMail)]) -> sqlx::Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let known = || changed.iter().map(|(_, order)| order.recipient.as_ref());
    let lines: Vec<Option<Json<&[Line]>>> = known()
        .map(|known| known.map(|one| Json(one.lines.as_slice())))
        .collect();
    let saved = sqlx::query!(
        r#"
        insert into recipients as known (order_id, customer_id, email, lines, total, currency, version)
        select order_id, customer_id, email, lines, total, currency, version + 1
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::bigint[], $6::text[], $7::bigint[])
            as t (order_id, customer_id, email, lines, total, currency, version)
        on conflict (order_id) do update
        set customer_id = excluded.customer_id, email = excluded.email, lines = excluded.lines,
            total = excluded.total, currency = excluded.currency, version = excluded.version
        where known.version = excluded.version - 1
        "#,
        &changed.iter().map(|(order_id, _)| *order_id).collect::<Vec<_>>(),
        &known()
            .map(|known| known.map(|one| one.customer.id))
            .collect::<Vec<_>>() as &[Option<Uuid>],
        &known()
            .map(|known| known.map(|one| one.customer.email.clone()))
            .collect::<Vec<_>>() as &[Option<String>],
        &lines as &[Option<Json<&[Line]>>],
        &known().map(|known| known.map(|one| one.total)).collect::<Vec<_>>() as &[Option<i64>],
        &known()
            .map(|known| known.map(|one| one.currency.clone()))
            .collect::<Vec<_>>() as &[Option<String>],
        &changed.iter().map(|(_, order)| order.version).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), changed.len())
}

async fn save_notifications(tx: &mut Tx, changed: &[(Uuid, &Notification)], journal: &Journal) -> sqlx::Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let of_each = changed.iter().map(|(order_id, one)| (*order_id, one.content.topic()));
    let text = |of: fn(Uuid, Topic) -> String| of_each.clone().map(|(id, one)| of(id, one)).collect::<Vec<_>>();
    let contents: Vec<Json<&Content>> = changed.iter().map(|(_, one)| Json(&one.content)).collect();
    let causes: Vec<Option<Asked>> = changed.iter().map(|(id, one)| cause(journal, *id, one)).collect();
    let asked = |of: fn(&TraceContext) -> Option<String>| {
        let traces = causes.iter().map(|cause| cause.as_ref().map(|asked| &asked.trace));
        traces.map(|trace| trace.and_then(of)).collect::<Vec<_>>()
    };
    let saved = sqlx::query!(
        r#"
        insert into notifications as known (order_id, template, notification_id, state, variables, due_at,
                                            give_up_at, sent_at, message_id, traceparent, tracestate, version,
                                            caused_by)
        select order_id, template, notification_id, state, variables, now() + delay_ms * interval '1 ms',
               case when state = 'PENDING' then now() + interval '24 hours' end,
               case when state = 'SENT' then now() end, message_id, traceparent, tracestate, version + 1, caused_by
        from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::jsonb[], $6::bigint[], $7::text[], $8::text[],
                    $9::text[], $10::bigint[], $11::uuid[])
            as t (order_id, template, notification_id, state, variables, delay_ms, message_id, traceparent,
                  tracestate, version, caused_by)
        on conflict (order_id, template) do update
        set state = excluded.state, due_at = excluded.due_at, sent_at = excluded.sent_at, version = excluded.version,
            give_up_at = coalesce(known.give_up_at, excluded.give_up_at)
        where known.version = excluded.version - 1
        "#,
        &changed.iter().map(|(order_id, _)| *order_id).collect::<Vec<_>>(),
        &text(|_, topic| topic.to_string()),
        &changed
            .iter()
            .map(|(order_id, one)| notification_id(*order_id, one.content.topic()))
            .collect::<Vec<_>>(),
        &changed
            .iter()
            .map(|(_, one)| one.state.as_str().to_owned())
            .collect::<Vec<_>>(),
        &contents as &[Json<&Content>],
        &changed
            .iter()
            .map(|(_, one)| one.delay.as_millis() as i64)
            .collect::<Vec<_>>(),
        &text(message_id),
        &asked(TraceContext::traceparent) as &[Option<String>],
        &asked(|trace| trace.tracestate().map(str::to_owned)) as &[Option<String>],
        &changed.iter().map(|(_, one)| one.version).collect::<Vec<_>>(),
        &causes
            .iter()
            .map(|cause| cause.as_ref().map(|asked| asked.event_id))
            .collect::<Vec<_>>() as &[Option<Uuid>],
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), changed.len())
}

/// The event that asked for the message; it is saved with it at first. Those about returns know it themselves.
fn cause(journal: &Journal, order_id: Uuid, one: &Notification) -> Option<Asked> {
    let event = match one.content.topic().template {
        Template::OrderConfirmed => OrderConfirmed::TYPE,
        Template::OrderShipped => OrderShipped::TYPE,
        Template::OrderCancelled => OrderCancelled::TYPE,
        Template::OrderReturnRequested | Template::OrderRefunded | Template::ReturnRejected => {
            return one.asked.clone();
        }
    };
    let mut heard = journal.heard.iter();
    let found = heard.find(|envelope| envelope.order_id() == Some(order_id) && envelope.name() == event.name)?;
    Some(Asked {
        event_id: found.event_id,
        trace: found.trace.clone(),
    })
}

/// A message to be sent now. Personal data, hence without `Debug`.
pub struct Due {
    /// The order it is about.
    pub order_id: Uuid,
    /// Whom it goes to.
    pub recipient: Recipient,
    /// What it says.
    pub content: Content,
    /// How often it was tried, this time included.
    pub attempts: u32,
    /// Whether trouble would now be final.
    pub time_is_over: bool,
    /// The event that asked for it.
    pub cause: Option<Uuid>,
    /// Its trace.
    pub trace: TraceContext,
}

/// Leases up to `limit` messages that are due, skipping what others take right now.
pub async fn take_due(session: &mut PgConnection, lease: Duration, limit: i64) -> sqlx::Result<Vec<Due>> {
    let rows = sqlx::query!(
        r#"
        with due as materialized (
            select order_id, template from notifications
            where state = 'PENDING' and due_at <= now()
            order by due_at for update skip locked limit $2
        )
        update notifications n set due_at = now() + $1 * interval '1 ms', attempts = n.attempts + 1
        from due join recipients r using (order_id)
        where (n.order_id, n.template) = (due.order_id, due.template)
        returning n.order_id, n.variables as "variables: Json<Content>", n.attempts, n.traceparent, n.tracestate, n.caused_by,
                  coalesce(n.give_up_at <= now(), false) as "time_is_over!", r.customer_id as "customer_id!",
                  r.email as "email!", r.lines as "lines!: Json<Vec<Line>>", r.total as "total!",
                  r.currency as "currency!"
        "#,
        lease.as_millis() as f64,
        limit,
    )
    .fetch_all(session)
    .await?;
    let due = rows.into_iter().map(|row| Due {
        order_id: row.order_id,
        recipient: Recipient {
            customer: Customer {
                id: row.customer_id,
                email: row.email,
            },
            lines: row.lines.0,
            total: row.total,
            currency: row.currency,
        },
        content: row.variables.0,
        attempts: row.attempts.unsigned_abs(),
        time_is_over: row.time_is_over,
        cause: row.caused_by,
        trace: TraceContext::restore(row.traceparent.as_deref(), row.tracestate.as_deref()),
    });
    Ok(due.collect())
}

/// How long until the next message is due.
pub async fn next_due(session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
    let seconds = sqlx::query_scalar!(
        "select extract(epoch from min(due_at) - now())::float8 from notifications where state = 'PENDING'"
    )
    .fetch_one(session)
    .await?;
    Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
}

/// A message as the API shows it.
pub struct MessageRow {
    /// The order it is about.
    pub order_id: Uuid,
    /// Which message: its template, and after a colon the return that it is about, if any.
    pub topic: String,
    /// Its recipient's address, once known.
    pub email: Option<String>,
    /// Its `Message-ID`.
    pub message_id: String,
    /// Where it stands.
    pub state: String,
    /// When the mail server took it.
    pub sent_at: Option<DateTime<Utc>>,
}

/// Messages of the newest orders first, after the cursor; of one order, if it is given.
pub async fn messages(
    pool: &PgPool,
    order_id: Option<Uuid>,
    after: Option<(Uuid, &str)>,
    limit: i64,
) -> sqlx::Result<Vec<MessageRow>> {
    let (from, to) = order_id.map_or((Uuid::nil(), Uuid::max()), |order_id| (order_id, order_id));
    // One tight bound: with two, PostgreSQL begins at the looser and walks. "~" comes after every template.
    let bound = (to, "~");
    let (to, template) = after.map_or(bound, |after| after.min(bound));
    sqlx::query_as!(
        MessageRow,
        r#"
        select n.order_id, n.template as topic, n.message_id, n.state, n.sent_at,
               (select r.email from recipients r where r.order_id = n.order_id)
        from notifications n
        where n.order_id >= $1 and (n.order_id, n.template) < ($2, $3)
        order by n.order_id desc, n.template desc limit $4
        "#,
        from,
        to,
        template,
        limit,
    )
    .fetch_all(pool)
    .await
}
