//! The only SQL of the warehouse: a batch's working set, the errands' work, and the queries of the API.

mod returns;

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{Address, Line};
use messaging::{Envelope, Journal, Touched, Tx, WorkingSet, all_saved};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use telemetry::TraceContext;
use uuid::Uuid;

pub use returns::{DueReturn, next_due_return, one_return, take_due_returns};

use crate::domain::{Parcel, Shipment, State, Warehouse};

/// How long an errand may hold a shipment; longer than any call to the carrier takes. It doubles with
/// every attempt, sixty-four-fold at most.
const LEASE: Duration = Duration::from_secs(10);

impl WorkingSet for Warehouse {
    /// Locks the shipments in order of their orders' ids, then the returns in order of their own.
    async fn load(tx: &mut Tx, touched: &Touched) -> sqlx::Result<Self> {
        let rows = sqlx::query_as!(
            ShipmentRow,
            r#"
            select order_id, shipment_id, state, carrier, tracking, lines as "lines: Json<Vec<Line>>",
                   ship_to as "ship_to: Json<Address>", cancel_answered, state_since, version
            from shipments where order_id = any($1) order by order_id for update
            "#,
            &touched.order_ids(),
        )
        .fetch_all(&mut **tx)
        .await?;
        let shipments = rows.into_iter().map(|row| (row.order_id, row.into_shipment()));
        Ok(Self {
            shipments: shipments.collect(),
            returns: returns::load(tx, touched).await?,
        })
    }

    async fn save(self, tx: &mut Tx, journal: &Journal) -> sqlx::Result<()> {
        let changed = self.shipments.iter().filter(|(_, shipment)| shipment.changed);
        save_shipments(tx, &changed.collect::<Vec<_>>(), journal).await?;
        returns::save(tx, &self.returns).await
    }
}

impl State {
    /// The column is checked, so every word is one of ours.
    fn from_sql(word: &str) -> Self {
        match word {
            "SCHEDULED" => Self::Scheduled,
            "DISPATCHED" => Self::Dispatched,
            "DELIVERED" => Self::Delivered,
            "FAILED" => Self::Failed,
            _ => Self::Cancelled,
        }
    }
}

/// A shipment keeps the trace of the event that created it, and a new state is due at once.
async fn save_shipments(tx: &mut Tx, changed: &[(&Uuid, &Shipment)], journal: &Journal) -> sqlx::Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let Columns {
        order_ids,
        shipment_ids,
        states,
        carriers,
        trackings,
        lines,
        addresses,
        answered,
        versions,
        traceparents,
        tracestates,
        causes,
    } = Columns::of(changed, journal);
    let saved = sqlx::query!(
        r#"
        insert into shipments as known (order_id, shipment_id, state, carrier, tracking, lines, ship_to,
                                        cancel_answered, version, traceparent, tracestate, caused_by, due_at)
        select order_id, shipment_id, state, carrier, tracking, lines, ship_to, cancel_answered, version + 1,
               traceparent, tracestate, caused_by, case when state in ('SCHEDULED', 'DISPATCHED') then now() end
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[],
                    $8::boolean[], $9::bigint[], $10::text[], $11::text[], $12::uuid[])
            as t (order_id, shipment_id, state, carrier, tracking, lines, ship_to, cancel_answered, version,
                  traceparent, tracestate, caused_by)
        on conflict (order_id) do update
        set state = excluded.state, tracking = excluded.tracking, ship_to = excluded.ship_to,
            cancel_answered = excluded.cancel_answered, version = excluded.version,
            caused_by = coalesce(excluded.caused_by, known.caused_by),
            state_since = case when known.state = excluded.state then known.state_since else now() end,
            due_at = case when known.state = excluded.state then known.due_at else excluded.due_at end,
            attempts = case when known.state = excluded.state then known.attempts else 0 end
        where known.version = excluded.version - 1
        "#,
        &order_ids,
        &shipment_ids as &[Option<Uuid>],
        &states,
        &carriers as &[Option<String>],
        &trackings as &[Option<String>],
        &lines as &[Json<&[Line]>],
        &addresses as &[Option<Json<&Address>>],
        &answered,
        &versions,
        &traceparents as &[Option<String>],
        &tracestates as &[Option<String>],
        &causes as &[Option<Uuid>],
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), changed.len())
}

/// The shipments turned on their side, as `unnest` wants them.
#[derive(Default)]
struct Columns<'a> {
    order_ids: Vec<Uuid>,
    shipment_ids: Vec<Option<Uuid>>,
    states: Vec<String>,
    carriers: Vec<Option<String>>,
    trackings: Vec<Option<String>>,
    lines: Vec<Json<&'a [Line]>>,
    addresses: Vec<Option<Json<&'a Address>>>,
    answered: Vec<bool>,
    versions: Vec<i64>,
    traceparents: Vec<Option<String>>,
    tracestates: Vec<Option<String>>,
    causes: Vec<Option<Uuid>>,
}

