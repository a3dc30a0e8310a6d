//! Orders as outsiders see them.

use chrono::{DateTime, Utc};
use events::{CancelReason, Customer, Line};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{Order, State, StepState, StockCheck};
use crate::store::TimelineEntry;

/// Every state that a list can be asked for.
pub(crate) const STATES: [&str; 9] = [
    "PENDING",
    "RESERVED",
    "CONFIRMED",
    "SHIPPED",
    "COMPLETED",
    "CANCELLING",
    "CANCELLED",
    "RETURNING",
    "REFUNDED",
];

/// An order as outsiders see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderView {
    pub(super) id: Uuid,
    state: State,
    /// Why it is cancelled, or being cancelled.
    reason: Option<CancelReason>,
    customer: Customer,
    lines: Vec<Line>,
    /// Sum of the lines in minor units of the currency.
    total: i64,
    currency: String,
    stock_check: StockCheck,
    /// Counts the changes; the entity tag.
    version: i64,
    trace_id: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl OrderView {
    pub(super) fn of(order: &Order) -> Self {
        Self {
            id: order.id,
            state: order.state(),
            reason: order.reason(),
            customer: order.customer.clone(),
            lines: order.lines.clone(),
            total: order.total,
            currency: order.currency.clone(),
            stock_check: order.stock_check,
            version: order.version,
            trace_id: order.trace.trace_id(),
            created_at: order.created_at,
            updated_at: order.updated_at,
        }
    }
}

/// How far an order has come, step by step.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SagaView {
    order_id: Uuid,
    state: State,
    /// When the order is given up unless it is paid; none once it cannot be overdue any more.
    deadline: Option<DateTime<Utc>>,
    /// It has stood still for longer than it may: somebody has to look at it.
    needs_attention: bool,
    steps: Vec<StepView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct StepView {
    name: &'static str,
    state: StepState,
    /// When it was last reported on; none before the first report.
    since: Option<DateTime<Utc>>,
    /// How many events have reported on this step.
    attempts: usize,
    /// What undoes it.
    compensation: &'static str,
}

impl SagaView {
    pub(super) fn of(order: &Order, timeline: &[TimelineEntry], needs_attention: bool) -> Self {
        let state = order.state();
        let steps = order.steps().map(|step| {
            let reports = timeline
                .iter()
                .filter(|entry| step.told_by.contains(&entry.r#type.as_str()));
            StepView {
                name: step.name,
                state: step.state,
                since: reports.clone().map(|entry| entry.occurred_at).max(),
                attempts: reports.count(),
                compensation: step.compensation,
            }
        });
        Self {
            order_id: order.id,
            state,
            deadline: state.awaits_payment().then_some(order.pay_by),
            needs_attention,
            steps: steps.into(),
        }
    }
}

/// Everything that an order heard and told.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimelineView {
    pub(super) items: Vec<TimelineEntry>,
}