impl<'a> Columns<'a> {
    fn of(changed: &[(&'a Uuid, &'a Shipment)], journal: &Journal) -> Self {
        let mut columns = Self::default();
        for (order_id, shipment) in changed {
            let parcel = shipment.parcel.as_ref();
            let about_it = |event: &&Envelope| event.order_id() == Some(**order_id);
            let trace = journal.heard.iter().find(about_it).map(|heard| &heard.trace);
            // The next step follows from what was told of this one.
            let cause = journal.told.iter().rfind(about_it).map(|told| told.event_id);
            columns.order_ids.push(**order_id);
            columns.causes.push(cause);
            columns.shipment_ids.push(parcel.map(|parcel| parcel.shipment_id));
            columns.states.push(shipment.state.as_str().to_owned());
            columns.carriers.push(parcel.map(|parcel| parcel.carrier.clone()));
            columns
                .trackings
                .push(parcel.and_then(|parcel| parcel.tracking.clone()));
            columns.lines.push(Json(parcel.map_or(&[], |parcel| &parcel.lines)));
            columns
                .addresses
                .push(parcel.and_then(|parcel| parcel.ship_to.as_ref()).map(Json));
            columns.answered.push(shipment.cancel_answered);
            columns.versions.push(shipment.version);
            columns.traceparents.push(trace.and_then(TraceContext::traceparent));
            columns
                .tracestates
                .push(trace.and_then(TraceContext::tracestate).map(str::to_owned));
        }
        columns
    }
}

struct ShipmentRow {
    order_id: Uuid,
    shipment_id: Option<Uuid>,
    state: String,
    carrier: Option<String>,
    tracking: Option<String>,
    lines: Json<Vec<Line>>,
    ship_to: Option<Json<Address>>,
    cancel_answered: bool,
    state_since: DateTime<Utc>,
    version: i64,
}

impl ShipmentRow {
    fn into_shipment(self) -> Shipment {
        let (tracking, lines, ship_to) = (self.tracking, self.lines.0, self.ship_to.map(|Json(address)| address));
        let parcel = self.shipment_id.zip(self.carrier).map(|(shipment_id, carrier)| Parcel {
            shipment_id,
            carrier,
            tracking,
            lines,
            ship_to,
        });
        Shipment {
            state: State::from_sql(&self.state),
            parcel,
            cancel_answered: self.cancel_answered,
            version: self.version,
            changed: false,
        }
    }
}

/// A shipment that an errand took.
#[derive(Debug)]
pub struct Due {
    /// The order.
    pub order_id: Uuid,
    /// The shipment.
    pub shipment_id: Uuid,
    /// Where it goes; none once it left the house.
    pub ship_to: Option<Address>,
    /// When it was taken, by the database clock.
    pub taken_at: DateTime<Utc>,
    /// The event that this step follows from.
    pub cause: Option<Uuid>,
    /// The span of the event that created the shipment.
    pub trace: TraceContext,
}

/// Leases shipments that have been in this state for the delay, the longest waiting first.
pub async fn take_due(session: &mut PgConnection, state: State, delay: Duration, limit: i64) -> sqlx::Result<Vec<Due>> {
    let rows = sqlx::query!(
        r#"
        update shipments
        set attempts = attempts + 1, due_at = now() + make_interval(secs => $3 * 2 ^ least(attempts, 6) - $2)
        where order_id = any (array(
            select order_id from shipments
            where state = $1 and due_at <= now() - make_interval(secs => $2)
            order by due_at for update skip locked limit $4
        ))
        returning order_id, shipment_id as "shipment_id!", ship_to as "ship_to: Json<Address>",
                  now() as "taken_at!", traceparent, tracestate, caused_by
        "#,
        state.as_str(),
        delay.as_secs_f64(),
        LEASE.as_secs_f64(),
        limit,
    )
    .fetch_all(session)
    .await?;
    let taken = rows.into_iter().map(|row| Due {
        order_id: row.order_id,
        shipment_id: row.shipment_id,
        ship_to: row.ship_to.map(|Json(address)| address),
        taken_at: row.taken_at,
        cause: row.caused_by,
        trace: TraceContext::restore(row.traceparent.as_deref(), row.tracestate.as_deref()),
    });
    Ok(taken.collect())
}

/// How long until the next shipment will have been in this state for the delay, or its lease ends.
pub async fn next_due(session: &mut PgConnection, state: State, delay: Duration) -> sqlx::Result<Option<Duration>> {
    let left = sqlx::query_scalar!(
        r#"
        select extract(epoch from min(due_at) + make_interval(secs => $2) - now())::float8
        from shipments where state = $1 and due_at is not null
        "#,
        state.as_str(),
        delay.as_secs_f64(),
    )
    .fetch_one(session)
    .await?;
    Ok(left.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// What is known of an order's shipment, and since when it has been in its state.
pub async fn shipment(pool: &PgPool, order_id: Uuid) -> sqlx::Result<Option<(Shipment, DateTime<Utc>)>> {
    let row = sqlx::query_as!(
        ShipmentRow,
        r#"
        select order_id, shipment_id, state, carrier, tracking, lines as "lines: Json<Vec<Line>>",
               ship_to as "ship_to: Json<Address>", cancel_answered, state_since, version
        from shipments where order_id = $1
        "#,
        order_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        let since = row.state_since;
        (row.into_shipment(), since)
    }))
}

/// The time by the database clock.
pub async fn clock(pool: &PgPool) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(pool).await
}
